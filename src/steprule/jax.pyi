# Generated from the catalogue by docs/generate.py; do not edit.
# ruff: noqa
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax.typing
import optax

from steprule.doors.jax.convert import encode as encode
from steprule.doors.jax.convert import from_optax as from_optax
from steprule.doors.jax.convert import to_optax as to_optax
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
    "NonNegativeEightBit",
    "State",
    "Step",
    "Training",
    "adabelief",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamaxw",
    "adamw",
    "adan",
    "ademamix",
    "adopt",
    "amsgrad",
    "asgd",
    "decode",
    "encode",
    "from_optax",
    "lion",
    "momentum",
    "momentum_ema",
    "nadam",
    "nadamw",
    "radam",
    "rmsprop",
    "rprop",
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

    ``eps`` enters twice, as the paper says: added to s at every step, and to the root. Its value is
    that of the authors' code; the text says 1e-8. ``eps_root`` is added to s in its place (optax).
    The correction of m and s for bias, which the paper leaves out of its listing for simplicity, is
    always on. At beta1 = 0 g is its own average, so eps = 0 leaves nothing to divide by there.

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

    The paper has no ``lr`` (it is 1); torch.optim.Adadelta multiplies by it and has rho = 0.9.
    At rho = 1 both averages stay zero, so eps = 0 leaves nothing to divide by there (the result is NaN).

    Source: Zeiler 2012, Algorithm 1, arXiv:1212.5701.
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

    ``eps`` is added to the root, or with ``eps_inside`` under it. ``lr_decay`` divides lr by
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

    ``bias_correction`` undoes the pull of the zero start (False: the ablation of the paper's
    section 6.4). ``eps`` is added to the root, or with ``eps_inside`` under it (a common variant).
    ``eps_hat`` adds it to the root of v before the correction, as the faster order at the end of
    the paper's section 2 does (torch.optim.SparseAdam). ``eps_root`` is added under the root besides
    (optax).

    Source: Kingma & Ba 2015, Algorithm 1, arXiv:1412.6980.
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

    The paper has no epsilon; where u is 0 there is nothing to divide by and the element stays.
    ``eps`` is added to |g| as torch.optim.Adamax does.

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

    With decoupled weight decay: theta shrinks by 1 - lr weight_decay before the step, or by 1 - weight_decay
    where ``scale_by_lr`` is False (the paper's form, in which the decay has a schedule of its own).

    Adam with the infinity norm: u is a decayed maximum of |g|.

    The paper has no epsilon; where u is 0 there is nothing to divide by and the element stays.
    ``eps`` is added to |g| as torch.optim.Adamax does.

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

    With decoupled weight decay: theta shrinks by 1 - lr weight_decay before the step, or by 1 - weight_decay
    where ``scale_by_lr`` is False (the paper's form, in which the decay has a schedule of its own).

    Step along an average of gradients over the root of an average of their squares.

    ``bias_correction`` undoes the pull of the zero start (False: the ablation of the paper's
    section 6.4). ``eps`` is added to the root, or with ``eps_inside`` under it (a common variant).
    ``eps_hat`` adds it to the root of v before the correction, as the faster order at the end of
    the paper's section 2 does (torch.optim.SparseAdam). ``eps_root`` is added under the root besides
    (optax).

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

    Nesterov momentum reformulated: averages of g, of its change, and of the square of both.

    The betas are decays, one minus the paper's. ``bias_correction`` is that of the authors' code;
    the paper's algorithm has none, and starts m and n at the first gradient and its square, where
    these start at zero. ``weight_decay`` is the paper's proximal form: the result is
    divided by 1 + lr weight_decay. At the first step the change of g counts as zero.
    ``eps_root`` is added under the root besides (optax).

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

    ``warmup`` (steps) raises alpha linearly from 0, and beta3 from beta1 so that its half-life
    grows linearly, as the paper's schedulers f_alpha and f_beta3 do; None: both are constant.
    f_beta3 has no value at beta1 = 0, and its limit is taken: the half-life grows from nothing, and
    beta3 begins as beta3^(warmup / t) (the authors' code adds 1e-8 to beta1, which is near it).
    The paper's weight decay is ``decoupled(ademamix)``.

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

    Adam that converges for any beta2: g is divided by the v of the step before, and then averaged.

    The first step only sets v = g^2, and m starts at zero (in the first version of the paper m starts
    as the first divided gradient). ``clip`` bounds the divided gradient by (t - 1)^(1/4), as the
    authors' later code does.

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

    Adam whose second moment never falls: it divides by the largest v so far.

    ``correction="none"`` is the paper's (which has no epsilon either; eps=0 gives that).
    ``"after_max"`` takes the maximum of v and corrects it for bias afterwards (torch.optim.Adam
    with amsgrad=True); ``"before_max"`` takes the maximum of the corrected v (optax.amsgrad).
    ``eps_root`` is added under the root besides (optax).
    The paper's projection onto the feasible set is ``steprule.minimize(bounds=...)``.

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

    Gradient descent with a falling step, and ax, the average of the iterates from step t0 + 2 on.

    The step is lr / (1 + lambd lr (t - 1))^alpha, and theta decays by lambd times it (the L2 term
    of Bottou's objective; torch.optim.ASGD has the same). Until then the average is theta itself.
    ``lagged`` keeps the step and the weight for the next step in eta and mu (torch.optim.ASGD), so that
    a change of lr acts one step later.

    Source: Polyak & Juditsky 1992, doi:10.1137/0330046; step sizes: Bottou 2012, Stochastic Gradient Descent Tricks.
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

    With decoupled weight decay: theta shrinks by 1 - lr weight_decay before the step, or by 1 - weight_decay
    where ``scale_by_lr`` is False (the paper's form, in which the decay has a schedule of its own).

    Step by the sign of an average; what is kept is a slower average.

    The paper's weight decay is ``decoupled(lion)``.

    Source: Chen et al. 2023, Algorithm 2, arXiv:2302.06675; decay: Loshchilov & Hutter 2019, Algorithm 2, arXiv:1711.05101.
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

    ``dampening`` scales what enters b by 1 - dampening, from the second step on (as torch.optim.SGD
    does; the first gradient enters whole). The learning rate is outside b, as in torch; where it is
    inside (Polyak), a schedule acts later. ``nesterov`` looks ahead: it steps along g + mu b.

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

    Source: the average of Kingma & Ba 2015, Algorithm 1, without its correction, arXiv:1412.6980.
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
    torch.optim.NAdam; in the workshop paper it decays by mu_t.
    With ``psi`` None mu_t is beta1 from the first step on, and there is no product to keep
    (optax.nadam). ``eps_root`` is added under the root besides (optax).

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

    With decoupled weight decay: theta shrinks by 1 - lr weight_decay before the step, or by 1 - weight_decay
    where ``scale_by_lr`` is False (the paper's form, in which the decay has a schedule of its own).

    Adam with Nesterov's look-ahead and a momentum mu_t that warms up.

    mu_t = beta1 (1 - 0.5 * 0.96^(t psi)); m is corrected by one minus the running product of all mu
    (slot mu_product, one number). m itself decays by the constant beta1, as in Dozat's report and
    torch.optim.NAdam; in the workshop paper it decays by mu_t.
    With ``psi`` None mu_t is beta1 from the first step on, and there is no product to keep
    (optax.nadam). ``eps_root`` is added under the root besides (optax).

    Source: Dozat 2016, ICLR workshop, Algorithm 2, and his report's Algorithm 8; decay: Loshchilov & Hutter 2019, Algorithm 2, arXiv:1711.05101.
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

    Adam that is plain momentum until the variance of its adaptive rate is tractable.

    It adapts once rho_t > ``rho_min``: 4 in the paper; the authors' code and torch.optim.RAdam use
    5. The paper has no epsilon (eps=0 gives that); it is added to the root of the corrected v, or with
    ``eps_hat`` to that of v before its correction (torch.optim.RAdam). ``eps_root`` is added under
    the root of the corrected v besides (optax).

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

    ``centered`` subtracts the square of the average gradient (slot g_avg), so v becomes a variance;
    rounding can push it below zero, where it counts as zero; where v is too large for a number both
    would be infinite, and v alone counts, so that the step is 0 and not NaN. ``momentum`` steps along a heavy ball
    (slot b) of the scaled gradients, and with ``nesterov`` looks ahead along it (optax). ``eps`` is
    added to the root (torch), or with ``eps_inside`` under it (Graves, TensorFlow). The lecture has
    rho = 0.9; the default is torch's. ``initial_scale`` is v before the first step (optax). With eps = 0 there
    is nothing to divide by at rho = 1, where v stays zero if it begins so, nor at rho = 0 with ``centered``.

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

    Each element has its own step size delta, which grows while the sign of g stays and else shrinks.

    ``lr`` is delta before the first step; the bounds hold from that step on. Where the sign
    changed, ``"irprop-"`` (torch.optim.Rprop) does not move and forgets the gradient, ``"rprop-"``
    moves on with the smaller delta, and ``"rprop+"`` (the original of 1993) takes its last step back
    (slot step_prev) and forgets.

    Source: Riedmiller & Braun 1993, doi:10.1109/ICNN.1993.298623; variants: Igel & Huesken 2000.
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

    Adam whose second moment moves by a bounded amount: v changes by (1 - beta2) g^2 at most.

    The paper has no bias correction; ``bias_correction=True`` is optax's form (which also starts m
    at the initial accumulator, here 0). ``initial_accumulator`` is v before the first step (the paper leaves it open).

    Source: Zaheer et al. 2018, Algorithm 2, NeurIPS 31.
    """
    ...
