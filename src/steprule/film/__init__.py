"""Films for slides: paths of rules over surfaces, as a GIF, an MP4 and a PNG.

Nothing here knows of rules: what is filmed comes as points by step. It needs matplotlib.
"""

from steprule.film.encoding import KINDS, NO_FFMPEG, Encoded, encode, pictures_of
from steprule.film.ground import Ground
from steprule.film.scene import Scene, compose
from steprule.film.shots import Shot, Track

__all__ = ["KINDS", "NO_FFMPEG", "Encoded", "Ground", "Scene", "Shot", "Track", "compose", "encode", "pictures_of"]
