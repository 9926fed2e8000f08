"""An optimizer of torch.optim and ours of the same name through one history, compared after every operation."""

from tests.doors.torch.histories import options, states, steps, surgery
from tests.doors.torch.histories.play import play
from tests.doors.torch.histories.side import WEIGHTS

__all__ = ["WEIGHTS", "options", "play", "states", "steps", "surgery"]
