# Generated from the catalogue by docs/generate.py; do not edit.
# ruff: noqa
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax.typing
import optax

from steprule.doors.jax.convert import encode as encode
from steprule.doors.jax.convert import from_optax as from_optax
from steprule.doors.jax.convert import to_optax as to_optax
from steprule.doors.jax.evaluated import EvaluatedState as EvaluatedState
from steprule.doors.jax.evaluated import evaluated as evaluated
from steprule.doors.jax.evaluated import schedule_free_eval_params as schedule_free_eval_params
from steprule.doors.jax.muon import muon as muon
from steprule.doors.jax.scaled import centralize as centralize
from steprule.doors.jax.scaled import scale_by_trust_ratio as scale_by_trust_ratio
from steprule.doors.jax.slots import Coded as Coded
from steprule.doors.jax.slots import EightBit as EightBit
from steprule.doors.jax.slots import NonNegativeEightBit as NonNegativeEightBit
from steprule.doors.jax.slots import decode as decode
from steprule.doors.jax.training import Training as Training
from steprule.doors.jax.transformation import State as State
from steprule.doors.jax.transformation import Step as Step
from steprule.doors.jax.transformation import step as step
from steprule.doors.jax.transformation import transformation as transformation

_Value = jax.typing.ArrayLike | Callable[..., Any]

__all__ = [
    "Coded",
    "EightBit",
    "EvaluatedState",
    "NonNegativeEightBit",
    "State",
    "Step",
    "Training",
    "adabelief",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adam_mini",
    "adamax",
    "adamaxw",
    "adamw",
    "adan",
    "ademamix",
    "adopt",
    "amsgrad",
    "asgd",
    "came",
    "centralize",
    "dadapt_adam",
    "dadapt_adamw",
    "decode",
    "encode",
    "evaluated",
    "from_optax",
    "lamb",
    "laprop",
    "lars",
    "lion",
    "mars",
    "momentum",
    "momentum_ema",
    "muon",
    "nadam",
    "nadamw",
    "normuon",
    "novograd",
    "prodigy",
    "radam",
    "rmsprop",
    "rprop",
    "scale_by_trust_ratio",
    "schedule_free_adamw",
    "schedule_free_eval_params",
    "schedule_free_sgd",
    "sgd",
    "signum",
    "step",
    "to_optax",
    "transformation",
    "yogi",
]

def adabelief(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    eps: _Value = ...,
    eps_root: _Value | None = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return adabelief as a transformation of optax.

    The arguments and defaults are those of ``optax.adabelief``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Adam that divides by the spread of g around its average, not by its size.

    ``eps`` enters twice, as in the paper: it is added to s at every step, and to the root. Its
    default is that of the authors' code; the text says 1e-8. If given, ``eps_root`` is added to s
    instead (optax). The bias correction of m and s, which the paper omits from its listing for
    simplicity, is always on. At beta1 = 0, g is its own average, so with eps = 0 the step divides
    by zero.

    Source: Zhuang et al. 2020, Algorithm 2, arXiv:2010.07468.
    """
    ...

def adadelta(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    rho: _Value = ...,
    eps: _Value = ...,
    weight_decay: _Value = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return adadelta as a transformation of optax.

    The arguments and defaults are those of ``optax.adadelta``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    The step has the units of theta: the RMS of past steps over the RMS of gradients.

    The paper has no ``lr`` (it is 1); torch.optim.Adadelta multiplies by it and has rho = 0.9. At
    rho = 1 both averages stay zero, so with eps = 0 the division is 0 / 0 there (the result is
    NaN).

    Source: Zeiler 2012, Algorithm 1, arXiv:1212.5701.
    """
    ...

def adafactor(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value | None = ...,
    beta2: _Value | None = ...,
    decay_rate: _Value = ...,
    eps1: _Value = ...,
    eps2: _Value | None = ...,
    clip_threshold: _Value = ...,
    weight_decay: _Value = ...,
    relative_step: bool = ...,
    clamp: bool = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return adafactor as a transformation of optax.

    The arguments and defaults are those of ``optax.adafactor``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Adam's second moment in two factors, a number of each row and column, and steps in the size of the tensor.

    A vector has the second moment of each element, which is c. The step has an RMS of at most
    ``clip_threshold``, times min(lr, 1/sqrt(t)) (``relative_step``; else lr), times the RMS of theta,
    which counts as ``eps2`` at least; with None lr is the size itself. The moment's decay is
    1 - t**-decay_rate, or ``beta2`` with Adam's bias correction. ``beta1`` averages the steps.
    ``clamp`` has torch.optim.Adafactor's use of ``eps1``: no part of the squares, but the least root of
    the second moment, and the least mean of r of a matrix.

    Source: Shazeer & Stern 2018, Algorithms 4 and 5, arXiv:1804.04235.
    """
    ...

def adagrad(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    eps: _Value = ...,
    lr_decay: _Value = ...,
    initial_accumulator: _Value = ...,
    eps_inside: bool = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return adagrad as a transformation of optax.

    The arguments and defaults are those of ``optax.adagrad``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Each element's rate falls with the root of the sum of its squared gradients.

    ``eps`` is added to the root, or under the root with ``eps_inside``. ``lr_decay`` divides lr by
    1 + (t - 1) lr_decay (torch.optim.Adagrad). ``initial_accumulator`` is G before the first step.

    Source: Duchi, Hazan & Singer 2011, Figure 1 (diagonal), JMLR 12.
    """
    ...

def adam(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    eps: _Value = ...,
    psi: _Value | None = ...,
    eps_root: _Value | None = ...,
    bias_correction: bool = ...,
    eps_inside: bool = ...,
    eps_hat: bool = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return adam as a transformation of optax.

    The arguments and defaults are those of ``optax.adam``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Step along an average of gradients over the root of an average of their squares.

    ``bias_correction`` removes the bias towards the zero start (False: the ablation of the paper's
    section 6.4). ``eps`` is added to the root, or under the root with ``eps_inside`` (a common
    variant). ``eps_hat`` adds it to the root of v before the correction, as in the more efficient
    order at the end of the paper's section 2 (torch.optim.SparseAdam). ``eps_root`` is added under
    the root in addition to ``eps`` (optax).

    Source: Kingma & Ba 2015, Algorithm 1, arXiv:1412.6980.
    """
    ...

def adam_mini(
    learning_rate: _Value | None = None,
    *,
    b1: _Value | None = None,
    b2: _Value | None = None,
    lr: _Value | None = None,
    beta1: _Value = 0.9,
    beta2: _Value = 0.999,
    eps: _Value = 1e-08,
    weight_decay: _Value = 0.0,
    blocks: Literal["row", "tensor"] = "row",
    states: str | Mapping[str, str] = "float32",
    min_elements: int | None = None,
    seed: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return adam_mini as a transformation of optax.

    Beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    AdamW with one second moment, the mean of the squared gradients, for each row.

    A row, all that has one index along the first axis, is a neuron's weights, a filter, or a token's
    embedding. A vector is one row, as norms' weights are in the authors' code, where biases step by
    AdamW. Queries and keys have a block for each head there: give them as tensors whose first axis
    counts the heads. With ``blocks="tensor"`` the whole tensor is one block.

    Source: Zhang et al. 2024, Algorithm 1, arXiv:2406.16793.
    """
    ...

def adamax(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    eps: _Value | None = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return adamax as a transformation of optax.

    The arguments and defaults are those of ``optax.adamax``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Adam with the infinity norm: u is a decayed maximum of |g|.

    The paper has no epsilon; where u is 0 the division is skipped and the element does not change.
    ``eps`` is added to |g|, as in torch.optim.Adamax.

    Source: Kingma & Ba 2015, Algorithm 2, arXiv:1412.6980.
    """
    ...

def adamaxw(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    eps: _Value | None = ...,
    weight_decay: _Value = ...,
    scale_by_lr: bool = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return adamaxw as a transformation of optax.

    The arguments and defaults are those of ``optax.adamaxw``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    With decoupled weight decay: before the step, theta shrinks by ``lr * weight_decay * theta``, or by
    ``weight_decay * theta`` if ``scale_by_lr`` is False (the paper's form; the decay has its own schedule).

    Adam with the infinity norm: u is a decayed maximum of |g|.

    The paper has no epsilon; where u is 0 the division is skipped and the element does not change.
    ``eps`` is added to |g|, as in torch.optim.Adamax.

    Source: Kingma & Ba 2015, Algorithm 2, arXiv:1412.6980; decay: Loshchilov & Hutter 2019, Algorithm 2, arXiv:1711.05101.
    """
    ...

def adamw(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    eps: _Value = ...,
    psi: _Value | None = ...,
    eps_root: _Value | None = ...,
    weight_decay: _Value = ...,
    scale_by_lr: bool = ...,
    bias_correction: bool = ...,
    eps_inside: bool = ...,
    eps_hat: bool = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return adamw as a transformation of optax.

    The arguments and defaults are those of ``optax.adamw``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    With decoupled weight decay: before the step, theta shrinks by ``lr * weight_decay * theta``, or by
    ``weight_decay * theta`` if ``scale_by_lr`` is False (the paper's form; the decay has its own schedule).

    Step along an average of gradients over the root of an average of their squares.

    ``bias_correction`` removes the bias towards the zero start (False: the ablation of the paper's
    section 6.4). ``eps`` is added to the root, or under the root with ``eps_inside`` (a common
    variant). ``eps_hat`` adds it to the root of v before the correction, as in the more efficient
    order at the end of the paper's section 2 (torch.optim.SparseAdam). ``eps_root`` is added under
    the root in addition to ``eps`` (optax).

    Source: Kingma & Ba 2015, Algorithm 1, arXiv:1412.6980; decay: Loshchilov & Hutter 2019, Algorithm 2, arXiv:1711.05101.
    """
    ...

def adan(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    beta3: _Value = ...,
    eps: _Value = ...,
    weight_decay: _Value = ...,
    bias_correction: bool = ...,
    eps_root: _Value | None = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return adan as a transformation of optax.

    The arguments and defaults are those of ``optax.adan``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Nesterov momentum reformulated: averages of g, of its change, and of the square of their combination.

    The betas are decay rates, one minus the paper's. ``bias_correction`` is that of the authors'
    code; the paper's algorithm has none, and starts m and n at the first gradient and its square,
    where here they start at zero. ``weight_decay`` is the paper's proximal form, which is
    (theta - step) / (1 + lr weight_decay), written as a difference. In the first step the change
    of g counts as zero. ``eps_root`` is added under the root in addition to ``eps`` (optax).

    Source: Xie et al. 2022, Algorithm 1, arXiv:2208.06677.
    """
    ...

def ademamix(
    learning_rate: _Value | None = None,
    *,
    b1: _Value | None = None,
    b2: _Value | None = None,
    b3: _Value | None = None,
    lr: _Value | None = None,
    beta1: _Value = 0.9,
    beta2: _Value = 0.999,
    beta3: _Value = 0.9999,
    alpha: _Value = 5.0,
    eps: _Value = 1e-08,
    warmup: _Value | None = None,
    states: str | Mapping[str, str] = "float32",
    min_elements: int | None = None,
    seed: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return ademamix as a transformation of optax.

    Beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Adam with a second, much slower average of gradients, weighted by alpha.

    ``warmup`` (a number of steps) increases alpha linearly from 0, and beta3 from beta1 such that
    its half-life grows linearly, as the paper's schedulers f_alpha and f_beta3 do; with None both
    are constant. f_beta3 is undefined at beta1 = 0, where its limit is used: the half-life grows
    from zero, and beta3 starts as beta3^(warmup / t) (the authors' code adds 1e-8 to beta1, which
    gives nearly the same). The paper's weight decay is ``decoupled(ademamix)``.

    Source: Pagliardini, Ablin & Grangier 2024, Algorithm 1, arXiv:2409.03137.
    """
    ...

def adopt(
    learning_rate: _Value | None = None,
    *,
    b1: _Value | None = None,
    b2: _Value | None = None,
    lr: _Value | None = None,
    beta1: _Value = 0.9,
    beta2: _Value = 0.9999,
    eps: _Value = 1e-06,
    clip: bool = False,
    states: str | Mapping[str, str] = "float32",
    min_elements: int | None = None,
    seed: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return adopt as a transformation of optax.

    Beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Adam that converges for any beta2: g is divided by the root of the previous step's v, and then averaged.

    The first step only sets v = g^2, and m starts at zero (in the first version of the paper, m
    starts at the first divided gradient). ``clip`` bounds the divided gradient by (t - 1)^(1/4), as
    the authors' later code does.

    Source: Taniguchi et al. 2024, Algorithm 1, arXiv:2411.02853.
    """
    ...

def amsgrad(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    eps: _Value = ...,
    correction: Literal["none", "after_max", "before_max"] = ...,
    eps_root: _Value | None = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return amsgrad as a transformation of optax.

    The arguments and defaults are those of ``optax.amsgrad``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Adam whose second moment never decreases: it divides by the largest v so far.

    ``correction="none"`` is the paper's form (which has no epsilon either; use eps=0 for that).
    ``"after_max"`` takes the maximum of v and corrects it for bias afterwards (torch.optim.Adam
    with amsgrad=True); ``"before_max"`` takes the maximum of the corrected v (optax.amsgrad).
    ``eps_root`` is added under the root in addition to ``eps`` (optax). For the paper's projection
    onto the feasible set use ``steprule.minimize(bounds=...)``.

    Source: Reddi, Kale & Kumar 2018, Algorithm 2, arXiv:1904.09237.
    """
    ...

def asgd(
    learning_rate: _Value | None = None,
    *,
    lr: _Value | None = None,
    lambd: _Value = 0.0001,
    alpha: _Value = 0.75,
    t0: _Value = 1000000.0,
    lagged: bool = False,
    states: str | Mapping[str, str] = "float32",
    min_elements: int | None = None,
    seed: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return asgd as a transformation of optax.

    Beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Gradient descent with a decreasing step size, and ax, the average of the iterates from step t0 + 2 on.

    The step size is lr / (1 + lambd lr (t - 1))^alpha, and theta decays by lambd times that (the L2
    term of Bottou's objective, as in torch.optim.ASGD). Before step t0 + 2 the average is theta
    itself. ``lagged`` stores the step size and the weight for the next step in eta and mu
    (torch.optim.ASGD), so that a change of lr takes effect one step later.

    Source: Polyak & Juditsky 1992, doi:10.1137/0330046; step sizes: Bottou 2012, Stochastic Gradient Descent Tricks.
    """
    ...

def came(
    learning_rate: _Value | None = None,
    *,
    b1: _Value | None = None,
    b2: _Value | None = None,
    b3: _Value | None = None,
    lr: _Value | None = None,
    beta1: _Value = 0.9,
    beta2: _Value = 0.999,
    beta3: _Value = 0.9999,
    eps1: _Value = 1e-30,
    eps2: _Value = 1e-16,
    clip_threshold: _Value = 1.0,
    weight_decay: _Value = 0.0,
    states: str | Mapping[str, str] = "float32",
    min_elements: int | None = None,
    seed: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return came as a transformation of optax.

    Beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Adafactor's average step, smaller where single steps have been far from it.

    r and c are the factors of the second moment, r_s and c_s those of an average of the squared
    distances, the paper's S. A vector has the second moment of each element, which is c, and steps by
    m, as in the authors' code. Their weight decay is decoupled.

    Source: Luo et al. 2023, Algorithm 2, arXiv:2307.02047.
    """
    ...

def dadapt_adam(
    learning_rate: _Value | None = None,
    *,
    b1: _Value | None = None,
    b2: _Value | None = None,
    lr: _Value | None = None,
    beta1: _Value = 0.9,
    beta2: _Value = 0.999,
    eps: _Value = 1e-08,
    weight_decay: _Value = 0.0,
    d0: _Value = 1e-06,
    growth_rate: _Value | None = None,
    bias_correction: bool = False,
    decoupled_decay: bool = False,
    states: str | Mapping[str, str] = "float32",
    min_elements: int | None = None,
    seed: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return dadapt_adam as a transformation of optax.

    Beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Adam with lr times a lower bound d of how far away the solution is, which grows from d0.

    Sums are over all tensors together. From the authors' code: the product in r is with v as it was
    before the step; ``growth_rate`` is the largest factor by which d grows in a step;
    ``bias_correction`` is Adam's, in lr; the decay is part of the gradient, or with
    ``decoupled_decay`` of the step. optax's dadapt_adamw has the last two always. After a
    gradient that is not finite d stays.

    Source: Defazio & Mishchenko 2023, Adam with D-Adaptation, arXiv:2301.07733.
    """
    ...

def dadapt_adamw(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    eps: _Value = ...,
    weight_decay: _Value = ...,
    d0: _Value = ...,
    growth_rate: _Value | None = ...,
    bias_correction: bool = ...,
    decoupled_decay: bool = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return dadapt_adamw as a transformation of optax.

    The arguments and defaults are those of ``optax.contrib.dadapt_adamw``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Adam with lr times a lower bound d of how far away the solution is, which grows from d0.

    Sums are over all tensors together. From the authors' code: the product in r is with v as it was
    before the step; ``growth_rate`` is the largest factor by which d grows in a step;
    ``bias_correction`` is Adam's, in lr; the decay is part of the gradient, or with
    ``decoupled_decay`` of the step. optax's dadapt_adamw has the last two always. After a
    gradient that is not finite d stays.

    Source: Defazio & Mishchenko 2023, Adam with D-Adaptation, arXiv:2301.07733.
    """
    ...

def lamb(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    eps: _Value = ...,
    weight_decay: _Value = ...,
    bias_correction: bool = ...,
    eps_root: _Value | None = ...,
    norm_limit: _Value | None = ...,
    ratio_limit: _Value | None = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return lamb as a transformation of optax.

    The arguments and defaults are those of ``optax.lamb``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    AdamW's step, scaled to lr times the size of the tensor.

    The step of each tensor is multiplied by its trust ratio, the norm of theta over that of the
    step; where one of both is 0 or not a number, the ratio is 1. ``norm_limit`` limits the norm of
    theta (the upper end of the paper's phi; 10 in early code), ``ratio_limit`` the ratio itself
    (LAMBC: 1). ``bias_correction`` is in Algorithm 2, but not in the paper's third version and in
    some code. ``eps_root`` is added under the root in addition to ``eps`` (optax).
    ``trust_ratio(adamw)`` is the same, with another default of ``eps``.

    Source: You et al. 2020, Algorithm 2, arXiv:1904.00962; ratio_limit: Fong et al. 2020, arXiv:2011.13584.
    """
    ...

def laprop(
    learning_rate: _Value | None = None,
    *,
    b1: _Value | None = None,
    b2: _Value | None = None,
    lr: _Value | None = None,
    beta1: _Value = 0.9,
    beta2: _Value = 0.999,
    eps: _Value = 1e-15,
    centered: bool = False,
    states: str | Mapping[str, str] = "float32",
    min_elements: int | None = None,
    seed: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return laprop as a transformation of optax.

    Beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Adam with its halves apart: g is divided by its root mean square first, and averaged then.

    beta1 and beta2 are the paper's mu and nu. ``centered`` subtracts the square of the average
    gradient (slot g_avg) after the tenth step, as in the authors' code; if rounding makes the
    variance negative, it counts as zero. As in the paper, lr multiplies the average; in the
    authors' code it enters the average, so that a schedule of lr acts later there.

    Source: Ziyin, Wang & Ueda 2020, Algorithm 1, arXiv:2002.04839.
    """
    ...

def lars(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    momentum: _Value | None = ...,
    weight_decay: _Value = ...,
    trust_coefficient: _Value = ...,
    eps: _Value = ...,
    nesterov: bool = ...,
    norm_of_sum: bool = ...,
    lr_outside: bool = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return lars as a transformation of optax.

    The arguments and defaults are those of ``optax.lars``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Heavy ball whose steps have the size of their tensor, whatever the size of the gradient.

    The gradient with its decay is multiplied by ``trust_coefficient`` times the norm of theta over
    the sum of the norms of both parts plus ``eps``, or over the norm of their sum with
    ``norm_of_sum`` (optax). Where the norm of theta or that of the gradient (optax: of the sum) is 0
    or not a number, this ratio is 1. As in the paper, lr enters b, so that a schedule acts later;
    with ``lr_outside`` it does not (timm, pytorch_optimizer). ``momentum`` None keeps no b.
    ``nesterov`` looks ahead along b.

    Source: You, Gitman & Ginsburg 2017, Algorithm 1, arXiv:1708.03888.
    """
    ...

def lion(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    weight_decay: _Value = ...,
    scale_by_lr: bool = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return lion as a transformation of optax.

    The arguments and defaults are those of ``optax.lion``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    With decoupled weight decay: before the step, theta shrinks by ``lr * weight_decay * theta``, or by
    ``weight_decay * theta`` if ``scale_by_lr`` is False (the paper's form; the decay has its own schedule).

    Step by the sign of an average of gradients; the average that is stored is a slower one.

    The paper's weight decay is ``decoupled(lion)``.

    Source: Chen et al. 2023, Algorithm 2, arXiv:2302.06675; decay: Loshchilov & Hutter 2019, Algorithm 2, arXiv:1711.05101.
    """
    ...

def mars(
    learning_rate: _Value | None = None,
    *,
    b1: _Value | None = None,
    b2: _Value | None = None,
    lr: _Value | None = None,
    beta1: _Value = 0.95,
    beta2: _Value = 0.99,
    eps: _Value = 1e-08,
    gamma: _Value = 0.025,
    weight_decay: _Value = 0.0,
    from_zero: bool = False,
    states: str | Mapping[str, str] = "float32",
    min_elements: int | None = None,
    seed: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return mars as a transformation of optax.

    Beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    AdamW on gradients from which some of their noise is removed, by their change since the last step.

    c = g + gamma beta1 / (1 - beta1) (g - g_prev), divided by its norm over the tensor where that is
    above 1, stands for g in both averages. The exact form of the paper evaluates the last gradient
    on this step's data; here, as in the paper's experiments, it is the last step's own. Before the
    first step it counts as equal to the first, as in the paper; with ``from_zero`` as 0, as in the
    authors' code, which steps only matrices in this way, and others by AdamW.

    Source: Yuan et al. 2024, Algorithm 2 (MARS-AdamW, approximate), arXiv:2411.10438.
    """
    ...

def momentum(
    learning_rate: _Value | None = None,
    *,
    lr: _Value | None = None,
    mu: _Value = 0.9,
    dampening: _Value = 0.0,
    nesterov: bool = False,
    states: str | Mapping[str, str] = "float32",
    min_elements: int | None = None,
    seed: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return momentum as a transformation of optax.

    Beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Heavy ball: b sums past gradients, decayed by mu.

    ``dampening`` scales the gradients that enter b by 1 - dampening, from the second step on (as in
    torch.optim.SGD; the first gradient enters unscaled). The learning rate is applied outside b, as
    in torch; if it were inside (Polyak), a schedule would act later. ``nesterov`` looks ahead: it
    steps along g + mu b.

    Source: Polyak 1964, doi:10.1016/0041-5553(64)90137-5; Nesterov form: Sutskever et al. 2013, PMLR 28(3).
    """
    ...

def momentum_ema(
    learning_rate: _Value | None = None,
    *,
    lr: _Value | None = None,
    beta: _Value = 0.9,
    states: str | Mapping[str, str] = "float32",
    min_elements: int | None = None,
    seed: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return momentum_ema as a transformation of optax.

    Beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Momentum as an exponential average: the heavy ball with its step scaled by 1 - beta.

    Source: first moment of Kingma & Ba 2015, Algorithm 1, without bias correction, arXiv:1412.6980.
    """
    ...

def nadam(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    eps: _Value = ...,
    psi: _Value | None = ...,
    eps_root: _Value | None = ...,
    bias_correction: bool = ...,
    eps_inside: bool = ...,
    eps_hat: bool = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return nadam as a transformation of optax.

    The arguments and defaults are those of ``optax.nadam``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Adam with Nesterov's look-ahead and a momentum mu_t that warms up.

    mu_t = beta1 (1 - 0.5 * 0.96^(t psi)); m is corrected by one minus the running product of all mu
    (slot mu_product, one number). m itself decays by the constant beta1, as in Dozat's report and
    torch.optim.NAdam; in the workshop paper it decays by mu_t. With ``psi`` None, mu_t is beta1
    from the first step on, and no product is kept (optax.nadam). ``eps_root`` is added under the
    root in addition to ``eps`` (optax).

    Source: Dozat 2016, ICLR workshop, Algorithm 2, and his report's Algorithm 8.
    """
    ...

def nadamw(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    eps: _Value = ...,
    psi: _Value | None = ...,
    eps_root: _Value | None = ...,
    weight_decay: _Value = ...,
    scale_by_lr: bool = ...,
    bias_correction: bool = ...,
    eps_inside: bool = ...,
    eps_hat: bool = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return nadamw as a transformation of optax.

    The arguments and defaults are those of ``optax.nadamw``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    With decoupled weight decay: before the step, theta shrinks by ``lr * weight_decay * theta``, or by
    ``weight_decay * theta`` if ``scale_by_lr`` is False (the paper's form; the decay has its own schedule).

    Adam with Nesterov's look-ahead and a momentum mu_t that warms up.

    mu_t = beta1 (1 - 0.5 * 0.96^(t psi)); m is corrected by one minus the running product of all mu
    (slot mu_product, one number). m itself decays by the constant beta1, as in Dozat's report and
    torch.optim.NAdam; in the workshop paper it decays by mu_t. With ``psi`` None, mu_t is beta1
    from the first step on, and no product is kept (optax.nadam). ``eps_root`` is added under the
    root in addition to ``eps`` (optax).

    Source: Dozat 2016, ICLR workshop, Algorithm 2, and his report's Algorithm 8; decay: Loshchilov & Hutter 2019, Algorithm 2, arXiv:1711.05101.
    """
    ...

def normuon(
    learning_rate: _Value | None = None,
    *,
    b2: _Value | None = None,
    lr: _Value | None = None,
    momentum: _Value = 0.95,
    beta2: _Value = 0.95,
    weight_decay: _Value = 0.1,
    nesterov: bool = False,
    ns_steps: _Value = 5.0,
    coefficients: Literal["jordan", "polar_express"] = "jordan",
    eps: _Value = 1e-10,
    adjust_lr: Literal["match_rms_adamw", "original"] = "match_rms_adamw",
    consistent_rms: _Value = 0.2,
    states: str | Mapping[str, str] = "float32",
    min_elements: int | None = None,
    seed: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return normuon as a transformation of optax.

    Beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Muon with rows of one size: each is divided by the root of an average of its mean square.

    That is v, of the polar factor's rows, which are neurons. Then the step of a matrix gets the RMS
    ``consistent_rms`` (the paper), or, with ``adjust_lr="original"``, the norm that its polar factor
    had, times sqrt(max(1, rows/columns)) (the authors' code, which has ``nesterov``, too). ``eps`` is
    added to the root. A matrix whose polar factor is 0 stays, but for its decay.

    Source: Li et al. 2025, Algorithm 1, arXiv:2510.05491.
    """
    ...

def novograd(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    eps: _Value = ...,
    weight_decay: _Value = ...,
    eps_root: _Value | None = ...,
    grad_averaging: bool = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return novograd as a transformation of optax.

    The arguments and defaults are those of ``optax.novograd``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Sum gradients that have been divided by the norm of their tensor.

    v, one number of the tensor, averages the squared norm of g. It starts at the first one that is
    not 0, as in the authors' code; in the paper at the first. ``grad_averaging`` makes of the sum m
    an average (the authors' code has the option). ``eps_root`` is added under the root in addition
    to ``eps`` (optax).

    Source: Ginsburg et al. 2019, Algorithm 1, arXiv:1905.11286.
    """
    ...

def prodigy(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    beta3: _Value | None = ...,
    eps: _Value = ...,
    weight_decay: _Value = ...,
    d0: _Value = ...,
    d_coef: _Value = ...,
    growth_rate: _Value | None = ...,
    bias_correction: bool = ...,
    safeguard_warmup: bool = ...,
    decoupled_decay: bool = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return prodigy as a transformation of optax.

    The arguments and defaults are those of ``optax.contrib.prodigy``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Adam with lr times an estimate d of how far away the solution is, which grows from d0.

    Sums are over all tensors together; r and s are the paper's over (1 - beta3) d0, which cancels.
    ``beta3`` is by default the root of beta2. From the authors' code: ``growth_rate`` is the largest
    factor by which d grows in a step, except in the first that raises it; ``bias_correction`` is
    Adam's, in lr; ``safeguard_warmup`` keeps lr out of s. ``eps`` is multiplied by d before the step,
    as in the paper; there by the new one. After a gradient that is not finite d stays.

    Source: Mishchenko & Defazio 2023, Algorithm 4, arXiv:2306.06101.
    """
    ...

def radam(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    eps: _Value = ...,
    rho_min: _Value = ...,
    eps_hat: bool = ...,
    eps_root: _Value | None = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return radam as a transformation of optax.

    The arguments and defaults are those of ``optax.radam``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Adam that uses plain momentum until the variance of its adaptive rate is tractable.

    It adapts once rho_t > ``rho_min`` (4 in the paper, 5 in the authors' code and in
    torch.optim.RAdam). The paper has no epsilon (use eps=0 for that); ``eps`` is added to the root of
    the corrected v, or with ``eps_hat`` to the root of v before its correction (torch.optim.RAdam).
    ``eps_root`` is added under the root of the corrected v in addition (optax).

    Source: Liu et al. 2020, Algorithm 2, arXiv:1908.03265.
    """
    ...

def rmsprop(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    rho: _Value = ...,
    eps: _Value = ...,
    momentum: _Value | None = ...,
    centered: bool = ...,
    eps_inside: bool = ...,
    nesterov: bool = ...,
    initial_scale: _Value = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return rmsprop as a transformation of optax.

    The arguments and defaults are those of ``optax.rmsprop``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Divide the gradient by the root of an average of its squares.

    ``centered`` subtracts the square of the average gradient (slot g_avg), so v becomes a variance.
    If rounding makes it negative, it counts as zero; if v overflows, both terms would be infinite,
    so v alone is used and the step is 0 and not NaN. ``momentum`` steps along a heavy ball (slot b)
    of the scaled gradients, and with ``nesterov`` looks ahead along it (optax). ``eps`` is added to
    the root (torch), or under the root with ``eps_inside`` (Graves, TensorFlow). The lecture has
    rho = 0.9; the default is torch's. ``initial_scale`` is v before the first step (optax). With
    eps = 0 the step divides by zero at rho = 1, where v stays zero if it starts at zero, and at rho
    = 0 with ``centered``.

    Source: Tieleman & Hinton 2012, Coursera lecture 6.5; centered: Graves 2013, eq. 38-45, arXiv:1308.0850.
    """
    ...

def rprop(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    eta_minus: _Value = ...,
    eta_plus: _Value = ...,
    delta_min: _Value = ...,
    delta_max: _Value = ...,
    variant: Literal["irprop-", "rprop-", "rprop+"] = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return rprop as a transformation of optax.

    The arguments and defaults are those of ``optax.rprop``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Each element has its own step size delta, which grows while the sign of g stays the same and shrinks otherwise.

    ``lr`` is delta before the first step; the bounds apply from that step on. Where the sign has
    changed, ``"irprop-"`` (torch.optim.Rprop) does not step and forgets the gradient, ``"rprop-"``
    steps with the smaller delta, and ``"rprop+"`` (the original of 1993) reverts its last step
    (slot step_prev) and forgets the gradient.

    Source: Riedmiller & Braun 1993, doi:10.1109/ICNN.1993.298623; variants: Igel & Huesken 2000.
    """
    ...

def schedule_free_adamw(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    eps: _Value = ...,
    bias_correction: bool = ...,
    eps_inside: bool = ...,
    eps_hat: bool = ...,
    eps_root: _Value | None = ...,
    weight_decay: _Value = ...,
    scale_by_lr: bool = ...,
    warmup_steps: _Value = ...,
    weight_t_power: _Value = ...,
    weight_lr_power: _Value = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return schedule_free_adamw as a transformation of optax.

    The arguments and defaults are those of ``optax.contrib.schedule_free_adamw``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Schedule-free: the rule steps z, x averages z, gradients are taken at y between both, and x is evaluated.

    With decoupled weight decay: before the step, theta shrinks by ``lr * weight_decay * theta``, or by
    ``weight_decay * theta`` if ``scale_by_lr`` is False (the paper's form; the decay has its own schedule).

    Step along an average of gradients over the root of an average of their squares.

    ``bias_correction`` removes the bias towards the zero start (False: the ablation of the paper's
    section 6.4). ``eps`` is added to the root, or under the root with ``eps_inside`` (a common
    variant). ``eps_hat`` adds it to the root of v before the correction, as in the more efficient
    order at the end of the paper's section 2 (torch.optim.SparseAdam). ``eps_root`` is added under
    the root in addition to ``eps`` (optax).

    Source: Kingma & Ba 2015, Algorithm 1, arXiv:1412.6980; decay: Loshchilov & Hutter 2019, Algorithm 2, arXiv:1711.05101; schedule-free: Defazio et al. 2024, Algorithm 1, arXiv:2405.15682.
    """
    ...

def schedule_free_sgd(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    weight_decay: _Value = ...,
    beta: _Value = ...,
    warmup_steps: _Value = ...,
    weight_t_power: _Value = ...,
    weight_lr_power: _Value = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return schedule_free_sgd as a transformation of optax.

    The arguments and defaults are those of ``optax.contrib.schedule_free_sgd``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Schedule-free: the rule steps z, x averages z, gradients are taken at y between both, and x is evaluated.

    Step against the gradient: theta - lr g.

    Source: Robbins & Monro 1951, doi:10.1214/aoms/1177729586; schedule-free: Defazio et al. 2024, Algorithm 1, arXiv:2405.15682.
    """
    ...

def sgd(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    mu: _Value = ...,
    dampening: _Value = ...,
    nesterov: bool = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return sgd as a transformation of optax.

    The arguments and defaults are those of ``optax.sgd``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Step against the gradient: theta - lr g.

    Source: Robbins & Monro 1951, doi:10.1214/aoms/1177729586.
    """
    ...

def signum(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta: _Value = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return signum as a transformation of optax.

    The arguments and defaults are those of ``optax.signum``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Step by the sign of the momentum; beta = 0 is signSGD.

    Source: Bernstein et al. 2018, Algorithm 2, arXiv:1802.04434.
    """
    ...

def yogi(
    learning_rate: _Value | None = None,
    *args: Any,
    lr: _Value | None = ...,
    beta1: _Value = ...,
    beta2: _Value = ...,
    eps: _Value = ...,
    initial_accumulator: _Value = ...,
    bias_correction: bool = ...,
    states: str | Mapping[str, str] = ...,
    min_elements: int | None = ...,
    seed: Any = ...,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return yogi as a transformation of optax.

    The arguments and defaults are those of ``optax.yogi``; beside optax's names there are those of the rule, and its own options.
    What is kept, and how: see ``transformation``.

    Adam whose second moment changes by a bounded amount: by at most (1 - beta2) g^2.

    The paper has no bias correction; ``bias_correction=True`` is optax's form (which also starts m
    at the initial accumulator, here 0). ``initial_accumulator`` is v before the first step (the
    paper does not specify it).

    Source: Zaheer et al. 2018, Algorithm 2, NeurIPS 31.
    """
    ...
