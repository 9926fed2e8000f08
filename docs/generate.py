"""Write what follows from the catalogue and from measured results.

docs/rules.md, the README's table, the stubs of the doors and the classes that docs/torch.md names (stubs.py) come from
the catalogue, docs/schedules.md from docstrings, docs/benchmarks.md, the tables of docs/peers.md and the README's
figures (figures.py) from benchmarks/results/*/*.json, the README's race from docs/race/results.json, docs/race/suite.md
and the table of protocols in docs/race.md from what is beside it (races.py).

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
from steprule.backends import latex
from steprule.cli.rules import bytes_per_parameter, fewest, least_bytes, sees, slots
from steprule.files import write_whole
from steprule.rules import CATALOGUE, Rule
from steprule.rules.combinators import COMBINATORS

ROOT = Path(__file__).parent.parent
RACE = ROOT / "docs" / "race"
RACES = runpy.run_path(str(ROOT / "docs" / "races.py"))
MEASURED = runpy.run_path(str(ROOT / "docs" / "figures.py"))

_HEAD = """# All optimizers: formulas, hyperparameters, sources

Generated from the rules by `docs/generate.py`; do not edit. Formulas are for the default options, and generated from
the traced rule itself; `steprule emit RULE --target latex --set OPTION=VALUE` shows another variant. An index t - 1
marks a value stored by the previous step, $\\eta$ is `lr`, and slots start at zero unless the entry says otherwise.
Sizes count a float32 parameter with its slots; those in 4 bits, a bfloat16 parameter with 8 extra bits (`split24`)
and 4-bit slots ([formats](formats.md)). Slots that are numbers, of a row, a column or a tensor, are not counted.
"""

_RULES_OF_RULES = """# Combinators

Combinators take a rule, or its name, and return a new rule: one fused kernel, like any other. The outermost one acts
on the gradient first. Where the order matters:

| you want | write | not |
|---|---|---|
| C-AdamW: AdamW with a mask | `cautious("adamw")`, which is `decoupled(cautious("adam"))` | |
| ascent, with an L2 penalty on weights | `maximize(l2(rule))` | `l2(maximize(rule))`: it maximizes the penalty, too |
| an unscaled penalty with a scaled loss | `unscaled(l2(rule))` | `l2(unscaled(rule))`: it divides the penalty, too |
| a mask by the gradient including the penalty | `l2(cautious(rule))` | `cautious(l2(rule))`: by the gradient alone |

On the command line, settings follow in parentheses of their own:
`steprule rules 'l2(adam)(weight_decay=0.1, beta2=0.9)'`.
"""

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

_OWN_RULES = """# Your own rules

[Writing a rule](writing-a-rule.md) is a tutorial. The following sections are a reference.

# What a slot may be

A slot's annotation says what it is; its name has no meaning. An annotation that says nothing about a slot, such as
`Decay`, is an error; types for type checkers are ignored.

| annotation | what the slot is |
|---|---|
| none | a number for each element |
| `FirstMoment` | the average of gradients along which the step goes |
| `SecondMoment` | the average of squared gradients by whose root the step divides; never negative |
| `NonNegative` | any other slot that is never negative: a sum of squares, a maximum |
| `Scalar` | one number for all tensors of a group, in float64: of hyperparameters, `t`, sums over all tensors |
| `PerTensor` | one number of each tensor, in float64: also of sums over the tensor |
| `PerRow`, `PerColumn` | a number for each row or column of the tensor, in float32 (float64 for float64 parameters) |

A [`Monitor`](monitor.md) needs the `FirstMoment` for `idle_share`, the `SecondMoment` for `update_rms`, and both for
`signal_to_noise`; `update_clip` ([guards](guards.md)) needs a `SecondMoment`. [8-bit codes](formats.md) of
non-negative slots have no sign. torch.optim and optax have both moments, as `exp_avg` and `exp_avg_sq`, or `mu` and
`nu`, so [conversions](checkpoints.md) recognize yours, and states in JAX use optax's names for them. A rule has at
most one of each: if it has a fast and a slow average of gradients, the fast one is the `FirstMoment` (as in
AdEMAMix).

If a rule corrects a moment for its start at zero, these features use the corrected value. It is recognized where the
new value of the slot is divided by `1 - beta**t`, or by one minus anything else that changes with t. If a rule
corrects it in another way, the corrected value is the variable called `SLOT_hat` in its source: `nu_hat` for a slot
`nu`.

```python
import numpy as np
import steprule as sr
from steprule import Decay, FirstMoment, Rate, SecondMoment, sqrt


@sr.rule(paper="Ziyin, Wang & Ueda 2020, arXiv:2002.04839")
def laprop(theta, g, mu: FirstMoment, nu: SecondMoment, *, t, lr: Rate = 4e-4, beta: Decay = 0.9):
    nu = 0.999 * nu + (1 - 0.999) * g**2
    mu = beta * mu + (1 - beta) * g / (sqrt(nu / (1 - 0.999**t)) + 1e-15)
    theta = theta - lr * mu / (1 - beta**t)
    return theta, mu, nu


theta = np.ones(4)
opt = sr.Optimizer(theta, laprop, update_clip=True)
with sr.Monitor(opt, every=1) as monitor:
    opt.step(np.array([1.0, 2.0, -3.0, 4.0]))
print(round(monitor.latest[0]["update_rms"], 6))  # 1.0
```

# What a rule may call

A rule is a function of its arguments. Python runs it on symbols when it is defined, not when it steps. So it may use

- steprule's `sqrt`, `maximum`, `minimum`, `where` and `sign`, Python's `+ - * /`, `**2`, `abs` and comparisons, and
  `& | ~` on conditions;
- steprule's `total`, `mean`, `norm`, `rms` and `size`: numbers of the tensor, or with `over="all"` of all tensors, with
  `over="row"` or `"column"` of each row or column; and `ndim`, the number of axes of the tensor;
- on hyperparameters, `t`, sums over a tensor or all tensors, and the slots that are one number also `%`, `//`, `**`
  and the functions of `math`;
- your own functions that use only these, and your own constants. Anything else that it reads (a global, a setting, a
  file, the environment) is read when the rule is defined, and keeps that value.

It may not draw random numbers, read a clock or count its calls: the result would be one constant for all steps and
elements. Each variant of a rule is therefore run twice, and refused if the two runs differ. Add noise to the gradient
before the step; make a number that changes from step to step a hyperparameter, which may be a schedule of t. Nothing
should depend on the order of a set either, which differs between processes.
"""


def rules_page() -> str:
    """Return docs/rules.md."""
    return "\n".join([_HEAD, *(_entry(rule) for rule in CATALOGUE.values()), *_combinators(), _OWN_RULES])


def _combinators() -> list[str]:
    """Return what combinators say of themselves."""
    return [_RULES_OF_RULES, *(f"## {name}\n\n{inspect.getdoc(one)}\n" for name, one in COMBINATORS.items())]


def _entry(rule: Rule) -> str:
    lines = [f"## {rule.name}\n", f"{rule.paper}.\n", "$$", latex.emit(rule), "$$\n", f"{rule.doc}\n"]
    lines += ["| hyperparameter | default | values |", "|---|---|---|"]
    lines += [f"| `{h.name}` | `{h.default!r}` | {h.kind} |" for h in rule.hyperparameters.values()]
    starts = "".join(f"; {slot} starts at {start}" for slot, start in rule.init.items())
    sizes = f"{bytes_per_parameter(rule)} bytes per parameter, {least_bytes(rule)} in {fewest().title}"
    depends = f"The step of an element depends on {sees(rule)}"
    point = latex.point(rule)
    where = f" It trains at {rule.parameter} and is evaluated at {point}." if point else ""
    lines.append(f"\nSlots: {slots(rule)}{starts}. {sizes}. {depends}.{where}\n")
    return "\n".join(lines)


def schedules_page() -> str:
    """Return docs/schedules.md."""
    assert set(_EXAMPLES) == set(schedules.__all__), "an example for every schedule"
    names = {name: getattr(schedules, name) for name in schedules.__all__}
    rows = [["t", *map("{:,}".format, _STEPS)], ["---"] * (1 + len(_STEPS))]
    for example in _EXAMPLES.values():
        schedule = eval(example, names)
        rows.append([f"`{example}`", *(f"{schedule(t):.3g}" for t in _STEPS)])
    entries = [
        f"## {name}\n\n`{name}{inspect.signature(names[name])}`\n\n".replace(" -> 'Schedule'", "").replace("'", "")
        + markdown(inspect.getdoc(names[name]) or "")
        for name in _EXAMPLES
    ]
    return _SCHEDULES + "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n\n" + "\n\n".join(entries) + "\n"


def markdown(docstring: str) -> str:
    """Return a docstring as text of a page: what it says and which errors it raises."""
    text, _, errors = docstring.replace("``", "`").partition("\n\nRaises:\n")
    raised = " ".join(line.strip() for line in errors.splitlines()).removeprefix("HyperparameterError: ")
    return f"{text}\n\nIt raises a `HyperparameterError` {raised}"


def table() -> str:
    """Return the table of the README."""
    lines = [f"| rule | sees | slots | bytes | in {fewest().title} | source |", "|---|---|---|---|---|---|"]
    for rule in CATALOGUE.values():
        link = f"[`{rule.name}`](docs/rules.md#{rule.name})"
        sizes = f"{bytes_per_parameter(rule)} | {least_bytes(rule)}"
        lines.append(f"| {link} | {rule.trace().sees} | {slots(rule)} | {sizes} | {rule.paper} |")
    return "\n".join(lines)


def race() -> str:
    """Return the race's table, from the results of a real run."""
    raw = json.loads((RACE / "results.json").read_text())
    headings = ["rule", "rank", "best lr", "validation loss", "95 % interval", "test accuracy", "forgiving"]
    rows = [headings, ["---"] * len(headings)]
    for entry in raw["table"]:
        first, last = entry["rank"]
        low, high = entry["interval"]
        losses = [f"{entry['loss']:.3f}", f"{low:.3f} to {high:.3f}"]
        shares = [f"{entry['test_accuracy']:.1%}", f"{entry['forgiving']:.0%}"]
        rank = f"{first}" if first == last else f"{first}–{last}"
        rows.append([f"`{entry['rule']}`", rank, f"{entry['setting']['lr']:g}", *losses, *shares])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    settings = raw["settings"]
    runs = sum(entry["finished"] for entry in raw["table"])
    caption = f"{raw['problem']['name']}, {settings['epochs']} epochs, {runs} runs on two cores"
    return "\n".join(
        [*lines, "", f"![Validation loss of each rule at its best setting: {caption}](docs/race/curves.png)"]
    )


def keep_race(folder: Path) -> None:
    """Copy what the README shows of a race's output: the picture, and the table without the machine."""
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
    text = with_figures((ROOT / "README.md").read_text())
    return filled(filled(text, "rules", f"\n{table()}\n"), "race", f"\n{race()}\n")


def with_figures(text: str) -> str:
    """Return ``text`` with fresh figures where it names them."""
    for name, figure in MEASURED["figures"]().items():
        if f"<!-- {name} -->" in text:
            text = filled(text, name, figure)
    return text


def targets() -> dict[Path, str]:
    """Return what each generated file must hold."""
    stubs = runpy.run_path(str(ROOT / "docs" / "stubs.py"))
    return {
        ROOT / "src" / "steprule" / "torch.pyi": stubs["torch_stub"](),
        ROOT / "src" / "steprule" / "jax.pyi": stubs["jax_stub"](),
        ROOT / "docs" / "rules.md": rules_page(),
        ROOT / "docs" / "schedules.md": schedules_page(),
        ROOT / "docs" / "benchmarks.md": MEASURED["page"](),
        ROOT / "README.md": readme(),
        RACE / "suite.md": RACES["suite_page"](),
        ROOT / "docs" / "race.md": filled(
            (ROOT / "docs" / "race.md").read_text(), "protocols", f"\n{RACES['protocol_table']()}\n"
        ),
        ROOT / "docs" / "torch.md": filled((ROOT / "docs" / "torch.md").read_text(), "classes", stubs["classes"]()),
        ROOT / "docs" / "gpt.md": filled((ROOT / "docs" / "gpt.md").read_text(), "gpt", MEASURED["compared"]()),
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
