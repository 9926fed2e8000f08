"""Adam as people write it by hand: one rule whose options are the known mistakes in its formula."""

from typing import Literal

from steprule.language import maximum as larger
from steprule.language import sqrt
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Rate, SecondMoment

__all__ = ["adam_as_written"]


@rule(paper="Kingma & Ba 2015, Algorithm 1, arXiv:1412.6980, and what is written in its place")
def adam_as_written(
    theta,
    g,
    m: FirstMoment,
    v: SecondMoment,
    v_max: NonNegative,
    *,
    t,
    lr: Rate = 1e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    corrected: Literal["both", "m", "v", "none", "both in place", "m in place", "v in place"] = "both",
    epsilon: Literal["outside", "inside", "uncorrected"] = "outside",
    maximum: Literal["none", "before", "after"] = "none",
):
    """Adam, with AMSGrad's maximum and with the slips that hand-written ones have.

    ``corrected`` says which moments are corrected for their bias, and which of them are overwritten by their corrected
    values (``"in place"``), so that the correction compounds. ``epsilon`` is added to the root, under it, or to the
    root of the moment that is not corrected yet. ``maximum`` is AMSGrad's, before or after the correction.

    With its default options this is ``adam`` of the catalogue, and with a maximum ``amsgrad``: tests compare their
    bits. It stands apart since those are what papers and libraries do, and this is what nobody should.
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat = m if corrected in ("v", "none") else m / (1 - beta1**t)
    v_hat = v if corrected in ("m", "none") else v / (1 - beta2**t)
    m = m_hat if corrected in ("both in place", "m in place") else m
    v = v_hat if corrected in ("both in place", "v in place") else v
    if maximum == "after":
        v_hat = v_max = larger(v_max, v_hat)
    if maximum == "before":
        v_max = larger(v_max, v)
        v_hat = v_max / (1 - beta2**t) if corrected in ("both", "v", "m in place") else v_max
    root = sqrt(v_hat + eps) if epsilon == "inside" else sqrt(v_hat) + eps
    if epsilon == "uncorrected":
        root = sqrt(v_hat) + eps / (1 - beta2**t) ** 0.5
    theta = theta - lr * m_hat / root
    return theta, m, v, None if maximum == "none" else v_max
