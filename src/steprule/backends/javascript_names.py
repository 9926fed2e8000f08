"""The names that emitted JavaScript must not give to anything, and the functions of ``Math`` under Python's names."""

from __future__ import annotations

from steprule.backends.javascript_math import HELPERS

__all__ = ["MATH", "RESERVED"]

RESERVED = (
    *("arguments", "await", "break", "case", "catch", "class", "const", "continue", "debugger", "default", "delete"),
    *("do", "else", "enum", "eval", "export", "extends", "false", "finally", "for", "function", "if", "implements"),
    *("import", "in", "instanceof", "interface", "let", "new", "null", "package", "private", "protected", "public"),
    *("return", "static", "super", "switch", "this", "throw", "true", "try", "typeof", "var", "void", "while", "with"),
    *("yield", "async", "of", "undefined", "Infinity", "NaN", "Math", "BigInt", "Float32Array", "Uint32Array"),
    *("keys", "origin", "size", "all_size", "row_size", "column_size", "row_count", "column_count", "ndim"),
    *("doubles", "quads"),
    *("scalars", "prelude", "kernel", "fround", "words", "floats", "lost", "array", "value", "one", "must"),
    *HELPERS,
)
MATH = (
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cbrt", "ceil", "cos", "cosh", "expm1", "floor", "log10"),
    *("log1p", "log2", "sin", "sinh", "tan", "tanh", "trunc"),
)
