"""Nested lists, tuples and dicts of arrays: flattening, matching and rebuilding."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steprule.errors import StructureError

__all__ = ["Structure", "keystr"]

Path = tuple[Any, ...]


def keystr(path: Path) -> str:
    """Return a path as it is written in Python, such as ``['layers'][0]``; empty for the root."""
    return "".join(f"[{key!r}]" for key in path)


@dataclass(frozen=True)
class Structure:
    """The shape of a nest: a leaf (``keys`` None), a mapping (its keys) or a sequence (its indices)."""

    keys: tuple[Any, ...] | None
    kind: type
    children: tuple[Structure, ...] = ()

    @classmethod
    def of(cls, tree: Any) -> Structure:
        """Return the structure of ``tree``. Whatever is not a list, tuple or dict is a leaf."""
        if isinstance(tree, Mapping):
            return cls(tuple(tree), dict, tuple(cls.of(tree[key]) for key in tree))
        if isinstance(tree, (list, tuple)):
            kind = type(tree) if hasattr(tree, "_fields") else tuple if isinstance(tree, tuple) else list
            return cls(tuple(range(len(tree))), kind, tuple(map(cls.of, tree)))
        return cls(None, object)

    def paths(self, prefix: Path = ()) -> Iterator[Path]:
        """Yield the path of every leaf, in order."""
        if self.keys is None:
            yield prefix
        else:
            for key, child in zip(self.keys, self.children, strict=True):
                yield from child.paths((*prefix, key))

    def leaves(self, tree: Any, what: str = "grads", prefix: Path = ()) -> list[Any]:
        """Return the leaves of ``tree``, which must have this structure; lists and tuples are alike.

        Raises:
            StructureError: naming the first place that differs.
        """
        if self.keys is None:
            return [tree]
        children = self._children_of(tree, what, prefix)
        if self._is_flat:
            return children
        leaves: list[Any] = []
        for key, child, own in zip(self.keys, self.children, children, strict=True):
            leaves += child.leaves(own, what, (*prefix, key))
        return leaves

    def _children_of(self, tree: Any, what: str, prefix: Path) -> list[Any]:
        assert self.keys is not None
        if self.kind is not dict:
            self._check_sequence(tree, what, prefix)
            return list(tree)
        if type(tree) is dict and len(tree) == len(self.keys):  # all keys there are all that there may be
            with contextlib.suppress(KeyError):
                return list(map(tree.__getitem__, self.keys))
        self._check_mapping(tree, what, prefix)
        return list(map(tree.__getitem__, self.keys))

    @functools.cached_property
    def _is_flat(self) -> bool:
        """Whether all children are leaves."""
        return all(child.keys is None for child in self.children)

    def rebuild(self, leaves: Sequence[Any]) -> Any:
        """Return a nest of this structure with these leaves."""
        return self._rebuild(iter(leaves))

    def _rebuild(self, leaves: Iterator[Any]) -> Any:
        if self.keys is None:
            return next(leaves)
        built = [child._rebuild(leaves) for child in self.children]
        if self.kind is dict:
            return dict(zip(self.keys, built, strict=True))
        # A named tuple takes its items one by one.
        return self.kind(*built) if hasattr(self.kind, "_fields") else self.kind(built)

    def _check_mapping(self, tree: Any, what: str, prefix: Path) -> None:
        place = f"{what}{keystr(prefix)}"
        assert self.keys is not None
        if not isinstance(tree, Mapping):
            raise StructureError(
                f"{place} is a {type(tree).__name__}, but the parameters there are a dict with {self.keys}; give one"
            )
        if set(tree) != set(self.keys):
            missing = [key for key in self.keys if key not in tree]
            extra = [key for key in tree if key not in self.keys]
            kinds = (("missing", missing), ("unknown", extra))
            words = ", ".join(f"{kind} keys {keys}" for kind, keys in kinds if keys)
            raise StructureError(f"{place} differs from the parameters: {words}")

    def _check_sequence(self, tree: Any, what: str, prefix: Path) -> None:
        place = f"{what}{keystr(prefix)}"
        assert self.keys is not None
        if not isinstance(tree, (list, tuple)):
            raise StructureError(
                f"{place} is a {type(tree).__name__}, but the parameters there are a sequence of {len(self.keys)}"
            )
        if len(tree) != len(self.keys):
            raise StructureError(f"{place} has {len(tree)} items, but the parameters there have {len(self.keys)}")
