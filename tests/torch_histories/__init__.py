"""An optimizer of torch.optim and ours of the same name through one history, compared after every operation."""

from tests.torch_histories import options, states, steps, surgery
from tests.torch_histories.play import play
from tests.torch_histories.side import WEIGHTS

__all__ = ["WEIGHTS", "options", "play", "states", "steps", "surgery"]
