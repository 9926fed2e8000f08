"""Draw docs/film.gif, the film in the README: four rules in a long valley, and leaving a saddle.

python docs/film.py
"""

from __future__ import annotations

from pathlib import Path

from steprule import lab
from steprule.files import write_whole

TARGET = Path(__file__).parent / "film.gif"
LINKS = (
    "#surface=long-valley&rules=sgd,momentum,rmsprop,adam&look=sgd"
    "&sgd.lr=0.07&momentum.lr=0.02&rmsprop.lr=0.05&adam.lr=0.2",
    "#surface=saddle&start=-1.2,0.000001&steps=50&rules=sgd,momentum,rmsprop,adam&look=sgd"
    "&sgd.lr=0.3&momentum.lr=0.2&rmsprop.lr=0.03&adam.lr=0.1",
)


def main() -> None:
    """Write the film."""
    write_whole(TARGET, lab.film([lab.situation(link) for link in LINKS], ("gif",)).files["gif"])
    print(f"wrote {TARGET} ({TARGET.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    main()
