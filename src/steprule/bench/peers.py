"""Who is compared: steprule's doors and its peers, a line each. Frameworks are imported by those who are made."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from steprule.bench.contestant import BETAS, DECAY, EPS, LR, Contestant
from steprule.bench.on_numpy import ByHand, OnNumpy
from steprule.bench.work import Array
from steprule.errors import HyperparameterError, suggest
from steprule.formats import SLOT_FORMATS
from steprule.version import __version__

__all__ = ["PEERS", "Peer", "chosen", "named", "version_of"]

Make = Callable[[Sequence[Array]], Contestant]


@dataclass(frozen=True)
class Peer:
    """Who takes part.

    Attributes:
        name: how tables call it, without commas, since --peers has them between names.
        what: it is, in a sentence.
        library: the distribution whose version counts.
        module: what its users import.
        make: from parameters to an optimizer that steps copies of them.
        needs: top-level modules without which it is not there.
        compiles: whether its first steps wait for a compiler, so that it takes part only if asked for.
        is_adamw: whether it follows AdamW's formula, so that it has an error against it.
        environment: variables that must be set before its import.
    """

    name: str
    what: str
    library: str
    module: str
    make: Make
    needs: tuple[str, ...]
    compiles: bool = False
    is_adamw: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """The modules that are not installed. Nothing is imported to find out."""
        return tuple(module for module in self.needs if find_spec(module) is None)


_ADAMW: dict[str, Any] = {"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY}


def _torch(
    name: str,
    what: str,
    library: str,
    class_: str,
    *,
    module: str = "",
    compiles: bool = False,
    is_adamw: bool = True,
    dtype: str = "float32",
    compiled: bool = False,
    **options: Any,
) -> Peer:
    """Return an optimizer of PyTorch's kind, of a class in a module."""
    module = module or library

    def make(thetas: Sequence[Array]) -> Contestant:
        from steprule.bench.on_torch import OnTorch

        made = getattr(import_module(module), class_)
        return OnTorch(thetas, made, dtype=dtype, compiled=compiled, **{**_ADAMW, **options})

    needs = tuple(dict.fromkeys(("torch", module.partition(".")[0])))
    return Peer(name, what, library, module, make, needs, compiles=compiles or compiled, is_adamw=is_adamw)


def _jax(name: str, what: str, library: str, made: str, needs: tuple[str, ...], **rest: Any) -> Peer:
    """Return a jitted step, of a function of ``on_jax``."""

    def make(thetas: Sequence[Array]) -> Contestant:
        contestant: Contestant = getattr(import_module("steprule.bench.on_jax"), made)(thetas)
        return contestant

    module = "steprule.jax" if library == "steprule" else library
    return Peer(name, what, library, module, make, needs, **rest)


_ours = functools.partial(_torch, library="steprule", module="steprule.torch", class_="AdamW")
_CODED = [name for name, one in SLOT_FORMATS.items() if one.signed.is_coded]
_BY_TORCH = "AdamW of torch.optim"

PEERS: tuple[Peer, ...] = (
    Peer("NumPy by hand", "AdamW in a loop over arrays, with temporaries", "numpy", "numpy", ByHand, ()),
    Peer("steprule NumPy", "AdamW of steprule.Optimizer", "steprule", "steprule", OnNumpy, ()),
    _ours("steprule torch", "AdamW of steprule.torch"),
    *(_ours(f"steprule torch {name}", f"the same with states of {name}", states=name) for name in _CODED),
    *(
        _ours(f"steprule torch {name} split24", f"bfloat16 parameters with 8 further bits, states of {name}",
              states=name, weights="split24", dtype="bfloat16")
        for name in _CODED[:1]
    ),
    _jax("steprule JAX", "AdamW of steprule.jax, jitted, donated", "steprule", "steprule", ("jax", "optax")),
    _torch("torch default", f"{_BY_TORCH}, as it comes", "torch", "AdamW", module="torch.optim"),
    _torch("torch foreach", f"{_BY_TORCH}, foreach=True", "torch", "AdamW", module="torch.optim", foreach=True),
    _torch("torch fused", f"{_BY_TORCH}, fused=True", "torch", "AdamW", module="torch.optim", fused=True),
    _torch("torch compiled", f"{_BY_TORCH}, its step compiled", "torch", "AdamW", module="torch.optim", compiled=True),
    _jax("optax", "AdamW of optax, jitted, donated", "optax", "optax", ("jax", "optax")),
    _jax("Keras on JAX", "AdamW of Keras, its stateless step jitted, donated", "keras", "keras", ("keras", "jax"),
         environment={"KERAS_BACKEND": "jax"}),
    _torch("torchao 8 bits", "AdamW8bit of torchao.optim, compiled", "torchao", "AdamW8bit", module="torchao.optim",
           compiles=True),
    _torch("torchao 4 bits", "AdamW4bit of torchao.optim, compiled", "torchao", "AdamW4bit", module="torchao.optim",
           compiles=True),
    _torch("bitsandbytes", "AdamW of bitsandbytes, on the CPU", "bitsandbytes", "AdamW", module="bitsandbytes.optim"),
    _torch("bitsandbytes 8 bits", "AdamW8bit of bitsandbytes, on the CPU", "bitsandbytes", "AdamW8bit",
           module="bitsandbytes.optim"),
    _torch("flashoptim", "FlashAdamW unquantized and unfused, which is what it has for CPUs", "flashoptim",
           "FlashAdamW", quantize=False, fused=False, master_weight_bits=None),
    _torch("torch-optimi", "AdamW of optimi, as it comes", "torch-optimi", "AdamW", module="optimi"),
    _torch("pytorch-optimizer", "StableAdamW: its AdamW is torch's own", "pytorch-optimizer", "StableAdamW",
           module="pytorch_optimizer", is_adamw=False),
    _torch("schedulefree", "AdamWScheduleFree, while it trains", "schedulefree", "AdamWScheduleFree", is_adamw=False),
    _torch("heavyball", "AdamW of HeavyBall, compiled; told to leave gradients", "heavyball", "AdamW", compiles=True,
           consume_grad=False),
    _torch("DeepSpeed", "DeepSpeedCPUAdam, which compiles itself once", "deepspeed", "DeepSpeedCPUAdam",
           module="deepspeed.ops.adam", compiles=True, adamw_mode=True),
)  # fmt: skip


def named(name: str) -> Peer:
    """Return the peer that tables call so."""
    return next(peer for peer in PEERS if peer.name == name)


def version_of(peer: Peer) -> str:
    """Return the version of a peer's library, as it was installed; empty where it was not."""
    try:
        return __version__ if peer.library == "steprule" else version(peer.library)
    except PackageNotFoundError:
        return ""


def chosen(words: Iterable[str] | None, peers: Sequence[Peer] = PEERS) -> list[Peer]:
    """Return the peers of these libraries or names; all where none is named.

    Raises:
        HyperparameterError: nobody is called so.
    """
    if words is None:
        return list(peers)
    wanted = list(words)
    known = dict.fromkeys(word for peer in peers for word in (peer.library, peer.name))
    for word in wanted:
        if word not in known:
            raise HyperparameterError(f"--peers: nobody is called {word!r}.{suggest(word, known)}")
    return [peer for peer in peers if peer.library in wanted or peer.name in wanted]
