# Generated from the catalogue by docs/generate.py; do not edit.
# ruff: noqa
from typing import Literal, Unpack

from torch.optim import lr_scheduler as lr_scheduler
from torch.optim import swa_utils as swa_utils

from steprule.doors.torch.base import Base, Number, Params
from steprule.doors.torch.guards import Options
from steprule.doors.torch.adams import Adam as Adam
from steprule.doors.torch.adams import AdamW as AdamW
from steprule.doors.torch.adams import Adamax as Adamax
from steprule.doors.torch.adams import NAdam as NAdam
from steprule.doors.torch.adams import RAdam as RAdam
from steprule.doors.torch.adams import SparseAdam as SparseAdam
from steprule.doors.torch.classic import ASGD as ASGD
from steprule.doors.torch.classic import Adadelta as Adadelta
from steprule.doors.torch.classic import Adagrad as Adagrad
from steprule.doors.torch.classic import RMSprop as RMSprop
from steprule.doors.torch.classic import Rprop as Rprop
from steprule.doors.torch.classic import SGD as SGD
from steprule.doors.torch.factored import Adafactor as Adafactor
from steprule.doors.torch.more import Optimizer as Optimizer
from steprule.doors.torch.muon import Muon as Muon
from steprule.doors.torch.release import step_in_backward as step_in_backward
from steprule.doors.torch.schedule_free import AdamWScheduleFree as AdamWScheduleFree
from steprule.doors.torch.schedule_free import SGDScheduleFree as SGDScheduleFree

__all__ = [
    "ADOPT",
    "ASGD",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamMini",
    "AdamW",
    "AdamWScheduleFree",
    "Adamax",
    "Adan",
    "CAME",
    "DAdaptAdam",
    "LARS",
    "LaProp",
    "Lamb",
    "Lion",
    "MARS",
    "MomentumEMA",
    "Muon",
    "NAdam",
    "NorMuon",
    "NovoGrad",
    "Optimizer",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
    "SGDScheduleFree",
    "Signum",
    "SparseAdam",
    "Yogi",
    "step_in_backward",
]

class ADOPT(Base):
    """ADOPT: rule ``adopt``.

    Adam that converges for any beta2: g is divided by the root of the previous step's v, and then averaged.

    The first step only sets v = g^2, and m starts at zero (in the first version of the paper, m
    starts at the first divided gradient). ``clip`` bounds the divided gradient by (t - 1)^(1/4), as
    the authors' later code does.

    State: ``step``, ``exp_avg``, ``exp_avg_sq``. Weight decay is decoupled.

    Source: Taniguchi et al. 2024, Algorithm 1, arXiv:2411.02853.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 0.001.
        betas: ``beta1``, ``beta2``: a number in [0, 1). Default (0.9, 0.9999).
        eps: a positive number. Default 1e-06.
        clip: False or True. Default False.
        weight_decay: at least 0. An L2 penalty in the gradient, or decoupled where the class says so. Default 0.0.
        decoupled_weight_decay: whether theta shrinks by lr weight_decay before the step, apart from the gradient. Default True.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 0.001,
        betas: tuple[float, float] = (0.9, 0.9999),
        eps: float = 1e-06,
        clip: bool = False,
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class AdEMAMix(Base):
    """AdEMAMix: rule ``ademamix``.

    Adam with a second, much slower average of gradients, weighted by alpha.

    ``warmup`` (a number of steps) increases alpha linearly from 0, and beta3 from beta1 such that
    its half-life grows linearly, as the paper's schedulers f_alpha and f_beta3 do; with None both
    are constant. f_beta3 is undefined at beta1 = 0, where its limit is used: the half-life grows
    from zero, and beta3 starts as beta3^(warmup / t) (the authors' code adds 1e-8 to beta1, which
    gives nearly the same). The paper's weight decay is ``decoupled(ademamix)``.

    State: ``step``, ``exp_avg``, ``exp_avg_slow``, ``exp_avg_sq``. Weight decay is decoupled.

    Source: Pagliardini, Ablin & Grangier 2024, Algorithm 1, arXiv:2409.03137.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 0.001.
        betas: ``beta1``, ``beta2``, ``beta3``: a number in [0, 1). Default (0.9, 0.999, 0.9999).
        alpha: a number of at least 0. Default 5.0.
        eps: a number of at least 0. Default 1e-08.
        warmup: a positive number or None. Default None.
        weight_decay: at least 0. An L2 penalty in the gradient, or decoupled where the class says so. Default 0.0.
        decoupled_weight_decay: whether theta shrinks by lr weight_decay before the step, apart from the gradient. Default True.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 0.001,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 5.0,
        eps: float = 1e-08,
        warmup: float | None = None,
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class AdaBelief(Base):
    """AdaBelief: rule ``adabelief``.

    Adam that divides by the spread of g around its average, not by its size.

    ``eps`` enters twice, as in the paper: it is added to s at every step, and to the root. Its
    default is that of the authors' code; the text says 1e-8. If given, ``eps_root`` is added to s
    instead (optax). The bias correction of m and s, which the paper omits from its listing for
    simplicity, is always on. At beta1 = 0, g is its own average, so with eps = 0 the step divides
    by zero.

    State: ``step``, ``exp_avg``, ``exp_avg_var``. Weight decay is decoupled. ``Optimizer`` takes ``eps_root``, too.

    Source: Zhuang et al. 2020, Algorithm 2, arXiv:2010.07468.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 0.001.
        betas: ``beta1``, ``beta2``: a number in [0, 1). Default (0.9, 0.999).
        eps: a number of at least 0. Default 1e-16.
        weight_decay: at least 0. An L2 penalty in the gradient, or decoupled where the class says so. Default 0.0.
        decoupled_weight_decay: whether theta shrinks by lr weight_decay before the step, apart from the gradient. Default True.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class AdamMini(Base):
    """AdamMini: rule ``adam_mini``.

    AdamW with one second moment, the mean of the squared gradients, for each row.

    A row, all that has one index along the first axis, is a neuron's weights, a filter, or a token's
    embedding. A vector is one row, as norms' weights are in the authors' code, where biases step by
    AdamW. Queries and keys have a block for each head there: give them as tensors whose first axis
    counts the heads. With ``blocks="tensor"`` the whole tensor is one block.

    State: ``step``, ``exp_avg``, ``v``.

    Source: Zhang et al. 2024, Algorithm 1, arXiv:2406.16793.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 0.001.
        betas: ``beta1``, ``beta2``: a number in [0, 1). Default (0.9, 0.999).
        eps: a number of at least 0. Default 1e-08.
        weight_decay: a number of at least 0. Default 0.0.
        blocks: 'row' or 'tensor'. Default 'row'.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        blocks: Literal["row", "tensor"] = "row",
        *,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class Adan(Base):
    """Adan: rule ``adan``.

    Nesterov momentum reformulated: averages of g, of its change, and of the square of their combination.

    The betas are decay rates, one minus the paper's. ``bias_correction`` is that of the authors'
    code; the paper's algorithm has none, and starts m and n at the first gradient and its square,
    where here they start at zero. ``weight_decay`` is the paper's proximal form, which is
    (theta - step) / (1 + lr weight_decay), written as a difference. In the first step the change
    of g counts as zero. ``eps_root`` is added under the root in addition to ``eps`` (optax).

    State: ``step``, ``exp_avg``, ``exp_avg_diff``, ``exp_avg_sq``, ``previous_grad``. ``Optimizer`` takes ``bias_correction``, ``eps_root``, too.

    Source: Xie et al. 2022, Algorithm 1, arXiv:2208.06677.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 0.001.
        betas: ``beta1``, ``beta2``, ``beta3``: a number in [0, 1). Default (0.98, 0.92, 0.99).
        eps: a number of at least 0. Default 1e-08.
        weight_decay: a number of at least 0. Default 0.0.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 0.001,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class CAME(Base):
    """CAME: rule ``came``.

    Adafactor's average step, smaller where single steps have been far from it.

    r and c are the factors of the second moment, r_s and c_s those of an average of the squared
    distances, the paper's S. A vector has the second moment of each element, which is c, and steps by
    m, as in the authors' code. Their weight decay is decoupled.

    State: ``step``, ``exp_avg``, ``exp_avg_sq_row``, ``exp_avg_sq_col``, ``exp_avg_res_row``, ``exp_avg_res_col``.

    Source: Luo et al. 2023, Algorithm 2, arXiv:2307.02047.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 0.0002.
        betas: ``beta1``, ``beta2``, ``beta3``: a number in [0, 1). Default (0.9, 0.999, 0.9999).
        eps1: a number of at least 0. Default 1e-30.
        eps2: a number of at least 0. Default 1e-16.
        clip_threshold: a positive number. Default 1.0.
        weight_decay: a number of at least 0. Default 0.0.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 0.0002,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        eps1: float = 1e-30,
        eps2: float = 1e-16,
        clip_threshold: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class DAdaptAdam(Base):
    """DAdaptAdam: rule ``dadapt_adam``.

    Adam with lr times a lower bound d of how far away the solution is, which grows from d0.

    Sums are over all tensors together. From the authors' code: the product in r is with v as it was
    before the step; ``growth_rate`` is the largest factor by which d grows in a step;
    ``bias_correction`` is Adam's, in lr; the decay is part of the gradient, or with
    ``decoupled_decay`` of the step. optax's dadapt_adamw has the last two always. After a
    gradient that is not finite d stays.

    State: ``step``, ``exp_avg``, ``exp_avg_sq``, ``s``, ``r``, ``d``.

    Source: Defazio & Mishchenko 2023, Adam with D-Adaptation, arXiv:2301.07733.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 1.0.
        betas: ``beta1``, ``beta2``: a number in [0, 1). Default (0.9, 0.999).
        eps: a positive number. Default 1e-08.
        weight_decay: a number of at least 0. Default 0.0.
        d0: a positive number. Default 1e-06.
        growth_rate: a number of at least 1 or None. Default None.
        bias_correction: False or True. Default False.
        decoupled_decay: False or True. Default False.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        d0: float = 1e-06,
        growth_rate: float | None = None,
        bias_correction: bool = False,
        decoupled_decay: bool = False,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class LARS(Base):
    """LARS: rule ``lars``.

    Heavy ball whose steps have the size of their tensor, whatever the size of the gradient.

    The gradient with its decay is multiplied by ``trust_coefficient`` times the norm of theta over
    the sum of the norms of both parts plus ``eps``, or over the norm of their sum with
    ``norm_of_sum`` (optax). Where the norm of theta or that of the gradient (optax: of the sum) is 0
    or not a number, this ratio is 1. As in the paper, lr enters b, so that a schedule acts later;
    with ``lr_outside`` it does not (timm, pytorch_optimizer). ``momentum`` None keeps no b.
    ``nesterov`` looks ahead along b.

    State: ``step``, ``momentum_buffer``.

    Source: You, Gitman & Ginsburg 2017, Algorithm 1, arXiv:1708.03888.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 1.0.
        momentum: a number of at least 0 or None. Default 0.9.
        weight_decay: a number of at least 0. Default 0.0.
        trust_coefficient: a number of at least 0. Default 0.001.
        eps: a number of at least 0. Default 0.0.
        nesterov: False or True. Default False.
        norm_of_sum: False or True. Default False.
        lr_outside: False or True. Default False.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 1.0,
        momentum: float | None = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        eps: float = 0.0,
        nesterov: bool = False,
        norm_of_sum: bool = False,
        lr_outside: bool = False,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class LaProp(Base):
    """LaProp: rule ``laprop``.

    Adam with its halves apart: g is divided by its root mean square first, and averaged then.

    beta1 and beta2 are the paper's mu and nu. ``centered`` subtracts the square of the average
    gradient (slot g_avg) after the tenth step, as in the authors' code; if rounding makes the
    variance negative, it counts as zero. As in the paper, lr multiplies the average; in the
    authors' code it enters the average, so that a schedule of lr acts later there.

    State: ``step``, ``exp_avg``, ``exp_avg_sq``, ``exp_mean_avg_beta2``. Weight decay is decoupled.

    Source: Ziyin, Wang & Ueda 2020, Algorithm 1, arXiv:2002.04839.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 0.0004.
        betas: ``beta1``, ``beta2``: a number in [0, 1). Default (0.9, 0.999).
        eps: a number of at least 0. Default 1e-15.
        centered: False or True. Default False.
        weight_decay: at least 0. An L2 penalty in the gradient, or decoupled where the class says so. Default 0.0.
        decoupled_weight_decay: whether theta shrinks by lr weight_decay before the step, apart from the gradient. Default True.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 0.0004,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-15,
        centered: bool = False,
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class Lamb(Base):
    """Lamb: rule ``lamb``.

    AdamW's step, scaled to lr times the size of the tensor.

    The step of each tensor is multiplied by its trust ratio, the norm of theta over that of the
    step; where one of both is 0 or not a number, the ratio is 1. ``norm_limit`` limits the norm of
    theta (the upper end of the paper's phi; 10 in early code), ``ratio_limit`` the ratio itself
    (LAMBC: 1). ``bias_correction`` is in Algorithm 2, but not in the paper's third version and in
    some code. ``eps_root`` is added under the root in addition to ``eps`` (optax).
    ``trust_ratio(adamw)`` is the same, with another default of ``eps``.

    State: ``step``, ``exp_avg``, ``exp_avg_sq``.

    Source: You et al. 2020, Algorithm 2, arXiv:1904.00962; ratio_limit: Fong et al. 2020, arXiv:2011.13584.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 0.001.
        betas: ``beta1``, ``beta2``: a number in [0, 1). Default (0.9, 0.999).
        eps: a number of at least 0. Default 1e-06.
        weight_decay: a number of at least 0. Default 0.01.
        bias_correction: False or True. Default True.
        eps_root: a number of at least 0 or None. Default None.
        norm_limit: a positive number or None. Default None.
        ratio_limit: a positive number or None. Default None.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-06,
        weight_decay: float = 0.01,
        bias_correction: bool = True,
        eps_root: float | None = None,
        norm_limit: float | None = None,
        ratio_limit: float | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class Lion(Base):
    """Lion: rule ``lion``.

    Step by the sign of an average of gradients; the average that is stored is a slower one.

    The paper's weight decay is ``decoupled(lion)``.

    State: ``step``, ``exp_avg``. Weight decay is decoupled.

    Source: Chen et al. 2023, Algorithm 2, arXiv:2302.06675.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 0.0001.
        betas: ``beta1``, ``beta2``: a number in [0, 1). Default (0.9, 0.99).
        weight_decay: at least 0. An L2 penalty in the gradient, or decoupled where the class says so. Default 0.0.
        decoupled_weight_decay: whether theta shrinks by lr weight_decay before the step, apart from the gradient. Default True.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 0.0001,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class MARS(Base):
    """MARS: rule ``mars``.

    AdamW on gradients from which some of their noise is removed, by their change since the last step.

    c = g + gamma beta1 / (1 - beta1) (g - g_prev), divided by its norm over the tensor where that is
    above 1, stands for g in both averages. The exact form of the paper evaluates the last gradient
    on this step's data; here, as in the paper's experiments, it is the last step's own. Before the
    first step it counts as equal to the first, as in the paper; with ``from_zero`` as 0, as in the
    authors' code, which steps only matrices in this way, and others by AdamW.

    State: ``step``, ``exp_avg``, ``exp_avg_sq``, ``last_grad``.

    Source: Yuan et al. 2024, Algorithm 2 (MARS-AdamW, approximate), arXiv:2411.10438.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 0.003.
        betas: ``beta1``, ``beta2``: a number in [0, 1). Default (0.95, 0.99).
        eps: a number of at least 0. Default 1e-08.
        gamma: a number of at least 0. Default 0.025.
        weight_decay: a number of at least 0. Default 0.0.
        from_zero: False or True. Default False.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 0.003,
        betas: tuple[float, float] = (0.95, 0.99),
        eps: float = 1e-08,
        gamma: float = 0.025,
        weight_decay: float = 0.0,
        from_zero: bool = False,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class MomentumEMA(Base):
    """MomentumEMA: rule ``momentum_ema``.

    Momentum as an exponential average: the heavy ball with its step scaled by 1 - beta.

    State: ``step``, ``m``. Weight decay is decoupled.

    Source: first moment of Kingma & Ba 2015, Algorithm 1, without bias correction, arXiv:1412.6980.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 0.01.
        momentum: ``beta``: a number in [0, 1). Default 0.9.
        weight_decay: at least 0. An L2 penalty in the gradient, or decoupled where the class says so. Default 0.0.
        decoupled_weight_decay: whether theta shrinks by lr weight_decay before the step, apart from the gradient. Default True.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class NorMuon(Base):
    """NorMuon: rule ``normuon``.

    Muon with rows of one size: each is divided by the root of an average of its mean square.

    That is v, of the polar factor's rows, which are neurons. Then the step of a matrix gets the RMS
    ``consistent_rms`` (the paper), or, with ``adjust_lr="original"``, the norm that its polar factor
    had, times sqrt(max(1, rows/columns)) (the authors' code, which has ``nesterov``, too). ``eps`` is
    added to the root. A matrix whose polar factor is 0 stays, but for its decay.

    State: ``step``, ``exp_avg``, ``v``.

    Source: Li et al. 2025, Algorithm 1, arXiv:2510.05491.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 0.001.
        momentum: a number in [0, 1). Default 0.95.
        beta2: a number in [0, 1). Default 0.95.
        weight_decay: a number of at least 0. Default 0.1.
        nesterov: False or True. Default False.
        ns_steps: a whole number of at least 1, below 100. Default 5.0.
        coefficients: 'jordan' or 'polar_express'. Default 'jordan'.
        eps: a number of at least 0. Default 1e-10.
        adjust_lr: 'match_rms_adamw' or 'original'. Default 'match_rms_adamw'.
        consistent_rms: a positive number. Default 0.2.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 0.001,
        momentum: float = 0.95,
        beta2: float = 0.95,
        weight_decay: float = 0.1,
        nesterov: bool = False,
        ns_steps: float = 5.0,
        coefficients: Literal["jordan", "polar_express"] = "jordan",
        eps: float = 1e-10,
        adjust_lr: Literal["match_rms_adamw", "original"] = "match_rms_adamw",
        consistent_rms: float = 0.2,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class NovoGrad(Base):
    """NovoGrad: rule ``novograd``.

    Sum gradients that have been divided by the norm of their tensor.

    v, one number of the tensor, averages the squared norm of g. It starts at the first one that is
    not 0, as in the authors' code; in the paper at the first. ``grad_averaging`` makes of the sum m
    an average (the authors' code has the option). ``eps_root`` is added under the root in addition
    to ``eps`` (optax).

    State: ``step``, ``exp_avg``, ``exp_avg_sq``.

    Source: Ginsburg et al. 2019, Algorithm 1, arXiv:1905.11286.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 0.001.
        betas: ``beta1``, ``beta2``: a number in [0, 1). Default (0.95, 0.98).
        eps: a number of at least 0. Default 1e-08.
        weight_decay: a number of at least 0. Default 0.0.
        eps_root: a number of at least 0 or None. Default None.
        grad_averaging: False or True. Default False.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 0.001,
        betas: tuple[float, float] = (0.95, 0.98),
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        eps_root: float | None = None,
        grad_averaging: bool = False,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class Prodigy(Base):
    """Prodigy: rule ``prodigy``.

    Adam with lr times an estimate d of how far away the solution is, which grows from d0.

    Sums are over all tensors together; r and s are the paper's over (1 - beta3) d0, which cancels.
    ``beta3`` is by default the root of beta2. From the authors' code: ``growth_rate`` is the largest
    factor by which d grows in a step, except in the first that raises it; ``bias_correction`` is
    Adam's, in lr; ``safeguard_warmup`` keeps lr out of s. ``eps`` is multiplied by d before the step,
    as in the paper; there by the new one. After a gradient that is not finite d stays.

    State: ``step``, ``exp_avg``, ``exp_avg_sq``, ``s``, ``p0``, ``r``, ``d``, ``d_max``.

    Source: Mishchenko & Defazio 2023, Algorithm 4, arXiv:2306.06101.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 1.0.
        betas: ``beta1``, ``beta2``: a number in [0, 1). Default (0.9, 0.999).
        beta3: a number in [0, 1) or None. Default None.
        eps: a number of at least 0. Default 1e-08.
        weight_decay: a number of at least 0. Default 0.0.
        d0: a positive number. Default 1e-06.
        d_coef: a positive number. Default 1.0.
        growth_rate: a number of at least 1 or None. Default None.
        bias_correction: False or True. Default False.
        safeguard_warmup: False or True. Default False.
        decoupled_decay: False or True. Default True.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float | None = None,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        d0: float = 1e-06,
        d_coef: float = 1.0,
        growth_rate: float | None = None,
        bias_correction: bool = False,
        safeguard_warmup: bool = False,
        decoupled_decay: bool = True,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class Signum(Base):
    """Signum: rule ``signum``.

    Step by the sign of the momentum; beta = 0 is signSGD.

    State: ``step``, ``exp_avg``. Weight decay is decoupled.

    Source: Bernstein et al. 2018, Algorithm 2, arXiv:1802.04434.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 0.0001.
        momentum: ``beta``: a number in [0, 1). Default 0.9.
        weight_decay: at least 0. An L2 penalty in the gradient, or decoupled where the class says so. Default 0.0.
        decoupled_weight_decay: whether theta shrinks by lr weight_decay before the step, apart from the gradient. Default True.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 0.0001,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...

class Yogi(Base):
    """Yogi: rule ``yogi``.

    Adam whose second moment changes by a bounded amount: by at most (1 - beta2) g^2.

    The paper has no bias correction; ``bias_correction=True`` is optax's form (which also starts m
    at the initial accumulator, here 0). ``initial_accumulator`` is v before the first step (the
    paper does not specify it).

    State: ``step``, ``exp_avg``, ``exp_avg_sq``. Weight decay is decoupled.

    Source: Zaheer et al. 2018, Algorithm 2, NeurIPS 31.

    Args:
        params: tensors, (name, tensor) pairs, or groups: dicts with `params` and options of their own.
        lr: the learning rate, at least 0: a number, or a tensor of one number, which is read at every step. Default 0.01.
        betas: ``beta1``, ``beta2``: a number in [0, 1). Default (0.9, 0.999).
        eps: a number of at least 0. Default 0.001.
        initial_accumulator: a number of at least 0. Default 1e-06.
        bias_correction: False or True. Default False.
        weight_decay: at least 0. An L2 penalty in the gradient, or decoupled where the class says so. Default 0.0.
        decoupled_weight_decay: whether theta shrinks by lr weight_decay before the step, apart from the gradient. Default True.
        maximize: climb instead of descending. Default False.
        differentiable: let autograd go through the step. Slow: the rule runs on tensors. Default False.
        foreach: ignored: every step is one fused pass. Default None.
        fused: ignored: every step is one fused pass. Default None.
        capturable: keep step counts on the GPU, so that steps can be captured in a CUDA graph. Ignored on the CPU. Default False.
        options: `states` ("float32", "bfloat16", "8bit", "4bit", or a dict of these by slot), `weights` of 16-bit parameters ("nearest", "stochastic", "split24", "split32"), `min_elements` (4096: smaller tensors keep float32 states) and `seed` (0) of random rounding; and, for all groups together, `clip_norm`, `clip_value`, `nonfinite` ("propagate", "skip", "raise"), `max_skips` (10), `update_clip` and `process_group`: see docs/guards.md.

    Raises:
        HyperparameterError: a ValueError, in torch's words, for a value out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: Number = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 0.001,
        initial_accumulator: float = 1e-06,
        bias_correction: bool = False,
        weight_decay: float = 0.0,
        *,
        decoupled_weight_decay: bool = True,
        maximize: bool = False,
        differentiable: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None: ...
