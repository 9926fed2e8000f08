"""One change of an optimizer at a time."""

from __future__ import annotations

from collections.abc import Sequence

from steprule.errors import StateError

__all__ = ["NotReentrant"]


class NotReentrant:
    """What optimizers of all doors have so that nothing changes them in the middle of a step.

    Signal handlers may run while a step is made ready. What they find is whole, since none of the step has happened
    yet: they may save it. But of what they would change the step would not know.
    """

    __slots__ = ()
    _is_stepping: bool
    _stepping_alone: Sequence[object] = ()
    """Parameters that are being stepped in a backward pass: several, where threads of several devices do it."""

    def _refuse_reentry(self, what: str) -> None:
        """Refuse what changes the optimizer while a step is under way.

        Raises:
            StateError: then.
        """
        if self._is_stepping or self._stepping_alone:
            raise StateError(
                f"{what} was called while a step of this optimizer is under way (by a signal handler, a schedule, or "
                "another thread); nothing was changed. Let the handler set a flag, and do it after the step"
            )
