"""What Hugging Face's Trainer, accelerate, Lightning and GradScaler make of optimizers with an evaluated point."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import schedulefree
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

import steprule as sr
import steprule.torch as door
from steprule.errors import StateError
from tests.doors.torch.cases import everything
from tests.doors.torch.tensors import numbers
from tests.doors.torch.test_frameworks import (  # noqa: F401  (a fixture that is used by all tests here)
    HALF,
    STEPS,
    Accelerated,
    Module,
    _alone,
    _fit,
    _losses,
    _same,
    _sentences,
    pytestmark,
)

OURS = partial(door.AdamWScheduleFree, lr=1e-2, weight_decay=0.1, warmup_steps=4)
THEIRS = partial(schedulefree.AdamWScheduleFree, lr=1e-2, weight_decay=0.1, warmup_steps=4)
AVERAGED = partial(door.Optimizer, rule=sr.averaged(sr.rules.adamw), lr=1e-2, decay=0.8)


def _trained(folder: Path, kind: Any, checkpoint: str | None = None, dtype: torch.dtype = torch.float32) -> Any:
    """Train with an evaluation, and a checkpoint after it, every third step."""
    set_seed(3)
    config = GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=29, n_positions=8, bos_token_id=0, eos_token_id=0)
    model: Any = GPT2LMHeadModel(config)
    model.to(dtype)
    optimizer = kind(model.parameters())
    arguments = TrainingArguments(
        str(folder), max_steps=STEPS, per_device_train_batch_size=8, save_steps=HALF, logging_steps=1, use_cpu=True,
        report_to="none", disable_tqdm=True, log_level="error", dataloader_pin_memory=False, eval_strategy="steps",
        eval_steps=3,
    )  # fmt: skip
    trainer = Trainer(
        model, arguments, train_dataset=_sentences(), eval_dataset=_sentences()[:16],
        optimizers=(optimizer, LambdaLR(optimizer, lambda _: 1.0)),
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer


def _evaluations(trainer: Any) -> torch.Tensor:
    found = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert len(found) == STEPS // 3
    return torch.tensor(found, dtype=torch.float64)


def test_a_trainer_evaluates_as_with_the_package(tmp_path: Path) -> None:
    ours, theirs = (_trained(tmp_path / str(i), kind, None, torch.float64) for i, kind in enumerate([OURS, THEIRS]))
    torch.testing.assert_close(_losses(ours), _losses(theirs), rtol=1e-10, atol=0)
    torch.testing.assert_close(_evaluations(ours), _evaluations(theirs), rtol=1e-10, atol=0)
    assert not ours.optimizer.param_groups[0]["train_mode"], "the last evaluation is of the last step"
    torch.testing.assert_close(ours.model.state_dict(), theirs.model.state_dict(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [OURS, pytest.param(AVERAGED, marks=pytest.mark.slow)])
def test_a_trainer_resumes_from_evaluation_mode_in_every_bit(kind: Any, tmp_path: Path) -> None:
    straight = _trained(tmp_path, kind)
    checkpoint = tmp_path / f"checkpoint-{HALF}"
    saved = torch.load(checkpoint / "optimizer.pt")
    assert not saved["param_groups"][0]["train_mode"]
    assert "trained" in saved["state"][0]
    again = _trained(tmp_path, kind, str(checkpoint))
    torch.testing.assert_close(_losses(again), _losses(straight), rtol=0, atol=0)
    torch.testing.assert_close(_evaluations(again), _evaluations(straight), rtol=0, atol=0)
    _same(again.model, straight.model)


# --- accelerate -----------------------------------------------------------------------------------


def test_accelerate_forwards_both_modes() -> None:
    network, plain = nn.Linear(3, 2), nn.Linear(3, 2)
    own = OURS(network.parameters())
    accelerator = Accelerator(cpu=True)
    wrapped, other = accelerator.prepare(own, door.AdamW(plain.parameters()))
    network(torch.ones(3)).sum().backward()
    wrapped.step()
    wrapped.step()  # after the first, all points are one
    before = [param.detach().clone() for param in network.parameters()]
    wrapped.eval()
    assert not own.param_groups[0]["train_mode"]
    assert not torch.equal(before[0], network.weight)
    with pytest.raises(StateError, match="evaluation mode"):
        wrapped.step()
    wrapped.train()
    for param, value in zip(network.parameters(), before, strict=True):
        assert torch.equal(param, value)
    other.eval()  # AdamW has nothing to switch, and accelerate finds out
    other.train()


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_an_accelerated_run_resumes_in_either_mode_in_every_bit(mode: str, tmp_path: Path) -> None:
    straight = Accelerated(OURS)
    straight.train(2)
    getattr(straight.optimizer, mode)()
    straight.accelerator.save_state(str(tmp_path))
    straight.optimizer.train()
    losses = straight.train(2)
    again = Accelerated(OURS, seed=6)
    again.accelerator.load_state(str(tmp_path))
    again.optimizer.train()
    assert again.train(2) == losses
    _same(again.network, straight.network)


# --- Lightning ------------------------------------------------------------------------------------


class Evaluated(Module):
    """Lightning calls neither train nor eval of an optimizer: the hooks around an evaluation do."""

    def __init__(self, kind: Any) -> None:
        super().__init__(kind)
        self.points_seen = list[float]()

    def validation_step(self, batch: Any) -> None:
        self.points_seen.append(nn.functional.mse_loss(self.network(batch[0]), batch[1]).item())

    def on_validation_start(self) -> None:
        self._switch("eval")

    def on_validation_end(self) -> None:
        self._switch("train")

    def _switch(self, name: str) -> None:
        optimizer: Any = self.optimizers()
        if hasattr(optimizer, name):  # Lightning's wrapper has what the optimizer has
            getattr(optimizer, name)()

    def val_dataloader(self) -> Any:
        return self.points


def test_lightning_evaluates_by_hooks_and_resumes_in_every_bit(tmp_path: Path) -> None:
    straight: Any = _fit(Evaluated(OURS), 4, tmp_path / "straight")
    half = _fit(Evaluated(OURS), 2, tmp_path / "half")
    again: Any = _fit(Evaluated(OURS), 4, tmp_path / "again", tmp_path / "half" / "last.ckpt")
    assert half.losses + again.losses == straight.losses
    assert straight.points_seen[-6:] == again.points_seen[-6:]
    _same(again, straight)
    plain: Any = _fit(Evaluated(partial(door.AdamW, lr=1e-2)), 1, tmp_path / "plain")
    assert len(plain.points_seen) > 0


# --- GradScaler -----------------------------------------------------------------------------------


def test_a_scaler_steps_in_training_mode_alone() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**6, growth_interval=1000)
    scaler.scale(torch.ones(()))
    ends = []
    for scales in (False, True):
        param = nn.Parameter(numbers((4, 5), torch.float32, 1))
        optimizer = OURS([param], clip_norm=0.5)
        for t in range(6):
            factor = 2.0**6 if scales else 1.0
            param.grad = factor * numbers((4, 5), torch.float32, t)
            if scales and t == 3:
                param.grad[0, 0] = torch.inf
            if t == 3 and not scales:
                continue
            with optimizer.evaluating():
                before = everything(optimizer)
                with pytest.raises(StateError, match="evaluation mode"):
                    scaler.step(optimizer) if scales else optimizer.step()
                assert everything(optimizer) == before
                if scales:
                    scaler.update(2.0**6)
            scaler.step(optimizer) if scales else optimizer.step()
            if scales:
                scaler.update(2.0**6)
        ends.append(everything(optimizer))
    assert ends[0] == ends[1]
