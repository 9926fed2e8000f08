"""What tracing a rule gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from steprule.language.node import Node
from steprule.language.walk import postorder, symbols_in
from steprule.rules.hyperparameters import Value

__all__ = ["Trace", "Variant"]

Variant = tuple[tuple[str, Value], ...]
"""The choices that are fixed when a rule is traced: booleans, choices, and which optionals are None."""


@dataclass(frozen=True)
class Trace:
    """What a rule computes in one variant, as expressions."""

    parameter: Node
    slots: Mapping[str, Node]
    """The new value of each element slot that this variant keeps."""
    scalars: Mapping[str, Node]
    """The new value of each scalar slot."""
    per_tensor: Mapping[str, Node]
    """The new value of each slot that is a number of the tensor."""
    vectors: Mapping[str, Node]
    """The new value of each slot that is a number of each row, or of each column."""
    used: frozenset[str]
    """The symbols that the results depend on."""
    evaluated: Node | None = None
    """The point that the model is evaluated at; None: the parameter itself."""

    @property
    def named(self) -> frozenset[str]:
        """The symbols that the results or the evaluated point depend on."""
        return self.used if self.evaluated is None else self.used | symbols_in([self.evaluated])

    @property
    def numbers(self) -> dict[str, Node]:
        """The new value of each slot that is one number."""
        return {**self.scalars, **self.per_tensor}

    @property
    def kept(self) -> dict[str, Node]:
        """The new value of each slot of any kind."""
        return {**self.slots, **self.vectors, **self.numbers}

    @property
    def sees(self) -> str:
        """Of what a step of one element depends.

        ``"element"`` (on this alone), ``"all"`` (tensors), or which of its ``"row"``, ``"column"`` and ``"tensor"``,
        with commas: ``"row, column, tensor"``. A rule that takes polar factors sees the ``"matrix"``, before these.
        """
        nodes = postorder([self.parameter, *self.kept.values()])
        stages = {str(node.stage) for node in nodes} - {"matrix"}
        if "all" in stages:
            return "all"
        stages |= {"matrix" for node in nodes if node.op == "polar"}
        return ", ".join(own for own in ("matrix", "row", "column", "tensor") if own in stages) or "element"
