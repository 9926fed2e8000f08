// Random numbers: the same function of seed, step and lane as in steprule/lab/noise.py, in every bit.
function uniform(seed, t, lane) {
  let h = (Math.imul(seed, 0xc2b2ae3d) + Math.imul(t, 0x9e3779b1) + Math.imul(lane, 0x85ebca77)) >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d) >>> 0;
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b) >>> 0;
  return ((h ^ (h >>> 16)) >>> 0) * 2 ** -32;
}

function normal(seed, t, coordinate) {
  let sum = 0;
  for (let draw = 0; draw < 12; draw++) sum += uniform(seed, t, 1 + 12 * coordinate + draw);
  return sum - 6;
}

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

// Round numbers from low to high, about so many.
function evenTicks(low, high, most) {
  const least = (high - low) / most, power = 10 ** Math.floor(Math.log10(least)), found = [];
  const stride = [1, 2, 5, 10].map((digit) => digit * power).find((one) => one >= least * 0.999);
  for (let k = Math.ceil(low / stride - 1e-9); k * stride <= high + 1e-9 * stride; k++) found.push(k * stride);
  return found;
}

// A number for people: three digits, and a true minus sign.
function written(x, digits = 3) {
  if (x === undefined || x === null) return "–";
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  const size = Math.abs(x);
  let text;
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) {
    const [mantissa, exponent] = x.toExponential(digits - 1).split("e");
    text = `${Number(mantissa)}e${Number(exponent)}`;
  } else {
    text = String(Number(x.toPrecision(digits)));
  }
  return text.replaceAll("-", "−");
}
