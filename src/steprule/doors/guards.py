"""What optimizers of all doors have of their guards: how often steps were skipped, and what checkpoints keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steprule.errors import StateError
from steprule.launch.guards import Guards

__all__ = ["HasGuards"]


class HasGuards:
    """What optimizers of all doors have of their guards."""

    __slots__ = ()
    guards: Guards

    @property
    def skipped(self) -> int:
        """The steps that were skipped since their gradients were not finite."""
        return self.guards.skipped

    def _checkpoint_extra(self) -> dict[str, Any]:
        """Return what a checkpoint keeps beside states and hyperparameters."""
        guards = self.guards
        return {"guard": {**guards.told, "skipped": guards.skipped, "in_a_row": guards.in_a_row}}

    def _check_checkpoint_extra(self, extra: Mapping[str, Any], hyperparameters: bool = True) -> list[int]:
        """Return the counts of what a checkpoint kept, 0 where it kept none. Changes nothing.

        Args:
            extra: what ``_checkpoint_extra`` returned.
            hyperparameters: whether the options must be those of the checkpoint.

        Raises:
            StateError: for other guards, and for what is not a count.
        """
        earlier = extra.get("guard", {})
        counts = [earlier.get(name, 0) for name in ("skipped", "in_a_row")] if isinstance(earlier, Mapping) else [-1]
        if any(type(count) is not int or count < 0 for count in counts):
            raise StateError(f"the checkpoint has {earlier!r} for the counts of skipped steps, expected integers")
        options = self.guards.told
        other = [name for name, value in options.items() if name in earlier and earlier[name] != value]
        if other and hyperparameters:
            saved, own = (", ".join(f"{name}={of[name]!r}" for name in other) for of in (earlier, options))
            raise StateError(
                f"the run was saved with {saved}, and this optimizer has {own}. Make it with the same options, or load "
                "with hyperparameters=False, which keeps its own"
            )
        return counts

    def _take_checkpoint_extra(self, extra: Mapping[str, Any], hyperparameters: bool = True) -> None:
        """Go on from what a checkpoint kept; see ``_check_checkpoint_extra``."""
        self.guards.skipped, self.guards.in_a_row = self._check_checkpoint_extra(extra, hyperparameters)
