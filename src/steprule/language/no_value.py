"""What asks a symbol for its value, which it lacks while a rule is traced: each refusal says what to write instead."""

from __future__ import annotations

from typing import NoReturn

from steprule.errors import RuleError

__all__ = ["NoValue"]


class NoValue:
    """Refuses what is asked of values, of which a symbol has none while a rule is traced."""

    __slots__ = ()

    def __bool__(self) -> NoReturn:
        raise RuleError(
            "Python asked whether a symbol is true (an `if`, `and`, `or`, `min`, `max` or a chained "
            "comparison), but its value is not known until the step runs. "
            "Use steprule.where(condition, a, b), or maximum and minimum; "
            "`if` works on boolean, choice and optional hyperparameters"
        )

    def __float__(self) -> NoReturn:
        raise RuleError(
            "a symbol was turned into a Python number, as float, round, range and the functions of math do. "
            "On hyperparameters and t, functions of math work where tracing sees them: under a name of the "
            "module (import math at the top of the file), in the rule or in functions that it calls by a plain name"
        )

    __int__ = __index__ = __round__ = __trunc__ = __floor__ = __ceil__ = __float__

    def __iter__(self) -> NoReturn:
        raise RuleError(
            "a rule is for one element: a symbol has no items to loop over or unpack, as sum, max and min do of one "
            "argument. The sum over the whole tensor is total(x); of two values the larger is maximum(a, b)"
        )

    def __getitem__(self, index: object) -> NoReturn:
        raise RuleError("a rule is for one element: a symbol cannot be indexed")

    def __array__(self, *args: object, **kwargs: object) -> NoReturn:
        raise RuleError(
            "a NumPy function was called on a symbol. Use steprule.sqrt, maximum, minimum, where, sign, and Python's "
            "operators and abs; over the whole tensor, total, mean, norm and rms"
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python probing for a protocol, not the rule asking
            raise AttributeError(name)
        raise RuleError(
            f"a symbol has no attribute {name!r}: a rule is for one element, without methods of arrays. Use sqrt(x), "
            "abs(x), x**2, maximum and minimum (to clip), and over the whole tensor total(x), mean(x), norm(x) and "
            "rms(x)"
        )
