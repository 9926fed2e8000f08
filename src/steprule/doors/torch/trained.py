"""The parameter that training goes on from, as states keep it while the parameter itself is the evaluated point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steprule.coding import decode, encode
from steprule.doors.torch.checkpoint_tensors import stored_array, tensor_of
from steprule.doors.torch.entry import Entry
from steprule.errors import StateError
from steprule.formats import Codec
from steprule.formats.weights import WEIGHTS

__all__ = ["TRAINED_KEYS", "decoded", "encoded", "planes_like", "shown"]

TRAINED_KEYS = ("trained", "trained_low")
"""What states call it, and what is kept beside it."""


def decoded(codec: Codec, planes: list[Tensor]) -> Tensor:
    """Return the numbers that planes of a parameter hold, which are float32 where there is more than one."""
    if len(planes) == 1:
        return planes[0].detach()
    arrays = [stored_array(plane, "a parameter").array() for plane in planes]
    return tensor_of(
        decode(codec, {spec.suffix: a for spec, a in zip(codec.planes, arrays, strict=True)}, planes[0].shape)
    )


def encoded(codec: Codec, numbers: Tensor, like: list[Tensor]) -> list[Tensor]:
    """Return the planes of a parameter that hold these numbers, rounded to nearest, of the types of others."""
    if len(like) == 1:
        return [numbers.to(like[0].device, like[0].dtype)]
    planes = encode(codec, stored_array(numbers.to(torch.float32), "a parameter").array()).values()
    return [tensor_of(plane).to(own.device) for plane, own in zip(planes, like, strict=True)]


def planes_like(given: Mapping[str, Any], form: Entry, here: list[Tensor], *, convert: bool) -> list[Tensor]:
    """Return copies of the planes in an entry of a state dict, as those of the parameter here are.

    Args:
        given: the entry.
        form: how the parameter's state is laid out.
        here: its planes.
        convert: whether they may be rounded.

    Raises:
        StateError: when they do not fit.
    """
    planes = [given[key] for key in TRAINED_KEYS if key in given]
    if all(isinstance(plane, Tensor) and plane.shape == here[0].shape for plane in planes):
        first, own = planes[0].dtype, here[0].dtype
        if [plane.dtype for plane in planes] == [plane.dtype for plane in here]:
            return [
                torch.empty_like(own, requires_grad=False).copy_(plane.detach())
                for plane, own in zip(planes, here, strict=True)
            ]
        widens = len(planes) == len(here) == 1 and torch.promote_types(first, own) == own
        codec = _codec_of(planes)
        if codec is not None and (convert or widens):
            return encoded(form.codecs[form.parameter], decoded(codec, planes), here)
    raise StateError(
        f"{form.what}: {TRAINED_KEYS[0]}, the parameter that training goes on from, is {shown(planes)}, and the "
        f"parameter is {shown(here)}. {form.remedy}"
    )


def _codec_of(planes: list[Tensor]) -> Codec | None:
    """Return how planes keep a parameter of their type; None where no format has such planes."""
    kind, *low = (str(plane.dtype).removeprefix("torch.") for plane in planes)
    known = WEIGHTS.get(kind, {"nearest": WEIGHTS["float16"]["nearest"]}).values()
    return next((codec for codec in known if [spec.dtype for spec in codec.planes[1:]] == low), None)


def shown(planes: list[Any]) -> str:
    """Return how messages tell the planes of a parameter."""
    return " and ".join(
        f"{plane.dtype} of shape {tuple(plane.shape)}" if isinstance(plane, Tensor) else repr(plane) for plane in planes
    )
