"""The names that emitted C must not give to anything: keywords, macros, and what the C library has."""

from __future__ import annotations

__all__ = ["MATH", "MATH_OF_TWO", "RESERVED"]

MATH = (
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cbrt", "ceil", "cos", "cosh", "erf", "erfc", "exp", "exp2"),
    *("expm1", "fabs", "floor", "lgamma", "log", "log10", "log1p", "log2", "sin", "sinh", "sqrt", "tan", "tanh"),
    *("trunc", "isnan", "isinf", "isfinite"),
)
MATH_OF_TWO = ("atan2", "copysign", "fmod", "hypot", "nextafter", "pow", "remainder")
"""Functions of ``math`` that C has under the same name, of one number and of two."""
_KEYWORDS = (
    *("auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern"),
    *("float", "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed"),
    *("sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "main"),
    *("bool", "complex", "imaginary", "NULL", "NAN", "INFINITY", "HUGE_VAL", "HUGE_VALF", "I", "errno"),
    # Of C++, which may compile the same text.
    *("alignas", "alignof", "and", "and_eq", "asm", "bitand", "bitor", "catch", "char8_t", "char16_t", "char32_t"),
    *("class", "co_await", "co_return", "co_yield", "compl", "concept", "const_cast", "consteval", "constexpr"),
    *("constinit", "decltype", "delete", "dynamic_cast", "explicit", "export", "false", "friend", "mutable"),
    *("namespace", "new", "noexcept", "not", "not_eq", "nullptr", "operator", "or", "or_eq", "private", "protected"),
    *("public", "reinterpret_cast", "requires", "static_assert", "static_cast", "template", "this", "thread_local"),
    *("throw", "true", "try", "typeid", "typename", "using", "virtual", "wchar_t", "xor", "xor_eq"),
    # GCC's own, without -std=c99.
    *("typeof", "linux", "unix", "i386"),
)
_LIBRARY = (
    *("memchr", "memcmp", "memcpy", "memmove", "memset", "strcat", "strchr", "strcmp", "strcpy", "strlen", "strncpy"),
    *("fma", "fmax", "fmin", "fdim", "fpclassify", "frexp", "ilogb", "isgreater", "isless", "isnormal", "logb"),
    *("lrint", "lround", "llrint", "llround", "modf", "nan", "nearbyint", "nexttoward", "remquo"),
    *("rint", "round", "scalbn"),
    *("scalbln", "signbit", "tgamma", "ldexp", "abs", "labs", "div", "exit", "free", "malloc", "signal", "printf"),
    # Of older libraries.
    *("gamma", "index", "rindex", "bcmp", "bcopy", "bzero", "j0", "j1", "jn", "y0", "y1", "yn", "drem", "significand"),
    *("exp10", "pow10", "sincos", "scalb", "finite"),
)
# Each function of the library has twins for float and long double.
_TWINS = tuple(f"{name}{suffix}" for name in (*_LIBRARY, *MATH, *MATH_OF_TWO) for suffix in ("", "f", "l"))
RESERVED = (*_KEYWORDS, *_TWINS)
