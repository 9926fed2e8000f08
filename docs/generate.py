"""Write what follows from the catalogue and from measured results.

The pages of the catalogue (rule_pages.py), the stubs of the doors and the classes that docs/torch.md names (stubs.py)
come from the catalogue, docs/schedules.md from docstrings, docs/benchmarks.md, the tables of docs/peers.md and the
README's figures (figures.py) from benchmarks/results/*/*.json, docs/race/suite.md and the tables of docs/race.md and
docs/which.md from what is in docs/race (races.py), the losses of docs/adam-wrong.md from docs/adam_wrong.json.

    python docs/generate.py          # write
    python docs/generate.py --check  # say what is stale, exit 1
    python docs/generate.py --race race-results/digits-mlp  # take over a new race, then write
    python docs/generate.py --suite race-results/suite  # the same of a suite; --protocol: see races.py

The tests run the check.
"""

from __future__ import annotations

import inspect
import json
import runpy
import sys
from pathlib import Path

from steprule import schedules
from steprule.files import write_whole
from steprule.report.table import markdown_table

ROOT = Path(__file__).parent.parent
RACE = ROOT / "docs" / "race"
RULES = runpy.run_path(str(ROOT / "docs" / "rule_pages.py"))
RACES = runpy.run_path(str(ROOT / "docs" / "races.py"))
MEASURED = runpy.run_path(str(ROOT / "docs" / "figures.py"))
MISTAKES = ROOT / "docs" / "adam-wrong.md"

_SCHEDULES = """# Schedules

Generated from the docstrings of `steprule.schedules` by `docs/generate.py`; do not edit.

A schedule is a function of the step number t, which is **1 at the first step**. Any numeric hyperparameter, `lr` or
another, may be a schedule, in `steprule.Optimizer` and its groups, `steprule.minimize` and `steprule.scipy.method`:

```python
import numpy as np
import steprule as sr

x = np.ones(3)
optimizer = sr.Optimizer(x, "adam", lr=lambda t: 0.1 / t)
optimizer.step(x)

warm = sr.schedules.sequence([sr.schedules.linear_warmup(0.1, 50), sr.schedules.cosine(0.1, 450)], [50])
res = sr.minimize(lambda x: ((x - 3) ** 2).sum(), [0.0, 9.0], lr=warm)
print(res.x.round(3))  # [3. 3.]
```

Any function will do. Those below can also be compared, copied and pickled, and their repr is the call that made them.
A run that is resumed from a state or a checkpoint continues with its t; the schedule itself is not stored, so pass it
again. To use a schedule that counts from 0, such as optax's, write `lambda t: schedule(t - 1)`. `steprule.torch`
takes the schedulers of `torch.optim.lr_scheduler` instead, and `steprule.jax` takes optax's schedules.

Example values:

"""

_EXAMPLES = {
    "constant": "constant(0.1)",
    "inverse_sqrt": "inverse_sqrt(0.1, warmup=10)",
    "linear_warmup": "linear_warmup(0.1, 100)",
    "cosine": "cosine(0.1, 1000)",
    "step_drop": "step_drop(0.1, [10, 100], factor=0.5)",
    "sequence": "sequence([linear_warmup(0.1, 10), cosine(0.1, 990)], [10])",
}
_STEPS = (1, 2, 10, 11, 100, 101, 500, 1000, 2000)


def schedules_page() -> str:
    """Return docs/schedules.md."""
    assert set(_EXAMPLES) == set(schedules.__all__), "an example for every schedule"
    names = {name: getattr(schedules, name) for name in schedules.__all__}
    rows = []
    for example in _EXAMPLES.values():
        schedule = eval(example, names)
        rows.append([f"`{example}`", *(f"{schedule(t):.3g}" for t in _STEPS)])
    entries = [
        f"## {name}\n\n`{name}{inspect.signature(names[name])}`\n\n".replace(" -> 'Schedule'", "").replace("'", "")
        + markdown(inspect.getdoc(names[name]) or "")
        for name in _EXAMPLES
    ]
    table = markdown_table(["t", *map("{:,}".format, _STEPS)], rows)
    return _SCHEDULES + "\n\n".join([table, *entries]) + "\n"


def markdown(docstring: str) -> str:
    """Return a docstring as text of a page: what it says and which errors it raises."""
    text, _, errors = docstring.replace("``", "`").partition("\n\nRaises:\n")
    raised = " ".join(line.strip() for line in errors.splitlines()).removeprefix("HyperparameterError: ")
    return f"{text}\n\nIt raises a `HyperparameterError` {raised}"


def race() -> str:
    """Return the race's table, from the results of a real run."""
    raw = json.loads((RACE / "results.json").read_text())
    headings = ["rule", "rank", "best lr", "validation loss", "95 % interval", "test accuracy", "forgiving"]
    rows = []
    for entry in raw["table"]:
        first, last = entry["rank"]
        low, high = entry["interval"]
        losses = [f"{entry['loss']:.3f}", f"{low:.3f} to {high:.3f}"]
        shares = [f"{entry['test_accuracy']:.1%}", f"{entry['forgiving']:.0%}"]
        rank = f"{first}" if first == last else f"{first}–{last}"
        rows.append([f"`{entry['rule']}`", rank, f"{entry['setting']['lr']:g}", *losses, *shares])
    settings = raw["settings"]
    runs = sum(entry["finished"] for entry in raw["table"])
    caption = f"{raw['problem']['name']}, {settings['epochs']} epochs, {runs} runs on two cores"
    picture = f"![Validation loss of each rule at its best setting: {caption}](race/curves.png)"
    return f"{markdown_table(headings, rows)}\n\n{picture}"


def keep_race(folder: Path) -> None:
    """Copy what docs/race.md shows of a race's output: the picture, and the table without the machine."""
    raw = json.loads((folder / "results.json").read_text())
    kept = {key: raw[key] for key in ("problem", "settings", "versions", "table")}
    RACE.mkdir(exist_ok=True)
    write_whole(RACE / "results.json", json.dumps(kept, indent=1) + "\n")
    write_whole(RACE / "curves.png", (folder / "curves.png").read_bytes())


def filled(text: str, mark: str, content: str) -> str:
    """Return ``text`` with fresh content between the comments ``<!-- mark -->`` and ``<!-- /mark -->``."""
    before, rest = text.split(f"<!-- {mark} -->")
    _, after = rest.split(f"<!-- /{mark} -->")
    return f"{before}<!-- {mark} -->{content}<!-- /{mark} -->{after}"


def readme() -> str:
    """Return the README, fresh."""
    return with_figures((ROOT / "README.md").read_text())


def race_page() -> str:
    """Return docs/race.md, fresh."""
    text = filled((ROOT / "docs" / "race.md").read_text(), "protocols", f"\n{RACES['protocol_table']()}\n")
    return filled(text, "race", f"\n{race()}\n")


def with_figures(text: str) -> str:
    """Return ``text`` with fresh figures where it names them."""
    for name, figure in MEASURED["figures"]().items():
        if f"<!-- {name} -->" in text:
            text = filled(text, name, figure)
    return text


def mistakes() -> str:
    """Return docs/adam-wrong.md, with fresh lines and losses."""
    text = MISTAKES.read_text()
    for mark, content in runpy.run_path(str(ROOT / "docs" / "adam_wrong.py"))["parts"]().items():
        text = filled(text, mark, content)
    return text


def targets() -> dict[Path, str]:
    """Return what each generated file must hold."""
    stubs = runpy.run_path(str(ROOT / "docs" / "stubs.py"))
    return {
        ROOT / "src" / "steprule" / "torch.pyi": stubs["torch_stub"](),
        ROOT / "src" / "steprule" / "jax.pyi": stubs["jax_stub"](),
        **RULES["pages"](),
        ROOT / "docs" / "schedules.md": schedules_page(),
        ROOT / "docs" / "benchmarks.md": MEASURED["page"](),
        ROOT / "README.md": readme(),
        RACE / "suite.md": RACES["suite_page"](),
        ROOT / "docs" / "race.md": race_page(),
        ROOT / "docs" / "which.md": filled(
            (ROOT / "docs" / "which.md").read_text(), "which", f"\n{RACES['which']()}\n"
        ),
        ROOT / "docs" / "numpy.md": with_figures((ROOT / "docs" / "numpy.md").read_text()),
        ROOT / "docs" / "torch.md": filled((ROOT / "docs" / "torch.md").read_text(), "classes", stubs["classes"]()),
        ROOT / "docs" / "gpt.md": filled((ROOT / "docs" / "gpt.md").read_text(), "gpt", MEASURED["compared"]()),
        MISTAKES: mistakes(),
        ROOT / "docs" / "peers.md": filled((ROOT / "docs" / "peers.md").read_text(), "peers", MEASURED["peers"]()),
        ROOT / "docs" / "jax.md": with_figures((ROOT / "docs" / "jax.md").read_text()),
    }


def main() -> int:
    """Write or check."""
    if "--race" in sys.argv[1:]:
        keep_race(Path(sys.argv[sys.argv.index("--race") + 1]))
    for name in ("suite", "protocol"):
        if f"--{name}" in sys.argv[1:]:
            RACES[f"keep_{name}"](Path(sys.argv[sys.argv.index(f"--{name}") + 1]))
    wanted = targets()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale; run: python docs/generate.py")
        return bool(stale)
    for path in stale:
        write_whole(path, wanted[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
