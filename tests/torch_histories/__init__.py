"""An optimizer of torch.optim and ours of the same name through one history, compared after every operation."""

from tests.torch_histories import options, states, steps, surgery
from tests.torch_histories.play import play
from tests.torch_histories.side import WEIGHTS as _ALL

__all__ = ["NOT_YET", "WEIGHTS", "options", "play", "states", "steps", "surgery"]

NOT_YET = (
    "notes_in_a_state",  # a load refuses keys that are no slots
    "notes_that_look_like_options",  # they are refused as misspellings
    "note_in_the_defaults",  # the next step misses it in the groups
    "momentum_set_back",  # a load refuses the buffer that is no longer used
    "gradients_of_another_type",  # they are refused
)
"""Operations that ours does not do as torch.optim does; each is to go from here."""
WEIGHTS = {name: weight for name, weight in _ALL.items() if name not in NOT_YET}
