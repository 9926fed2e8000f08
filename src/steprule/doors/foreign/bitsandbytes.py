"""bitsandbytes' state dicts: 8-bit states decoded, and states of 32 bits made.

With 8 bits a state is a code for each element, ``qmap`` what each code stands for, and ``absmax`` the largest magnitude
of each block of neighbours in the flattened tensor: the number is ``qmap[code] * absmax[block]``.
Source: Dettmers et al. 2022, arXiv:2110.02861, Section 2; blocks have 256 elements, in releases before 0.45 2,048.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from steprule.doors.checkpoint.door import door_of
from steprule.doors.foreign.names import names_for
from steprule.doors.foreign.optim import entries_of, with_entries
from steprule.doors.foreign.states import array_of, stepped, taken
from steprule.doors.layout import Array
from steprule.doors.state import ParameterState, steps_of
from steprule.errors import StateError
from steprule.rules import Rule

__all__ = ["from_bitsandbytes", "to_bitsandbytes"]

_BLOCKS = (256, 2048)
_WRAPPED = "__bnb_optimizer_quant_state__"
"""Where newer releases put what is quantised, so that sharding leaves it alone."""


def from_bitsandbytes(state: Mapping[str, Any], optimizer: Any) -> dict[str, Any]:
    """Return a state dict for an optimizer from one of bitsandbytes, of 8 or 32 bits.

    The states become float32; an optimizer with other formats loads them with ``convert=True``, which rounds.
    Parameters are matched by place. The hyperparameters stay those of the optimizer.

    Args:
        state: what ``state_dict()`` of the bitsandbytes optimizer returned.
        optimizer: of either door; ``load_state_dict`` of it takes the result.

    Raises:
        StateError: when it is of another rule or of other parameters, or not quantised by blocks.
    """
    door = door_of(optimizer)
    here, rules = door.state_of(optimizer), door.rules_of(optimizer)
    entries = entries_of(state, len(here.parameters))
    parameters = []
    for place, (entry, label, own) in enumerate(zip(entries, here.labels, here.parameters, strict=True)):
        whole = {**entry, **entry.get(_WRAPPED, {})}
        names = names_for(rules[own.group], here.groups[own.group].hyperparameters, "bitsandbytes")
        slots = _slots(whole, names, own.shape, f"the state of parameter {place}") if entry else {}
        t = steps_of(whole.get("step"), f"the step of parameter {place}") if entry else 0
        parameters.append(stepped(own, label, t, slots))
    return taken(here, parameters, optimizer)


def _slots(entry: Mapping[str, Any], names: Mapping[str, str], shape: tuple[int, ...], what: str) -> dict[str, Array]:
    stacks: dict[str, list[str]] = {}
    for slot, name in names.items():
        stacks.setdefault(name, []).append(slot)
    found: dict[str, Array] = {}
    for name, slots in stacks.items():
        if name not in entry:
            raise StateError(f"{what} has {sorted(map(str, entry))}, and no {name}: is it from another optimizer?")
        number = name.removeprefix("state")
        codes, absmax = array_of(entry[name]), entry.get(f"absmax{number}")
        if codes.dtype == np.uint8 and absmax is None:
            raise StateError(f"{what} is not quantised by blocks, as bitsandbytes does with block_wise=True")
        parts = list(codes) if len(slots) > 1 else [codes]
        scales = [None] * len(parts) if absmax is None else list(array_of(absmax).reshape(len(parts), -1))
        for slot, part, scale in zip(slots, parts, scales, strict=True):
            numbers = part if scale is None else _decoded(part, array_of(entry[f"qmap{number}"]), scale, what)
            found[slot] = np.asarray(numbers, np.float32).reshape(shape if part.size == np.prod(shape) else part.shape)
    return found


def _decoded(codes: Array, qmap: Array, absmax: Array, what: str) -> Array:
    """Return ``qmap[code] * absmax[block]``; how long a block is, their number tells."""
    sizes = [size for size in _BLOCKS if -(-codes.size // size) == absmax.size]
    if not sizes or qmap.shape != (256,):
        raise StateError(
            f"{what} has {absmax.size} blocks and {qmap.size} codes for {codes.size} elements, expected blocks of "
            f"{' or '.join(map(str, _BLOCKS))} and 256 codes"
        )
    scales = np.repeat(absmax, sizes[0])[: codes.size]
    numbers: Array = (qmap[codes.reshape(-1)] * scales).astype(np.float32).reshape(codes.shape)
    return numbers


def to_bitsandbytes(optimizer: Any, like: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict that an optimizer of bitsandbytes with 32-bit states can load (``optim_bits=32``).

    Args:
        optimizer: of either door.
        like: the ``state_dict()`` of the bitsandbytes optimizer, whose groups and hyperparameters it keeps.

    Raises:
        StateError: when bitsandbytes has no such rule.
    """
    torch = importlib.import_module("torch")

    def entry(state: ParameterState, names: Mapping[str, str], rule: Rule) -> dict[str, Any]:
        stacks: dict[str, list[Array]] = {}
        for slot, name in names.items():
            stacks.setdefault(name, []).append(state.planes[slot].astype(np.float32))
        arrays = {name: parts[0] if len(parts) == 1 else np.stack(parts) for name, parts in stacks.items()}
        return {"step": state.t or 0, **{name: torch.from_numpy(array) for name, array in arrays.items()}}

    return with_entries(optimizer, like, "bitsandbytes", entry)
