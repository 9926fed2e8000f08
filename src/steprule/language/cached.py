"""Attributes that are computed when they are first read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

__all__ = ["cached_attribute"]

T = TypeVar("T")


class cached_attribute(Generic[T]):  # noqa: N801  # read as a decorator, like property
    """A property that is computed once, and then an attribute of the instance.

    As ``functools.cached_property``, but without the lock that Python 3.11 has there, one for all instances: a child
    that is forked while another thread computes one would wait for it for ever. Two threads may both compute.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute, self.__doc__ = compute, compute.__doc__
        self._name = compute.__name__

    @overload
    def __get__(self, instance: None, owner: type) -> cached_attribute[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object, owner: type) -> cached_attribute[T] | T:
        if instance is None:
            return self
        found: T = instance.__dict__.setdefault(self._name, self._compute(instance))
        return found
