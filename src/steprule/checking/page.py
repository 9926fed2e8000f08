"""``index.html``: what a check has found, on one page that can be sent to whom it may concern."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from steprule.checking.answer import Answer, within
from steprule.checking.mistakes import Mistake
from steprule.errors import CheckError
from steprule.install import how_to_install
from steprule.report.about import versions
from steprule.report.folder import check_own, to_json, write_files
from steprule.report.page import facts, page, picture, prose
from steprule.report.theme import to_pngs

__all__ = ["as_json", "check_folder", "write"]

_ANSWER, _KIND = "answer.json", "steprule check"
_PACKAGES = ("numpy", "scipy")
_FRAMEWORKS = ("torch", "jax", "optax")
_CAPTION = (
    "How far each step is from the one that the rule takes from the same point, relative to its size (root mean "
    "square over the elements of all tensors). A distance of zero is drawn at the lower end."
)


def as_json(answer: Answer) -> dict[str, Any]:
    """Return an answer as what JSON holds."""
    return {"kind": _KIND, "headline": answer.headline, "is_right": answer.is_right, **asdict(answer)}


def check_folder(folder: Path) -> None:
    """Check that a report can be written, before anything is run.

    Raises:
        CheckError: without matplotlib, which draws.
        StepruleError: when other files lie in the folder.
    """
    if find_spec("matplotlib") is None:
        raise CheckError(f"the page of --output has a picture, which needs matplotlib. {how_to_install('matplotlib')}")
    check_own(folder, _ANSWER, _KIND)


def write(answer: Answer, folder: str | Path, command: str = "") -> Path:
    """Write ``index.html``, ``answer.json`` and ``steps.png`` (the picture in light colours); return the page.

    Args:
        answer: of ``check``.
        folder: a new or empty one, or one that this has written before.
        command: that was run, which the page tells.

    Raises:
        CheckError: without matplotlib, which draws.
        StepruleError: when other files lie in the folder, or it cannot be written to; then it stays as it was.
    """
    folder = Path(folder)
    check_folder(folder)
    pngs = to_pngs(answer.figure)
    used = versions([*_PACKAGES, *(name for name in _FRAMEWORKS if name in sys.modules)])
    saved = {**as_json(answer), "command": command, "versions": used}
    *_, written = write_files(
        folder,
        {
            _ANSWER: to_json(saved, indent=1),
            "steps.png": pngs["light"],
            "index.html": page(f"{answer.name}, checked", "\n".join(_body(answer, pngs, command, used))),
        },
    )
    return written


def _body(answer: Answer, pngs: Mapping[str, bytes], command: str, used: Mapping[str, str]) -> Iterator[str]:
    yield f"<h1>{escape(answer.name)}</h1>"
    yield f'<p class="lead">Which rule is it, and what is wrong with it? Called as {escape(answer.called)}.</p>'
    yield f'<p class="finding">{prose(answer.headline)}</p>'
    if answer.hyperparameters:
        yield _hyperparameters(answer)
    for place, mistake in enumerate(answer.mistakes, 1):
        yield _mistake(place, mistake, answer)
    yield f"<h2>{'Step by step' if answer.is_right else 'Where it differs'}</h2>"
    yield f"<p>{prose(_difference(answer))}</p>"
    yield picture(pngs, _CAPTION)
    if answer.remarks:
        yield "<h2>Notes</h2>" + "".join(f"<p>{prose(remark)}</p>" for remark in answer.remarks)
    yield f"<h2>What this rests on</h2><p>{prose(answer.evidence)}</p>"
    told = {"versions": ", ".join(f"{name} {number}" for name, number in used.items())}
    yield facts({**({"command": command} if command else {}), **told})
    yield f'<p class="note">Written by steprule. <code>{_ANSWER}</code> beside this file is for programs.</p>'


def _hyperparameters(answer: Answer) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{prose(one.text)}</td><td>{prose(within(one))}</td></tr>"
        for name, one in answer.hyperparameters.items()
    )
    return (
        f'<div class="scroll"><table><tr><th>hyperparameter</th><th>value</th><th>known</th></tr>{rows}</table></div>'
    )


def _mistake(place: int, mistake: Mistake, answer: Answer) -> str:
    """Return what is wrong, and the lines before and after."""
    lines = [
        f'<span class="{kind}" data-line="{line.number}">{escape(text)}</span>'
        for line in answer.lines.get(mistake.name, ())
        for kind, text in (("was", line.code), ("new", line.instead))
        if text
    ]
    code = f"<pre>{chr(10).join(lines)}</pre>" if lines else ""
    return (
        f"<h2>{place}. {escape(mistake.name.capitalize())}</h2><p>{prose(mistake.what)}</p>"
        f"<p><b>Remedy:</b> {prose(mistake.remedy)}</p>{code}"
    )


def _difference(answer: Answer) -> str:
    if answer.difference is None:
        return "No step differs from the rule's by more than rounding." + (
            "" if answer.is_right else " What is wrong is beside the steps."
        )
    if answer.rule:
        return f"Without its mistakes it would first step otherwise {answer.difference}."
    return f"The nearest rule is {answer.nearest}. It first differs {answer.difference}."
