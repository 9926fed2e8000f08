"""The example that trains a GPT: small runs of its functions, and its command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
import typer
from examples import train_gpt
from examples.train_gpt import GPT, Config, Run
from matplotlib.image import imread
from torch import Tensor
from typer.testing import CliRunner

import steprule.torch as door
from tests import ROOT

TINY = Config(context=16, layers=2, heads=2, width=16, batch=4)
STEPS = 30
IN_TORCH = [name for name in train_gpt.OPTIMIZERS if hasattr(torch.optim, name)]


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """Take one thread for models this small, and float64, in which rounding does not grow to be seen."""
    threads, kind, state = torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(kind)
    torch.set_rng_state(state)


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return train_gpt.standard_library()[:20_000]


def _train(make: train_gpt.Make, tokens: Tensor, lr: float = 1e-2, seed: int = 0) -> Run:
    torch.manual_seed(seed)
    model = GPT(TINY)
    return train_gpt.train(model, make(model, lr, 0.1, STEPS), tokens, STEPS, seed)


@pytest.mark.parametrize("name", IN_TORCH)
def test_both_libraries_give_one_curve(name: str, tokens: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # in which torch's Muon would multiply
    ours, theirs = (_train(make, tokens) for make in list(train_gpt.entrants(name, compare=True).values())[:2])
    assert len(ours.losses) == STEPS
    assert ours.losses[-1] < ours.losses[0]
    assert max(train_gpt.differences(ours, theirs)) < 1e-9
    assert ours.validation[STEPS] == pytest.approx(theirs.validation[STEPS], rel=1e-9)


@pytest.mark.parametrize("name", sorted({*train_gpt.OPTIMIZERS} - {*IN_TORCH}))
def test_every_other_optimizer_learns(name: str, tokens: Tensor) -> None:
    run = _train(train_gpt.entrants(name, compare=False)["steprule.torch"], tokens, lr=1e-3)
    assert run.losses[-1] < run.losses[0]


def test_a_seed_is_a_run(tokens: Tensor) -> None:
    first, same, other = (_train(train_gpt.of(door.AdamW), tokens, seed=seed) for seed in (3, 3, 4))
    assert (first.losses, first.validation) == (same.losses, same.validation)
    assert first.losses != other.losses
    assert 0 < first.in_optimizer < first.seconds


def test_only_matrices_decay() -> None:
    model = GPT(TINY)
    matrices, others = train_gpt.groups(model, door.AdamW, 0.1)
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert {parameter.ndim for parameter in others["params"]} == {1}
    assert len(matrices["params"]) + len(others["params"]) == len(list(model.parameters()))
    assert all("weight_decay" not in group for group in train_gpt.groups(model, torch.optim.Rprop, 0.1))


def test_muon_takes_the_matrices_of_blocks_alone() -> None:
    model = GPT(TINY)
    matrices, outside, vectors = train_gpt.muon_groups(model, 0.1)
    names = {own: name for name, own in model.named_parameters()}
    chosen = {names[own] for own in matrices["params"]}
    assert chosen == {name for name in names.values() if name.startswith("blocks.") and "norm" not in name} - {
        name for name in names.values() if name.endswith("bias")
    }
    assert {names[own] for own in outside["params"]} == {"letters.weight", "places"}
    assert [group["weight_decay"] for group in (matrices, outside, vectors)] == [0.1, 0.1, 0.0]
    assert sum(len(group["params"]) for group in (matrices, outside, vectors)) == len(names)


def test_schedule_free_has_no_schedule_and_is_validated_where_it_is_evaluated(
    tokens: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = GPT(TINY)
    optimizer = train_gpt.entrants("schedule_free_adamw", compare=False)["steprule.torch"](model, 1e-2, 0.1, 20)
    assert optimizer.param_groups[0]["warmup_steps"] == 2
    seen: list[tuple[Tensor, bool]] = []

    def note(own: GPT, _: Tensor) -> float:
        seen.append((own.places.detach().clone(), bool(optimizer.param_groups[0]["train_mode"])))
        return 0.0

    monkeypatch.setattr(train_gpt, "validate", note)
    train_gpt.train(model, optimizer, tokens, 20, every=10)
    assert [trains for _, trains in seen] == [False, False]
    assert optimizer.param_groups[0]["train_mode"]
    assert optimizer.param_groups[0]["lr"] == 1e-2
    at_the_end = seen[-1][0]
    assert not torch.equal(model.places, at_the_end)
    with train_gpt.evaluating(optimizer):
        assert torch.equal(model.places, at_the_end)


def test_an_optimizer_is_found_by_its_rule() -> None:
    found = {name: train_gpt.find_class(name) for name in ("adamw", "muon", "schedule_free_adamw", "AdEMAMix")}
    assert [*found.values()] == ["AdamW", "Muon", "AdamWScheduleFree", "AdEMAMix"]


def test_schedule_free_is_compared_with_its_authors_package(tokens: Tensor) -> None:
    pytest.importorskip("schedulefree")
    ours, theirs = (_train(make, tokens) for make in train_gpt.entrants("schedule_free_adamw", compare=True).values())
    assert max(train_gpt.differences(ours, theirs)) < 1e-9
    assert ours.validation[STEPS] == pytest.approx(theirs.validation[STEPS], rel=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 9, 100])
def test_the_learning_rate_rises_and_falls_to_zero(steps: int) -> None:
    optimizer = door.SGD([torch.zeros(1)], lr=0.5)
    schedule = train_gpt.warmup_cosine(optimizer, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    top = rates.index(max(rates))
    assert rates[top] == 0.5
    assert top <= steps // 10
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert steps == 1 or optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_gradients_are_clipped(tokens: Tensor) -> None:
    model, norms = GPT(TINY), []
    with torch.no_grad():
        model.letters.weight.mul_(100)  # large scores, so large gradients

    def note(*_: object) -> None:
        norms.append(torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm().item())

    optimizer = door.SGD(model.parameters(), lr=1e-3)
    optimizer.register_step_pre_hook(note)
    train_gpt.train(model, optimizer, tokens, 3)
    assert norms == pytest.approx([train_gpt.CLIP] * 3, rel=1e-4)


def test_a_letter_is_told_from_those_before_it(tokens: Tensor) -> None:
    model, window = GPT(TINY), tokens[: TINY.context][None].clone()
    before = model(window)
    window[0, 9] += 1
    after = model(window)
    torch.testing.assert_close(after[:, :9], before[:, :9], rtol=0, atol=0)
    assert not torch.equal(after[:, 9], before[:, 9])
    shown, following = next(train_gpt.batches(tokens, TINY, seed=0))
    assert torch.equal(shown[:, 1:], following[:, :-1])


def test_the_time_is_read_when_the_device_is_done(tokens: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    assert 0 < train_gpt.now(torch.device("cpu")) <= train_gpt.now(torch.device("cuda:1"))
    assert waited == [torch.device("cuda:1")]
    asked: list[torch.device] = []

    def count(device: torch.device) -> float:
        asked.append(device)
        return float(len(asked))

    monkeypatch.setattr(train_gpt, "now", count)
    run = _train(train_gpt.of(door.AdamW), tokens)
    assert asked == [tokens.device] * 4 * STEPS
    assert (run.in_optimizer, run.seconds) == (STEPS, 3 * STEPS)  # of four looks at a clock that counts them


def test_batches_lie_where_the_letters_do(tokens: Tensor) -> None:
    shown, following = next(train_gpt.batches(tokens.to("meta"), TINY, seed=0))
    assert shown.device == following.device == torch.device("meta")
    assert GPT(TINY).to("meta").loss(shown, following).device == torch.device("meta")


@pytest.mark.parametrize("others", [[], ["torch.optim"], ["torch.optim", "torch.optim, fused"]])
def test_a_picture_of_any_number_of_runs(others: list[str], tmp_path: Path) -> None:
    run = Run([3.0, 2.0, 1.0], {3: 1.5}, seconds=1.0)
    train_gpt.draw(dict.fromkeys(["steprule.torch", *others], run), "AdamW", tmp_path / "loss.png")
    height, width, _ = imread(tmp_path / "loss.png").shape
    assert width > 700
    assert height > (600 if others else 400)


def test_the_picture_of_the_documents_is_small() -> None:
    picture = ROOT / "docs" / "gpt.png"
    assert picture.stat().st_size < 100_000
    assert imread(picture).shape[1] > 700


def test_the_command_trains_compares_and_draws(tmp_path: Path) -> None:
    command = [sys.executable, train_gpt.__file__, "--steps", "3", "--threads", "1", "--output", str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"COLUMNS": "120"})
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("steprule.torch", "torch.optim", "torch.optim, fused"):
        assert any(line.split("  ")[1:2] == [name] for line in done.stdout.splitlines())
    assert "def " in done.stdout
    assert [path.name for path in tmp_path.rglob("*.*")] == ["loss.png"]


WRONG = {
    "--optimizer Nope": "no optimizer Nope for this model; there are ADOPT, ASGD,",
    "--optimizer SparseAdam": "no optimizer SparseAdam for this model",
    "--optimizer Lion": "torch.optim has no Lion to compare with; add --no-compare",
    "--lr -1": "Invalid learning rate: -1",
    "--weight-decay -1": "Invalid weight_decay value: -1",
    "--steps 0": "Invalid value for '--steps'",
    "--threads 0": "Invalid value for '--threads'",
    "--device nowhere": "no device 'nowhere' here (Expected one of cpu, cuda",
    "--device meta": "no device 'meta' here (Tensor.item() cannot be called on meta tensors); use --device cpu, or",
    "--device cuda:99": "no device 'cuda:99' here (",
    "--output FILE/below": "Not a directory",
    "--output FILE": "is a file",
}


@pytest.mark.parametrize(("arguments", "words"), WRONG.items(), ids=WRONG)
def test_a_bad_argument_is_told_before_anything_is_trained(
    arguments: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_gpt, "train", partial(pytest.fail, "trained"))
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    app = typer.Typer()
    app.command()(train_gpt.main)
    done = CliRunner().invoke(app, arguments.split())
    said = " ".join(done.output.replace("│", " ").split())
    assert done.exit_code == 2, said
    assert words in said
    assert "Traceback" not in said
