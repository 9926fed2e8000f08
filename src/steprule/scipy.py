"""SciPy's conventions: ``steprule.scipy.minimize`` and ``steprule.scipy.method``.

import scipy.optimize, steprule as sr

scipy.optimize.minimize(fun, x0, jac=True, method=sr.scipy.method("adam", lr=1e-2))
"""

from steprule.doors.method import Method, method
from steprule.doors.scipy import minimize

__all__ = ["Method", "method", "minimize"]
