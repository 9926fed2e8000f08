// What a surface looks like: heights on a logarithmic scale, shades, and a canvas that knows its size.
class Heights {
  constructor(ground, surface) {
    Object.assign(this, { ground, surface, flat: ground.dimensions === 1 });
    const side = 61, values = [];
    for (let i = 0; i < side; i++) {
      for (let j = 0; j < (this.flat ? 1 : side); j++) {
        values.push(this.value(...this.at(i / (side - 1), j / (side - 1))));
      }
    }
    for (const [x, y = 0] of ground.minima) values.push(this.value(x, y));
    const finite = values.filter(Number.isFinite).sort((a, b) => a - b);
    this.low = finite[0] ?? 0;
    this.median = (finite[finite.length >> 1] ?? 1) - this.low;
    this.soft = ground.soft * this.median || 1e-12;
    this.bottom = Math.log(this.soft);
    this.top = Math.log((finite.at(-1) ?? 1) - this.low + this.soft);
  }

  at(right, up) {
    const [[x0, x1], [y0, y1]] = this.ground.box;
    return [x0 + right * (x1 - x0), y0 + up * (y1 - y0)];
  }

  value(x, y) {
    return this.surface.value(x, this.flat ? 0 : y, 1, 0.5)[0];
  }

  // The height of a loss, as of a point.
  of(loss) {
    const above = loss - this.low;
    if (this.flat) return above / (Math.exp(this.top) - this.soft || 1);
    return (Math.log(Math.max(above, 0) + this.soft) - this.bottom) / (this.top - this.bottom || 1);
  }

  // From 0, the lowest point that is drawn, to 1, the highest; on a line the loss itself.
  height(x, y) {
    return this.of(this.value(x, y));
  }
}

// What is drawn, in words: a logarithm is not what a ground looks like.
function legend({ state, heights, looks, facts }) {
  const { ground, flat } = heights;
  if (state.view === "thousand") {
    const reached = ground.minima.length ? "Colour: the minimum that was reached, fainter the later. Grey" : "Shade";
    return `Each ${flat ? "stripe" : "cell"} is a start. ${reached}: where it is after the last step, by height. ${looks.theme === "dark" ? "White" : "Black"}: diverged.`;
  }
  const signs = ["Ring: the start", ground.minima.length ? `cross: ${ground.minima.length > 1 ? "minima" : "the minimum"}` : ""];
  const scale = flat ? "The darker the ground, the higher is the loss; time runs down"
    : `${state.view === "solid" ? "Heights are" : "The ground is drawn by"} the logarithm of the loss above its lowest, so slopes near a minimum look steeper than they are`;
  const two = state.rules.some((name) => facts.rules.get(name)?.point);
  const points = two ? " Thick lines show where a rule is evaluated; a thin one beside it, with a hollow mark, where it takes its gradients." : "";
  return `${signs.filter(Boolean).join("; ")}. ${scale}.${points}`;
}

// SHADES are those of steprule/style.py.
function shade(theme, height) {
  const { low, high } = SHADES[theme], part = clamp(height, 0, 1);
  return low.map((dark, k) => dark + (high[k] - dark) * part);
}

// Words on a picture, readable on any ground.
function label(context, text, left, top, looks, align = "center") {
  Object.assign(context, { font: "11px system-ui, sans-serif", textAlign: align, textBaseline: "middle", lineJoin: "round", lineWidth: 3 });
  context.setLineDash([]);
  context.strokeStyle = looks.paint("paper");
  context.fillStyle = looks.paint("text");
  context.strokeText(text, left, top);
  context.fillText(text, left, top);
}

// Where paths begin, and where they ought to end.
function ring(context, [left, top], looks) {
  context.setLineDash([]);
  context.lineWidth = 2;
  context.strokeStyle = looks.paint("text");
  context.fillStyle = looks.paint("paper");
  context.beginPath();
  context.arc(left, top, 5, 0, 2 * Math.PI);
  context.fill();
  context.stroke();
}

function cross(context, [left, top], looks) {
  context.strokeStyle = looks.paint("text");
  context.lineWidth = 1.5;
  context.setLineDash([]);
  context.beginPath();
  context.moveTo(left - 6, top);
  context.lineTo(left + 6, top);
  context.moveTo(left, top - 6);
  context.lineTo(left, top + 6);
  context.stroke();
}

class Stage {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.fit();
  }

  // Take the size that the page gives; true where it has changed.
  fit() {
    const { width, height } = this.canvas.getBoundingClientRect(), ratio = Math.min(devicePixelRatio || 1, 2);
    const wide = Math.round(width * ratio), high = Math.round(height * ratio);
    const changed = this.canvas.width !== wide || this.canvas.height !== high;
    if (changed) Object.assign(this.canvas, { width: wide, height: high });
    Object.assign(this, { width, height, ratio });
    return changed;
  }

  clear() {
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
  }
}

// A line through points, broken where a point is outside; `visit(k)` gives [x, y] or null.
function polyline(context, from, to, visit) {
  let drawing = false;
  context.beginPath();
  for (let k = from; k <= to; k++) {
    const point = visit(k);
    if (!point) drawing = false;
    else if (drawing) context.lineTo(point[0], point[1]);
    else {
      context.moveTo(point[0], point[1]);
      drawing = true;
    }
  }
}
