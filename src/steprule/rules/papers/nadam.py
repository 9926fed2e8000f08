"""NAdam."""

from steprule.language import sqrt
from steprule.rules.declare import rule
from steprule.rules.hyperparameters import Decay, FirstMoment, NonNegative, Rate, Scalar, SecondMoment


@rule(paper="Dozat 2016, ICLR workshop, Algorithm 2, and his report's Algorithm 8", init={"mu_product": 1.0})
def nadam(
    theta,
    g,
    m: FirstMoment,
    v: SecondMoment,
    mu_product: Scalar,
    *,
    t,
    lr: Rate = 2e-3,
    beta1: Decay = 0.9,
    beta2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    psi: NonNegative | None = 4e-3,
    eps_root: NonNegative | None = None,
):
    """Adam with Nesterov's look-ahead and a momentum mu_t that warms up.

    mu_t = beta1 (1 - 0.5 * 0.96^(t psi)); m is corrected by one minus the running product of all mu
    (slot mu_product, one number). m itself decays by the constant beta1, as in Dozat's report and
    torch.optim.NAdam; in the workshop paper it decays by mu_t. With ``psi`` None, mu_t is beta1
    from the first step on, and no product is kept (optax.nadam). ``eps_root`` is added under the
    root in addition to ``eps`` (optax).
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    if psi is None:
        m_hat = beta1 / (1 - beta1 ** (t + 1)) * m + (1 - beta1) / (1 - beta1**t) * g
    else:
        mu = beta1 * (1 - 0.5 * 0.96 ** (t * psi))
        mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * psi))
        mu_product = mu_product * mu
        m_hat = mu_next / (1 - mu_product * mu_next) * m + (1 - mu) / (1 - mu_product) * g
    v_hat = v / (1 - beta2**t)
    shifted = v_hat if eps_root is None else v_hat + eps_root
    theta = theta - lr * m_hat / (sqrt(shifted) + eps)
    return theta, m, v, None if psi is None else mu_product
