"""What a format of slots is: all that others ask of it."""

from __future__ import annotations

from dataclasses import dataclass

from steprule.formats.codec import Codec

__all__ = ["SlotFormat"]


@dataclass(frozen=True)
class SlotFormat:
    """A format of slots, for arithmetic in float32.

    Attributes:
        name: what ``states=`` calls it.
        title: what sentences call it: slots "in 8 bits".
        signed: the codec of a slot whose numbers may have either sign.
        non_negative: the codec of one whose numbers are never negative; the same where no sign is saved by that.
        error: the relative error, of all numbers of a slot together, from which on they do not fit the format.
            8 bits make 0.02 to 0.04, but for numbers below a 2^102th.
    """

    name: str
    title: str
    signed: Codec
    non_negative: Codec
    error: float = 0.2

    @property
    def codecs(self) -> tuple[Codec, Codec]:
        """Both."""
        return self.signed, self.non_negative

    def codec(self, *, non_negative: bool) -> Codec:
        """Return the codec of a slot."""
        return self.non_negative if non_negative else self.signed
