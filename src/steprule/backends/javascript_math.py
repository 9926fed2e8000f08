"""What the emitted JavaScript calls: bits of numbers, Python's ``%`` and ``//``, powers and sums that are rounded once.

A number of two parts is one float64 and, in ``lost``, what rounding it has lost. V8's own ``Math.pow`` and ``Math.exp``
are off by up to one place of the last, and differently from C libraries, so that ``1 - beta**t`` could differ.
"""

from __future__ import annotations

__all__ = ["HELPERS"]

HELPERS = {
    "two_product": """\
let lost = 0; // what the last product or sum was rounded off
// a * b, and what was lost (Dekker 1971).
function two_product(a, b) {
    const product = a * b, a_big = 134217729 * a, b_big = 134217729 * b;
    const a_high = a_big - (a_big - a), b_high = b_big - (b_big - b);
    const a_low = a - a_high, b_low = b - b_high;
    lost = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
    return product;
}
""",
    "two_sum": """\
// a + b of numbers of two parts, where a is the larger.
function two_sum(a, a_low, b, b_low) {
    const sum = a + b, back = sum - a;
    const error = ((a - (sum - back)) + (b - back)) + (a_low + b_low);
    const both = sum + error;
    lost = error - (both - sum);
    return both;
}
""",
    "multiply": """\
function multiply(a, a_low, b, b_low) {
    const high = two_product(a, b), low = lost + (a * b_low + a_low * b), both = high + low;
    lost = low - (both - high);
    return both;
}
""",
    "whole_power": """\
// x to an integer that is not negative: squares of squares.
function whole_power(x, n) {
    let high = 1, low = 0, base = x, base_low = 0;
    for (let left = n; left >= 1; left = Math.floor(left / 2)) {
        if (left % 2 === 1) {
            high = multiply(high, low, base, base_low);
            low = lost;
        }
        base = multiply(base, base_low, base, base_low);
        base_low = lost;
    }
    return high;
}
""",
    "two_exponential": """\
// e to a number of two parts: a multiple of ln 2, and a series for 1/64 of the rest, squared six times.
function two_exponential(x, x_low) {
    const k = Math.round(x / 0.6931471805599453);
    const off = two_product(k, 0.6931471805599453), off_low = lost + k * 2.3190468138462996e-17;
    let rest = two_sum(x, x_low, -off, -off_low), rest_low = lost;
    rest /= 64;
    rest_low /= 64;
    let high = 1, low = 0;
    for (let term = 11; term >= 1; term--) {
        high = multiply(high, low, rest, rest_low);
        low = lost;
        // A quotient of two parts: the rest of the division is exact in a product of two parts.
        const part = high / term, back = two_product(part, term);
        low = ((high - back) - lost + low) / term;
        high = two_sum(1, 0, part, low);
        low = lost;
    }
    for (let square = 0; square < 6; square++) {
        high = multiply(high, low, high, low);
        low = lost;
    }
    const half = Math.floor(k / 2); // 2**k itself may overflow before it is multiplied
    lost = low * 2 ** half * 2 ** (k - half);
    return high * 2 ** half * 2 ** (k - half);
}
""",
    "exponential": """\
function exponential(x) {
    return Math.abs(x) < 650 ? two_exponential(x, 0) : Math.exp(x);
}
""",
    "two_logarithm": """\
// ln x of a normal number in two parts: y + ln(x / e**y), where y is near.
function two_logarithm(x) {
    const y = Math.log(x), inverse = two_exponential(-y, 0);
    const product = multiply(x, 0, inverse, lost), ratio = two_sum(product, lost, -1, 0);
    return two_sum(y, 0, ratio, -0.5 * ratio * ratio);
}
""",
    "logarithm": """\
function logarithm(x) {
    return x > 1e-280 && x < 1e280 && x !== 1 ? two_logarithm(x) : Math.log(x);
}
""",
    "power": """\
// x to the y, rounded once where neither it nor a part of it overflows.
function power(x, y) {
    const near = x ** y;
    if (!(Math.abs(near) > 1e-200 && Math.abs(near) < 1e200) || near === 1 || y === 1) return near;
    if (Number.isInteger(y) && y > 0 && y < 4294967296) return whole_power(x, y);
    if (!(x > 1e-280 && x < 1e280)) return near;
    const log = two_logarithm(x), product = multiply(log, lost, y, 0);
    return two_exponential(product, lost);
}
""",
    "floor_mod": """\
// x % y as in Python.
function floor_mod(x, y) {
    const rest = x % y;
    if (rest === 0) return y < 0 ? -0 : 0;
    return rest < 0 !== y < 0 ? rest + y : rest;
}
""",
    "floor_divide": """\
// Python's x // y.
function floor_divide(x, y) {
    const rest = x % y;
    let whole = (x - rest) / y;
    if (rest !== 0 && rest < 0 !== y < 0) whole -= 1;
    if (whole === 0) return x / y < 0 ? -0 : 0;
    const floor = Math.floor(whole);
    return whole - floor > 0.5 ? floor + 1 : floor;
}
""",
    "bits_of": """\
const floats = new Float32Array(1), words = new Uint32Array(floats.buffer);
function bits_of(x) {
    floats[0] = x;
    return words[0];
}
""",
    "real_of": """\
function real_of(word) {
    words[0] = word;
    return floats[0];
}
""",
    "rounded_once": """\
const doubles = new Float64Array(1), quads = new BigUint64Array(doubles.buffer);
// The sum of numbers, rounded once: an exact integer times 2**-1074, or what infinities and NaN come to.
function rounded_once(numbers) {
    if (numbers.length === 1) return numbers[0];
    let whole = 0n, beyond = 0;
    for (const number of numbers) {
        doubles[0] = number;
        const exponent = (quads[0] >> 52n) & 2047n, digits = quads[0] & 0xfffffffffffffn;
        const size = exponent > 0n ? (digits | 0x10000000000000n) << (exponent - 1n) : digits;
        if (exponent === 2047n) beyond += number;
        else whole += number < 0 ? -size : size;
    }
    if (beyond !== 0) return beyond;
    // The first 61 to 64 bits; the last of them is set where a later one is.
    const size = whole < 0n ? -whole : whole, shift = Math.max(0, 4 * size.toString(16).length - 64);
    const first = size >> BigInt(shift), isRest = first << BigInt(shift) !== size;
    return (whole < 0n ? -1 : 1) * Number(isRest ? first | 1n : first) * 2 ** (shift - 1074);
}
""",
}
"""Functions by name, each after those that it calls."""
