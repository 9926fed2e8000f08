"""The SciPy door: ``minimize`` with SciPy's conventions. Rules as methods of SciPy's own are beside it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from steprule.doors.batches import Batches
from steprule.doors.box import Box, Vector
from steprule.doors.descent import Descent
from steprule.doors.iterate import Average, Iterate, NonFinite
from steprule.doors.numpy import Optimizer
from steprule.doors.objective import Objective, start
from steprule.doors.resume import State, check_state
from steprule.doors.settings import CLIPPING, STEPS, Settings, check_eps, sort_names
from steprule.doors.stochastic import NoisyDescent, StochasticDescent
from steprule.errors import HyperparameterError
from steprule.rules import Rule, find

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["minimize"]


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    *,
    rule: str | Rule = "adam",
    jac: Any = None,
    bounds: Any = None,
    callback: Callable[..., object] | None = None,
    maxiter: int | None = None,
    gtol: float | None = None,
    tol: float | None = None,
    patience: int | None = None,
    ftol: float | None = None,
    average: str | float | None = None,
    data: Any = None,
    noisy: bool = False,
    measurements: int | None = None,
    nonfinite: str | None = None,
    max_skips: int | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    update_clip: bool = False,
    state: State | None = None,
    disp: bool = False,
    finite_diff_rel_step: Any = None,
    finite_diff_abs_step: float | None = None,
    workers: Any = None,
    options: Mapping[str, Any] | None = None,
    **hyperparameters: Any,
) -> OptimizeResult:
    """Minimize a function of many variables by a rule of the catalogue, or any other ``Rule``.

    From x_0 = x0, projected onto the bounds, it takes the rule's steps x_k = P(step(x_k-1, g_k-1)) in
    float64, with P the projection: x is clipped to the bounds, the rule's slots are left alone
    (Reddi, Kale & Kumar 2018, Algorithm 2, with the Euclidean projection).

    Args:
        fun: the objective, ``fun(x, *args) -> float``, with x a float64 array of shape (n,) that is its
            own to change; an array of one element counts as a number. With ``jac=True`` it returns
            ``(loss, gradient)``; with ``data`` it is ``fun(x, batch, *args)``.
        x0: the start: numbers of any real type, flattened in C order to shape (n,). It is not changed. Together with
            ``state``: None, or the x of its result.
        args: a tuple of more arguments of ``fun`` and ``jac``; anything else is one argument.
        rule: a name of the catalogue (``steprule rules`` lists it) or a ``Rule``.
        jac: True; a callable ``jac(x, *args)`` of shape (n,) (with ``data``: ``jac(x, batch, *args)``);
            "2-point", "3-point" or "cs" for SciPy's finite differences with relative steps; None for
            forward differences with the absolute step 1.5e-8, as SciPy's BFGS takes them. Differences
            stay within the bounds.
        bounds: a ``scipy.optimize.Bounds``, or (min, max) pairs in which None is not a bound.
        callback: ``callback(xk)``, or ``callback(intermediate_result)`` under that very parameter name,
            called after each step with the new x, its loss as ``fun`` and ``nit``. With ``data`` or ``noisy`` that loss
            is the one seen before the step, at the previous x. ``intermediate_result.state``, read while the callback
            runs, is the state of the run, for another call. StopIteration ends the run.
        maxiter: steps at most, 10,000 by default. With ``data`` a step is a batch.
        gtol: converged when the largest element of the gradient is at most this, 1e-5 by default (0:
            only where it is exactly 0). With bounds it is of the projected gradient, x - P(x - g). A flat
            place is passed over where f is above the best f seen by more than a millionth of
            f(x_0) - f_best (and by more than rounding, 2.2e-9 max(|f|, 1)). An error with ``data``: one
            batch's gradient does not vanish at the optimum.
        tol: SciPy's name for all tolerances; here gtol, if that is not given.
        patience: converged when so many iterations in a row did not improve the best loss by more than
            ``ftol`` max(|f_best|, |f|, 1). With ``data`` they are passes, and the loss is the mean over a
            pass. By default there is no such test.
        ftol: see ``patience``; 2.2e-9 by default, as in SciPy's L-BFGS-B.
        average: None, for the best point seen, or the evaluated point of a rule that has one (``schedule_free_adamw``,
            ``averaged(adam)``: docs/evaluated.md); "tail", for the mean of about the last third of the iterates (from
            the last quarter to 44 % of them: suffix averaging, Rakhlin, Shamir & Sridharan 2012); "polyak", for the
            mean of x_1 to x_nit (Polyak & Juditsky 1992); or a decay in (0, 1), for their exponential average. The
            gtol test must then hold at the average as well.
        data: batches for a stochastic objective: an iterable that is iterated again in every pass (a
            list, an array's rows), an iterator, which is used up in one pass, or a callable that returns
            an iterable for every pass (to shuffle, say).
        noisy: whether ``fun`` gives a different loss at every call (Monte Carlo, measurements), so that the lowest is
            the luckiest. Then x is an average, "tail" by default, gtol and patience are errors, and ``fun`` is
            evaluated again. Finite differences need a step over which fun changes by more than the noise.
        measurements: how often ``fun`` is evaluated at the end of a noisy run: by default a tenth as many times as the
            run has steps, 10 to 100. With 0, for a run that will be continued, no random numbers are drawn: then
            ``fun`` is the mean of the last losses of the run, up to 100, and ``fun_error`` is nan.
        nonfinite: what happens if a loss or gradient is not finite: "stop" the run (default), "skip" it, which
            evaluates again without a step (with ``data``: the next batch), or "raise" a ``NonFiniteError``.
        max_skips: after so many skips in a row the run stops, 10 by default.
        clip_norm, clip_value, update_clip: as for ``steprule.Optimizer``. Convergence is tested on the unclipped
            gradient.
        state: the ``state`` of a result, to continue from exactly: two runs of 50 steps take the steps of one of 100.
            Rule, ``average`` and the kind of objective must be the same; hyperparameters and options are those of
            this call, and so are ``maxiter`` and all counts. Batches that the current pass has already used are
            skipped, except with an iterator. Storing generators that ``fun`` draws from is up to the caller.
        disp: print a summary as SciPy does; without success it is an ``OptimizeWarning``.
        finite_diff_rel_step: the relative step of the finite-difference scheme that ``jac`` names.
        finite_diff_abs_step: the step of finite differences, the same for all variables.
        workers: the number of threads that evaluate the points of a finite-difference gradient (-1: one for every
            core), or a callable like ``map`` that does so: ``multiprocessing.Pool().map``, for processes. Needs SciPy
            1.16.
        options: SciPy's way to pass any of the keywords from ``maxiter`` on, or hyperparameters. ``eps`` is refused
            there: in SciPy it is the step of finite differences, and in many rules a hyperparameter.
        hyperparameters: those of the rule, ``lr`` for instance: numbers, or schedules, functions of the
            step number t (1 at the first step).

    Returns:
        A ``scipy.optimize.OptimizeResult``:

        - ``x``: the point that met gtol, else the point of lowest loss that was seen, or the average, or the evaluated
          point of a rule that has one, where ``fun`` is evaluated then; callbacks see the iterates. If the lowest
          loss was not the last, it is evaluated again: if it differs, there is a warning, and ``fun`` is the new value.
          With ``data``: the last iterate or the average, since losses of single batches cannot be compared.
        - ``fun``, ``jac``: loss and gradient at x; nan for a derivative that was not computed (of a
          variable that is fixed by its bounds, by differences). With ``data`` there is no ``jac``, and
          ``fun`` is the mean loss of the last batches, as many as a pass has (of all so far in the first
          pass, of the last 100 of an iterator), each evaluated during the run: an estimate. With ``noisy`` there is no
          ``jac``, ``fun`` is the mean of new evaluations at x, and ``fun_error`` the standard error of that mean (nan
          for fewer than two).
        - ``success``: whether a convergence test was met, gtol or patience; nothing else counts. A noisy run has no
          test; it is a success if all ``maxiter`` steps were taken.
        - ``status``: 0 success, 1 maxiter reached, 2 the iterator of ``data`` ended, 3 a loss, gradient
          or step was not finite (x is the best, with ``data`` the last, finite point), 4 differences are exactly 0
          at x0 though it is not a minimum, 99 StopIteration in the callback. ``message`` says it in words.
        - ``nit``, ``nfev``, ``njev``: steps, calls of fun (differences included), gradients.
        - ``skipped``: with ``nonfinite="skip"`` the evaluations that were skipped.
        - ``state``: the state of the run, for another call.

    Raises:
        NonFiniteError: as ``nonfinite`` says.
        StateError: a state of another rule or another kind of run.
        RuleError: no such rule.
        HyperparameterError: an option or hyperparameter is unknown, out of range or without effect.
        StructureError: x0, bounds, or what the functions return has a wrong shape or type.

    Example:
        >>> import steprule as sr
        >>> res = sr.minimize(lambda x: ((x - 3) ** 2).sum(), [0.0, 9.0], lr=0.1)
        >>> res.success, res.x.round(3)
        (True, array([3., 3.]))
    """
    chosen = find(rule)
    keywords = {
        "maxiter": maxiter,
        "gtol": gtol,
        "tol": tol,
        "patience": patience,
        "ftol": ftol,
        "average": average,
        "data": data,
        "noisy": noisy,
        "measurements": measurements,
        "nonfinite": nonfinite,
        "max_skips": max_skips,
        "clip_norm": clip_norm,
        "clip_value": clip_value,
        "update_clip": update_clip,
        "state": state,
        "disp": disp,
        "finite_diff_rel_step": finite_diff_rel_step,
        "finite_diff_abs_step": finite_diff_abs_step,
        "workers": workers,
    }
    given, values = _merge(chosen, keywords, options or {}, hyperparameters)
    settings, state = Settings.of(given), given["state"]
    if settings.kind == "noisy" and given["workers"] is not None:
        _warn_of_workers()
    x = start(x0) if state is None else check_state(state, x0, chosen.name, settings.kind, settings.average)
    box = Box.of(bounds, x.size)
    optimizer = Optimizer(x, chosen, **{name: given[name] for name in CLIPPING}, **values)
    objective = Objective(fun, jac, args, box, x.size, **{name: given[name] for name in STEPS})
    box.project(x)
    has_point = chosen.evaluated is not None and given["average"] is None
    mean = None if settings.average is None or has_point else Average(settings.average)
    iterate = Iterate(x, box, optimizer, mean, callback, NonFinite(settings.nonfinite, given["max_skips"]))
    solver = _solver(iterate, objective, box, settings, given["data"])
    if state is not None:
        optimizer.load_state_dict(state.optimizer, hyperparameters=False)
        solver.resume(state.progress)

    def take(answer: Vector) -> State:
        found = (x.copy(), answer.copy(), optimizer.state_dict(), solver.progress())
        return State(chosen.name, settings.kind, settings.average, *found)

    iterate.take_state = lambda: take(x)
    result: Any = solver.solve()
    result.state = take(result.x)
    if given["disp"]:
        _show(result)
    return result  # type: ignore[no-any-return]


def _solver(
    iterate: Iterate, objective: Objective, box: Box, settings: Settings, data: Any
) -> Descent | StochasticDescent:
    """Return the run for what is known of the loss; nothing is evaluated yet."""
    if settings.kind == "best":
        return Descent(iterate, objective, box, settings)
    if settings.kind == "noisy":
        return NoisyDescent(iterate, objective, settings)
    return StochasticDescent(iterate, objective, Batches(data), settings)


def _merge(
    rule: Rule, keywords: Mapping[str, Any], options: Mapping[str, Any], hyperparameters: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all options and all hyperparameters, each given in one place only."""
    _, values = sort_names(rule, hyperparameters)
    check_eps(rule, options)
    more, more_values = sort_names(rule, options)
    set_before = {name for name, value in keywords.items() if value is not None and value is not False} | set(values)
    twice = sorted(set_before & set(options))
    if twice:
        raise HyperparameterError(f"{twice[0]} is given twice, as a keyword and in options; remove one")
    return {**keywords, **more}, {**values, **more_values}


def _warn_of_workers() -> None:
    """Say what becomes of random numbers that are drawn by several at once; the numbers themselves show nothing."""
    from scipy.optimize import OptimizeWarning

    warnings.warn(
        "workers with noisy=True: threads draw from one generator in an order that no seed fixes, and processes of a "
        "pool draw the same numbers, each from its copy of one that comes with fun or args, so that differences show "
        "no noise where there is some. Remove workers, or let fun make a generator of its own at every call, seeded by "
        "the operating system: np.random.default_rng()",
        OptimizeWarning,
        stacklevel=3,  # the caller of minimize
    )


def _show(result: OptimizeResult) -> None:
    """Print a summary in the words of SciPy's BFGS."""
    if result.success:
        print(result.message)
    else:
        from scipy.optimize import OptimizeWarning

        # Of the three frames, the outermost is the caller of minimize.
        warnings.warn(result.message, OptimizeWarning, stacklevel=3)
    print(f"         Current function value: {result.fun:f}")
    print(f"         Iterations: {result.nit:d}")
    print(f"         Function evaluations: {result.nfev:d}")
    print(f"         Gradient evaluations: {result.njev:d}")
