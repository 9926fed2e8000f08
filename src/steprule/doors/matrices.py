"""Which parameters a rule that needs matrices is given."""

from __future__ import annotations

from collections.abc import Sequence

from steprule.errors import StructureError
from steprule.rules import Rule

__all__ = ["check_matrix"]


def check_matrix(rule: Rule, shape: Sequence[int], place: str) -> None:
    """Refuse a vector, or a number, for a rule that takes the polar factor of matrices.

    Args:
        rule: what is to step the parameter.
        shape: its shape.
        place: what it is called.

    Raises:
        StructureError: naming the parameter, the rule, and what to do.
    """
    if rule.needs_matrices and len(shape) < 2:
        what = f"a vector of {shape[0]}" if shape else "one number"
        routes = f'routes=[("matrices", {rule.name!r}, {{...}})] beside rule="adamw"'
        raise StructureError(
            f"{place} is {what}, and rule {rule.name!r} steps matrices. Give it to another rule in the same optimizer, "
            f"by {routes} (docs/matrices.md), or to an optimizer of its own"
        )
