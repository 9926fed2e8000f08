"""What the emitted C calls: bits of numbers, random bits, Python's ``%`` and ``//``, and sums that are rounded once."""

from __future__ import annotations

__all__ = ["HELPERS"]

HELPERS = {
    "bits_of": """
static uint32_t bits_of(float x)
{
    uint32_t word;
    memcpy(&word, &x, sizeof word);
    return word;
}
""",
    "real_of": """
static float real_of(uint32_t word)
{
    float x;
    memcpy(&x, &word, sizeof x);
    return x;
}
""",
    "mixed": """
/* The next number of SplitMix64. */
static uint64_t mixed(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}
""",
    "floor_mod": """
/* x % y as in Python. */
static double floor_mod(double x, double y)
{
    const double rest = fmod(x, y);
    if (rest == 0.0)
        return copysign(0.0, y);
    return (rest < 0.0) != (y < 0.0) ? rest + y : rest;
}
""",
    "floor_divide": """
/* x // y as in Python. */
static double floor_divide(double x, double y)
{
    const double rest = fmod(x, y);
    double whole = (x - rest) / y;
    if (rest != 0.0 && (rest < 0.0) != (y < 0.0))
        whole -= 1.0;
    if (whole == 0.0)
        return copysign(0.0, x / y);
    return whole - floor(whole) > 0.5 ? floor(whole) + 1.0 : floor(whole);
}
""",
    "exact_add": """
/* A sum of numbers without rounding: an integer times 2**-1074, of which each place has 32 bits. */
typedef struct {
    int64_t places[68];
    double beyond; /* the sum of those that are infinite or NaN */
} exact_sum;

static void exact_add(exact_sum *sum, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    const unsigned exponent = (unsigned)(bits >> 52) & 2047U, shift = exponent > 0 ? exponent - 1 : 0;
    if (exponent == 2047U) {
        sum->beyond += x;
        return;
    }
    const uint64_t digits = (bits & UINT64_C(0xFFFFFFFFFFFFF)) | (uint64_t)(exponent > 0) << 52;
    const uint64_t low = (digits & UINT32_MAX) << shift % 32, high = (digits >> 32) << shift % 32;
    const int64_t sign = bits >> 63 ? -1 : 1;
    int64_t *place = &sum->places[shift / 32];
    place[0] += sign * (int64_t)(low & UINT32_MAX);
    place[1] += sign * (int64_t)((low >> 32) + (high & UINT32_MAX));
    place[2] += sign * (int64_t)(high >> 32);
}

/* The sum, rounded once. */
static double exact_rounded(const exact_sum *sum)
{
    uint32_t digits[68];
    int64_t carry = -1;
    int sign = -1, top = 67;
    if (sum->beyond != 0.0)
        return sum->beyond;
    while (carry < 0) { /* of a negative sum once more, with the other sign */
        carry = 0;
        sign = -sign;
        for (int k = 0; k < 68; ++k) {
            const int64_t value = carry + sign * sum->places[k];
            digits[k] = (uint32_t)((uint64_t)value & UINT32_MAX);
            carry = (value - (int64_t)digits[k]) / INT64_C(4294967296);
        }
    }
    while (top > 0 && digits[top] == 0)
        --top;
    /* The first 64 bits; the last of them is set where a later one is. */
    uint64_t first = (uint64_t)digits[top] << 32 | (top > 0 ? digits[top - 1] : 0);
    uint32_t rest = top > 1 ? digits[top - 2] : 0;
    int exponent = 32 * (top - 1) - 1074;
    for (; first != 0 && first >> 63 == 0; --exponent) {
        first = first << 1 | rest >> 31;
        rest <<= 1;
    }
    for (int k = 0; k < top - 2; ++k)
        rest |= digits[k];
    return sign * ldexp((double)(first | (rest != 0)), exponent);
}
""",
}
"""Functions by the name that is called first of each text."""
