"""Keys of groups that are refused: misspelt options, told from the notes that callers keep there, and guards."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

from torch import Tensor

from steprule.errors import HyperparameterError, is_slip
from steprule.formats import STATES, WEIGHT_FORMATS
from steprule.launch.guards import GUARDS, NONFINITE, Guards

__all__ = ["OF_GUARDS", "PROCESS_GROUP", "check_group", "check_keys"]

PROCESS_GROUP = "process_group"
OF_GUARDS = (*GUARDS, PROCESS_GROUP)
"""The names of the options of guards."""

_OTHER_NAMES = {"learningrate": "lr", "wd": "weightdecay", "epsilon": "eps", "beta1": "betas", "beta2": "betas"}
"""What other libraries and the papers call options, and what torch does, in one case and without marks between the
words."""


def check_group(group: Mapping[str, Any], guards: Guards, where: str) -> None:
    """Refuse options of guards in a group, which are of the whole optimizer. What the optimizer has passes: wrappers
    put the defaults of an optimizer into its groups.

    Raises:
        HyperparameterError: naming the option.
    """
    other = [name for name in GUARDS if name in group and not guards.has(name, group[name])]
    if group.get(PROCESS_GROUP) is not None and group[PROCESS_GROUP] is not getattr(guards.share, "over", None):
        other.append(PROCESS_GROUP)
    if other:
        name = other[0]
        own = "another" if name == PROCESS_GROUP else f"{getattr(guards, name)!r}"
        raise HyperparameterError(
            f"{name} is for all groups together, and the optimizer has {own}, not {group[name]!r}{where}; give it to "
            "the optimizer itself"
        )


def check_keys(given: Mapping[str, Any], options: Mapping[str, Any], where: str) -> None:
    """Refuse a key of a group that is a misspelt option. Other foreign keys are the caller's notes, as in torch.

    Misspelt is what is one slip away from an option, or from one of guards, what differs from it by case or marks
    alone, and another library's name for it, where the value is one that the option could have: ``weigth_decay=0.1``,
    ``LR=0.1``, ``lrr=0.1``, ``learning_rate=0.1``, ``beta1=0.5``, ``state="bfloat16"``, ``clip_nrom=1.0``. With another
    value ``state`` is a note.

    Args:
        given: the group.
        options: those that there are, with their defaults.
        where: how messages name the group.

    Raises:
        HyperparameterError: naming the option that was meant.
    """
    known = {**GUARDS, **options}
    for key, value in given.items():
        if isinstance(key, str) and key not in (*known, "params", "param_names"):
            meant = [name for name in known if _means(key, name) and _could_be(value, name, known[name])]
            if meant:
                name = meant[0]
                about = ", a tuple" if isinstance(known[name], tuple) else ""
                of_all = f" {name} is for all groups: give it to the optimizer itself." if name in GUARDS else ""
                raise HyperparameterError(
                    f"the parameter group has no option {key!r}. Did you mean {name!r}{about}?{of_all} A note of your "
                    f"own needs a name less like it{where}"
                )


def _means(key: str, option: str) -> bool:
    """Whether a key is likely to have been meant as an option."""
    bare, own = _bare(key), _bare(option)
    return bare == own or _OTHER_NAMES.get(bare) == own or is_slip(key, option)


def _bare(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _could_be(value: Any, option: str, default: Any) -> bool:
    """Whether an option with that default could have the value."""
    if value is None and default is not None:
        return False
    if isinstance(value, bool) and isinstance(default, float | tuple):
        return False
    if not isinstance(default, str):
        return isinstance(value, Real | Tensor) if option in GUARDS else not isinstance(value, str | Mapping)
    words = list(value.values()) if isinstance(value, Mapping) and option == "states" else [value]
    known = {"states": STATES, "weights": WEIGHT_FORMATS, "nonfinite": NONFINITE}.get(option)
    return bool(words) and all(isinstance(word, str) and (known is None or word in known) for word in words)
