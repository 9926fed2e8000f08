"""An Adam written by hand whose slips can be chosen: plain NumPy, nothing of steprule."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

# What is slipped, and what a check must call it.
SLIPS = {
    "eps inside": "epsilon inside the root",
    "both stored": "corrected moments are stored",
    "m stored": "corrected first moment is stored",
    "v stored": "corrected second moment is stored",
    "no correction": "no bias correction",
    "m alone": "second moment is not corrected",
    "v alone": "first moment is not corrected",
    "t from 0": "step counter starts at 0",
    "t from 2": "step counter is one ahead",
    "t per tensor": "step counter advances once a tensor",
    "shared": "state is shared between tensors",
    "uphill": "step goes uphill",
    "late": "gradient is read late",
    "kept": "gradient is kept by reference",
    "writes": "gradient is written to",
    "beta2": "beta2 is 0.99",
    "l2": "weight decay is in the gradient",
    "scaled": "weight decay is scaled otherwise",
    "float16": "moments in low precision",
}
_ONE_OF = [
    {"both stored", "m stored", "v stored", "no correction", "m alone", "v alone"},
    {"t from 0", "t from 2", "t per tensor"},
    {"late", "kept"},
    {"uphill", "l2"},  # a decay that grows
    {"l2", "scaled"},
    # A first step that is no number is kept by such moments for ever; and their squares leave half precision.
    {"t from 0", "float16", "both stored"},
    {"t from 0", "float16", "m stored"},
    {"t from 0", "float16", "v stored"},
    {"kept", "writes"},  # what is kept is what was written
    {"float16", "eps inside"},  # gradients that would show epsilon are lost in half precision
]
_NEED_CORRECTION = {"t from 0", "t from 2", "t per tensor"}


def go_together(slips: Collection[str]) -> bool:
    """Whether slips can be told from one another: one step number, one form of the moments."""
    return not any(len(one & set(slips)) > 1 for one in _ONE_OF) and not (
        "no correction" in slips and _NEED_CORRECTION & set(slips)
    )


def adam(
    slips: Collection[str],
    lr: float = 0.002,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    decay: float = 0.0,
) -> Callable[..., Any]:
    """Return an optimizer, called AdamW, with these slips."""
    beta2 = 0.99 if "beta2" in slips else beta2
    decay = 0.1 if {"l2", "scaled"} & set(slips) else decay

    def adamw(params: list[Any], grads: list[Any], state: dict[str, Any], weight_decay: float = decay) -> Any:
        if not state:
            count = 1 if "shared" in slips else len(params)
            kind = np.float16 if "float16" in slips else np.float64
            state["m"] = [np.zeros_like(p, dtype=kind) for p in params[:count]]
            state["v"] = [np.zeros_like(p, dtype=kind) for p in params[:count]]
            state["last"] = [np.zeros_like(p) for p in params]
            state["t"] = {"t from 0": -1, "t from 2": 1}.get(next(iter(_NEED_CORRECTION & set(slips)), ""), 0)
        if "t per tensor" not in slips:
            state["t"] += 1
        new = []
        for i, (p, given) in enumerate(zip(params, grads, strict=True)):
            state["t"] += "t per tensor" in slips
            t, at = state["t"], 0 if "shared" in slips else i
            g = given
            if {"late", "kept"} & set(slips):
                g = state["last"][i]
                state["last"][i] = given.copy() if "late" in slips else given
            if "l2" in slips:
                g = g + weight_decay * p
            if "writes" in slips:
                given *= 2
                g = given if not {"late", "kept", "l2"} & set(slips) else g
            m = (beta1 * state["m"][at] + (1 - beta1) * g).astype(state["m"][at].dtype)
            v = (beta2 * state["v"][at] + (1 - beta2) * g * g).astype(state["v"][at].dtype)
            m_hat = m if {"no correction", "v alone"} & set(slips) else m / (1 - beta1**t)
            v_hat = v if {"no correction", "m alone"} & set(slips) else v / (1 - beta2**t)
            state["m"][at] = m_hat if {"both stored", "m stored"} & set(slips) else m
            state["v"][at] = v_hat if {"both stored", "v stored"} & set(slips) else v
            m_hat, v_hat = m_hat.astype(np.float64), v_hat.astype(np.float64)
            root = np.sqrt(v_hat + eps) if "eps inside" in slips else np.sqrt(v_hat) + eps
            shrink = 0.0 if "l2" in slips else weight_decay if "scaled" in slips else lr * weight_decay
            step = -lr * m_hat / root if "uphill" in slips else lr * m_hat / root
            new.append(p - shrink * p - step)
        return new

    return adamw
