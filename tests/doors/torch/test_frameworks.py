"""The PyTorch door inside Hugging Face's Trainer, accelerate and Lightning, offline."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import pytorch_lightning as lightning
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

import steprule.torch as door

STEPS, HALF = 12, 6
ADAMW = partial(door.AdamW, lr=1e-2, weight_decay=0.1)
TORCH_ADAMW = partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1, foreach=False)
# Moments, a float64 scalar slot, four slots, none of torch's names.
RESUMED = [
    ADAMW,
    partial(door.SGD, lr=1e-2, momentum=0.9, nesterov=True),
    partial(door.NAdam, lr=1e-2),
    partial(door.Adan, lr=1e-2),
    partial(door.Optimizer, rule="lion", lr=1e-3),
]
resumed = pytest.mark.parametrize("kind", RESUMED, ids=lambda kind: kind.func.__name__)

pytestmark = [
    # Of Lightning: it uses what torch is about to drop, and asks for worker processes, which 48 points do not need.
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse the network; leave threads, random numbers and accelerate's global state as they were."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(1)  # for tensors of a few kilobytes, which more would only wait for
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(before)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def _same(first: nn.Module, second: nn.Module) -> None:
    """Weights are equal in every bit."""
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


# --- Hugging Face ---------------------------------------------------------------------------------


def _sentences() -> Any:
    generator = torch.Generator().manual_seed(7)
    # A letter is followed by its double, modulo 29: something to learn.
    first = torch.randint(1, 29, (64, 1), generator=generator)
    rows = first * 2 ** torch.arange(8) % 29
    return [{"input_ids": row, "labels": row} for row in rows]


def _trained(
    folder: Path, kind: Any, checkpoint: str | None = None, *,
    dtype: torch.dtype = torch.float32, as_class: bool = False, **options: Any,
) -> Any:  # fmt: skip
    """Train with an optimizer and a schedule of ours, or let the trainer make both ``as_class`` and arguments say."""
    set_seed(3)
    config = GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=29, n_positions=8, bos_token_id=0, eos_token_id=0)
    model: Any = GPT2LMHeadModel(config)  # with dropout, and one matrix at both ends
    optimizer = kind(model.to(dtype).parameters())
    schedule = OneCycleLR(optimizer, max_lr=1e-2, total_steps=STEPS, cycle_momentum=False)
    made: Any = {"optimizers": (optimizer, schedule)}
    if as_class:
        made = {"optimizer_cls_and_kwargs": (kind.func, kind.keywords)}
    arguments = TrainingArguments(
        str(folder), max_steps=STEPS, per_device_train_batch_size=8, save_steps=HALF, logging_steps=1, use_cpu=True,
        report_to="none", disable_tqdm=True, log_level="error", dataloader_pin_memory=False, **options,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=_sentences(), **made)
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer


def _losses(trainer: Any) -> Tensor:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == STEPS
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"gradient_accumulation_steps": 2}, marks=pytest.mark.slow),
        {"as_class": True, "weight_decay": 0.1},
    ],
)
def test_a_trainer_run_equals_that_of_torch(options: dict[str, Any], tmp_path: Path) -> None:
    ours = _trained(tmp_path / "ours", ADAMW, dtype=torch.float64, **options)
    theirs = _trained(tmp_path / "theirs", TORCH_ADAMW, dtype=torch.float64, **options)
    assert _losses(ours)[-1] < 0.9 * _losses(ours)[0]
    torch.testing.assert_close(_losses(ours), _losses(theirs), rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.model.state_dict(), theirs.model.state_dict(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "kind",
    [RESUMED[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in RESUMED[1:])],
    ids=lambda kind: kind.func.__name__,
)
def test_a_trainer_resumes_in_every_bit(kind: Any, tmp_path: Path) -> None:
    straight = _trained(tmp_path, kind)
    again = _trained(tmp_path, kind, str(tmp_path / f"checkpoint-{HALF}"))
    torch.testing.assert_close(_losses(again), _losses(straight), rtol=0, atol=0)
    _same(again.model, straight.model)


@pytest.mark.parametrize(
    ("first", "then"), [(TORCH_ADAMW, ADAMW), (ADAMW, TORCH_ADAMW)], ids=["from torch", "to torch"]
)
def test_a_trainer_goes_on_with_the_other_optimizer(first: Any, then: Any, tmp_path: Path) -> None:
    straight = _trained(tmp_path, first, dtype=torch.float64)
    again = _trained(tmp_path, then, str(tmp_path / f"checkpoint-{HALF}"), dtype=torch.float64)
    torch.testing.assert_close(_losses(again), _losses(straight), rtol=1e-12, atol=0)


# --- accelerate -----------------------------------------------------------------------------------


def _points(dtype: torch.dtype = torch.float32) -> DataLoader[Any]:
    x = torch.randn(48, 5, generator=torch.Generator().manual_seed(11)).to(dtype)
    pairs: Any = list(zip(x, x.sin().sum(dim=1, keepdim=True), strict=True))
    return DataLoader(pairs, batch_size=8)


class Accelerated:
    """A small network with dropout, prepared by accelerate, that steps after every second batch."""

    def __init__(self, kind: Any, dtype: torch.dtype = torch.float32, seed: int = 5) -> None:
        set_seed(seed)
        network = nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Dropout(0.1), nn.Linear(32, 1)).to(dtype)
        optimizer = kind(network.parameters())
        schedule = CosineAnnealingLR(optimizer, STEPS)
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
        self.network, self.optimizer, self.loader, self.schedule = self.accelerator.prepare(
            network, optimizer, _points(dtype), schedule
        )

    def train(self, epochs: int) -> list[float]:
        losses = []
        for x, y in [batch for _ in range(epochs) for batch in self.loader]:
            with self.accelerator.accumulate(self.network):
                loss = nn.functional.mse_loss(self.network(x), y)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.network.parameters(), 1.0)
                self.optimizer.step()
                self.schedule.step()
                self.optimizer.zero_grad()
            losses.append(loss.item())
        return losses


def test_an_accelerated_run_equals_that_of_torch() -> None:
    ours, theirs = (Accelerated(kind, torch.float64).train(4) for kind in (ADAMW, TORCH_ADAMW))
    assert sum(ours[-6:]) < 0.9 * sum(ours[:6])
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


@resumed
def test_an_accelerated_run_resumes_in_every_bit(kind: Any, tmp_path: Path) -> None:
    straight = Accelerated(kind)
    straight.train(2)
    straight.accelerator.save_state(str(tmp_path))
    losses = straight.train(2)
    again = Accelerated(kind, seed=6)
    again.accelerator.load_state(str(tmp_path))
    assert again.train(2) == losses
    _same(again.network, straight.network)


# --- Lightning ------------------------------------------------------------------------------------


class Module(lightning.LightningModule):
    """A small network that Lightning trains, with a schedule by steps."""

    def __init__(self, kind: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.kind, self.losses = kind, list[float]()
        self.network = nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 1)).to(dtype)
        self.points = _points(dtype)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        loss = nn.functional.mse_loss(self.network(batch[0]), batch[1])
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = self.kind(self.network.parameters())
        schedule = CosineAnnealingLR(optimizer, 4 * STEPS)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _fit(module: Module, epochs: int, folder: Path, checkpoint: Path | None = None, **options: Any) -> Module:
    """Train with clipped gradients, and leave ``last.ckpt`` in ``folder``."""
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, gradient_clip_val=1.0, default_root_dir=folder, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(module, module.points, ckpt_path=checkpoint)
    trainer.save_checkpoint(folder / "last.ckpt")
    return module


def test_a_lightning_run_equals_that_of_torch(tmp_path: Path) -> None:
    ours, theirs = (
        _fit(Module(kind, torch.float64), 4, tmp_path / str(i), precision="64-true").losses
        for i, kind in enumerate([ADAMW, TORCH_ADAMW])
    )
    assert sum(ours[-6:]) < 0.9 * sum(ours[:6])
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


@resumed
def test_a_lightning_run_resumes_in_every_bit(kind: Any, tmp_path: Path) -> None:
    straight = _fit(Module(kind), 4, tmp_path / "straight")
    half = _fit(Module(kind), 2, tmp_path / "half")
    again = _fit(Module(kind), 4, tmp_path / "again", tmp_path / "half" / "last.ckpt")
    assert half.losses + again.losses == straight.losses
    _same(again, straight)


def _by_hand(module: Module, epochs: int) -> Module:
    """Train with clipped gradients and a forward pass in bfloat16, without Lightning."""
    made = module.configure_optimizers()
    for batch in [batch for _ in range(epochs) for batch in module.points]:
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            loss = module.training_step(batch)
        made["optimizer"].zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        made["optimizer"].step()
        made["lr_scheduler"]["scheduler"].step()
    return module


def test_lightning_clips_gradients_in_mixed_precision(tmp_path: Path) -> None:
    module = _fit(Module(ADAMW), 4, tmp_path / "ours", precision="bf16-mixed")
    same = _by_hand(Module(ADAMW), 4)
    assert module.losses == same.losses
    _same(module, same)
    # Lightning refuses those who unscale gradients in their step. If it no longer does, this test says nothing.
    with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
        _fit(Module(partial(torch.optim.AdamW, fused=True)), 1, tmp_path / "fused", precision="bf16-mixed")
