"""What several files of tests of the PyTorch door are given."""

from __future__ import annotations

from typing import Any

import pytest

from steprule.doors.torch.base import Base


@pytest.fixture
def layouts(monkeypatch: pytest.MonkeyPatch) -> list[Base]:
    """Collect the optimizers that lay out a step."""
    seen: list[Base] = []
    lay_out = Base._step_anew

    def watched(self: Base, *given: Any) -> Any:
        seen.append(self)
        return lay_out(self, *given)

    monkeypatch.setattr(Base, "_step_anew", watched)
    return seen
