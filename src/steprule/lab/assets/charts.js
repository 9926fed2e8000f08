// Curves over the steps, by uPlot. Each chart is given the columns up to now; its x axis spans the whole run.
const FLOOR = 1e-12;

// Losses are drawn by their logarithm, unless the surface is a line, or goes below zero.
const isLogarithmic = ({ runs, heights }) => !heights.flat && runs.every(({ run }) => run.lowest >= 0);

// One coordinate of a quantity over the steps, as uPlot wants it.
function column(run, values, k, stride, end, shape) {
  const found = new Array(end + 1);
  for (let t = 0; t <= end; t++) found[t] = shape(values[stride * t + k], t);
  return found;
}

// On a logarithmic axis there is no zero: a gap stands for it, and for what only rounding tells from it.
const size = (x) => (Math.abs(x) > FLOOR && Number.isFinite(x) ? Math.abs(x) : null);

// The losses that a chart shows at most, from low to high: those of runs that stay within a thousand times the loss at the
// start (or what is usual on the surface, where that is zero), with some room. The curve of a run that diverges leaves
// the chart, and does not press the others flat.
function tame(runs, t, usual) {
  const start = Math.max(...runs.map((run) => Math.abs(run.losses[0]))) || usual || FLOOR;
  let [low, high, wild] = [Infinity, -Infinity, false];
  for (const run of runs) {
    const losses = run.losses.subarray(0, Math.min(t, run.done) + 1), calm = losses.every((x) => Math.abs(x) <= 1000 * start);
    wild ||= run.fate === "diverged" || !calm;
    for (const x of calm ? losses : losses.subarray(0, 1)) [low, high] = [Math.min(low, x), Math.max(high, x)];
  }
  const room = Math.max(high - low, Math.abs(high), FLOOR);
  return wild ? [low > 0 ? 0 : low - room, high + 9 * room] : undefined;
}

// Where a value stands between gaps: no line goes there, so it is drawn as a point.
function lone(data) {
  const found = [];
  for (let k = 0; k < data.length; k++) if (data[k] != null && data[k - 1] == null && data[k + 1] == null) found.push(k);
  return found;
}

class Chart {
  constructor(host, title) {
    this.host = host;
    this.title = title;
    this.key = "";
  }

  // lines: [{ color, dash, width, data }] over xs; rebuilt only when their looks change.
  show({ xs, lines, from, steps, log, theme, paper, floor, most }) {
    const { width } = this.host.getBoundingClientRect(), height = this.host.clientHeight;
    const key = JSON.stringify([lines.map(({ color, dash, width: thick }) => [color, dash, thick]), from, steps, log, theme]);
    if (key !== this.key) this.build(key, { lines, from, steps, log, paper, width, height });
    Object.assign(this, { floor, most });
    if (this.plot.width !== width || this.plot.height !== height) this.plot.setSize({ width, height });
    this.plot.setData([xs, ...lines.map((line) => line.data)]);
  }

  build(key, { lines, from, steps, log, paper, width, height }) {
    this.plot?.destroy();
    this.key = key;
    const axis = { stroke: paper("muted"), grid: { stroke: paper("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const options = {
      width, height, padding: [8, 18, 0, 0], legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: false, range: [from, steps] }, y: { distr: log ? 3 : 1, range: (_, low, high) => this.range(low, high, log) } },
      axes: [
        { ...axis, size: 26 },
        {
          ...axis, size: 52, space: 26, ...(log ? { splits: (_, __, low, high) => decades(low, high), filter: (_, ticks) => ticks } : {}),
          values: (_, ticks) => apart(ticks),
        },
      ],
      series: [{}, ...lines.map(({ color, dash, width: thick }) => ({
        stroke: color, dash: dash.length ? dash : undefined, width: thick, spanGaps: false,
        points: { show: false, filter: (plot, k) => lone(plot.data[k]), size: 4, fill: color, stroke: color },
      }))],
    };
    this.plot = new uPlot(options, [[0], ...lines.map(() => [null])], this.host);
    // Press to go to a step, and drag along the run. (uPlot keeps clicks to itself.)
    const pick = (event) => {
      const at = this.plot.posToVal(event.offsetX, "x");
      if (event.buttons === 1 && Number.isFinite(at)) this.onPick?.(Math.round(at));
    };
    for (const kind of ["pointerdown", "pointermove"]) this.plot.over.addEventListener(kind, pick);
  }

  range(least, greatest, log) {
    const low = Math.max(least, this.most?.[0] ?? -Infinity), high = Math.min(greatest, this.most?.[1] ?? Infinity);
    if (!Number.isFinite(low) || !Number.isFinite(high)) return log ? [1e-3, 1] : [0, 1];
    if (log) {
      const bottom = Math.max(low, this.floor ?? FLOOR), top = Math.max(high, bottom);
      return [10 ** (Math.floor(Math.log10(bottom) * 2 - 0.05) / 2), 10 ** (Math.ceil(Math.log10(top) * 2 + 0.05) / 2)];
    }
    const room = 0.06 * (high - low || Math.abs(high) || 1);
    return [low - room, high + room];
  }
}

// Ticks of a logarithmic axis: powers of ten, not more than six; with what is between where there are few.
function decades(low, high) {
  const from = Math.ceil(Math.log10(low) - 1e-9), to = Math.floor(Math.log10(high) + 1e-9), stride = Math.ceil((to - from + 1) / 6);
  const digits = to - from < 2 ? [1, 2, 5] : [1], found = [];
  for (let power = from - 1; power <= to; power++) {
    if ((power - from) % stride) continue;
    for (const digit of digits) if (digit * 10 ** power >= low * 0.999 && digit * 10 ** power <= high * 1.001) found.push(digit * 10 ** power);
  }
  return found;
}

// Numbers at ticks, with as many digits as tell them apart.
function apart(ticks) {
  const texts = (digits) => ticks.map((tick) => written(tick, digits));
  return texts([2, 3, 4, 5, 6].find((digits) => new Set(texts(digits)).size === ticks.length) ?? 7);
}

// What the charts show of a state: the loss of all rules, and what is inside the one that is looked into.
class Charts {
  constructor(root, onPick) {
    this.charts = {};
    for (const host of root.querySelectorAll("[data-chart]")) {
      const chart = new Chart(host, host.dataset.chart);
      chart.onPick = onPick;
      this.charts[host.dataset.chart] = chart;
    }
    this.turn = 0;
  }

  get count() {
    return Object.keys(this.charts).length;
  }

  // Draw so many charts, in turn.
  show(scene, count) {
    const names = Object.keys(this.charts);
    for (let k = 0; k < count; k++) this.draw(names[this.turn++ % names.length], scene);
  }

  draw(name, scene) {
    const { t, from, steps } = scene.state; // what comes before `from` is shown when one goes there
    const common = { from: from < steps && from <= t ? from : 0, steps, theme: scene.looks.theme, paper: (paint) => scene.looks.paint(paint) };
    const found = name === "loss" ? this.losses(scene) : this.inside(name, scene);
    if (found) this.charts[name].show({ ...common, ...found });
  }

  losses({ runs, looks, state, focus, heights }) {
    const xs = steps(state.t, 0), log = isLogarithmic({ runs, heights });
    const line = (name, run, losses, width) => {
      const { color, dash } = looks.of(name), end = Math.min(state.t, run.done);
      const data = new Array(state.t + 1).fill(null);
      for (let t = 0; t <= end; t++) data[t] = log ? size(losses[t]) : losses[t];
      return { color, dash, width, data };
    };
    // Thin and below the others: the losses where gradients are taken.
    const thin = runs.filter(({ run }) => run.rule.point).map(({ name, run }) => line(name, run, run.trainedLosses, 0.8));
    const lines = [...thin, ...runs.map(({ name, run }) => line(name, run, run.losses, name === focus ? 2.5 : 1.6))];
    return { xs, lines, log, most: tame(runs.map(({ run }) => run), state.t, heights.median) };
  }

  inside(name, scene) {
    const { state, looks, focus } = scene, entry = scene.runs.find((one) => one.name === focus);
    if (!entry) return { xs: [0], lines: [], log: false };
    const { run } = entry, end = Math.min(state.t, run.done), { color } = looks.of(focus), muted = looks.paint("muted");
    const xs = steps(end, 1), axes = [...Array(run.d).keys()];
    const dashes = [[], [5, 3], [2, 3]];
    const line = (data, k) => ({ color: k ? muted : color, dash: dashes[k], width: 2, data: data.slice(Math.min(1, end)) });
    if (name === "step") {
      const moved = (k) => column(run, run.trained, k, run.d, end, (x, t) => size(x - (t ? run.trained[run.d * (t - 1) + k] : x)));
      const bound = run.values.lr, lines = axes.map((k) => line(moved(k), k));
      if (bound > 0) lines.push({ color: muted, dash: [2, 3], width: 1, data: new Array(xs.length).fill(bound) });
      let longest = 0;
      for (const { data } of lines.slice(0, run.d)) for (const x of data) if (x > longest) longest = x;
      // Shorter ones would press the others flat; the rate is in sight where a rule diverges, too.
      const floor = Math.max(Math.min(1e-4 * longest, bound > 0 ? bound / 10 : Infinity), FLOOR);
      return { xs, lines, log: true, floor };
    }
    if (name === "correction") {
      const shown = corrections(run.rule);
      const lines = shown.map((probe, k) => line(column(run, run.names.get(probe), 0, run.d, end, (x) => x), k));
      return { xs, lines, log: false };
    }
    const chosen = insideOf(run.rule, state)[name === "first" ? 0 : 1], values = valuesNamed(run, chosen);
    if (!values) return { xs: [0], lines: [], log: false };
    // A scalar slot is one number a step. What is never below zero is shown by its size.
    const stride = run.scalars.has(chosen) && !run.names.has(chosen) ? 1 : run.d;
    const plain = axes.slice(0, stride).map((k) => column(run, values, k, stride, end, (x) => x));
    const log = name === "second" && plain.every((data) => data.every((x) => !(x < 0)));
    return { xs, lines: plain.map((data, k) => line(log ? data.map(size) : data, k)), log };
  }
}

function steps(end, from) {
  const found = new Float64Array(Math.max(end - from + 1, 1));
  for (let k = 0; k < found.length; k++) found[k] = Math.min(from, end) + k;
  return found;
}

// What has a name in the rule, or the quotient of two of those: "m_hat / root".
function valuesNamed(run, name = "") {
  const found = run.names.get(name) ?? run.scalars.get(name), [over, under] = name.split(" / ").map((part) => run.names.get(part));
  return found ?? (over && under ? over.map((x, k) => x / under[k]) : undefined);
}

// The mean of gradients over the root of their squares, where a rule has both: its signal-to-noise ratio, which anneals its steps.
function ratio(rule) {
  const mean = ["m_hat", "m1_hat", "m"].find((name) => rule.probes.includes(name) || rule.slots.includes(name));
  return mean && rule.probes.includes("root") ? [`${mean} / root`] : [];
}

// What can be looked at inside a rule, and what is shown first: the mean of gradients, and what it is divided by.
const insideNames = (rule) => [...rule.slots, ...rule.scalars, ...rule.probes.filter((name) => !name.startsWith("1 - ")), ...ratio(rule)];

function insideOf(rule, state) {
  const names = insideNames(rule), roots = names.filter((name) => name.startsWith("sqrt "));
  const first = ["m_hat", "m1_hat", "m", "m1", "b", "c", "step", "g_avg", "dx"].find((name) => names.includes(name)) ?? names[0];
  const second = roots[0] ?? ["v_hat", "v", "u", "G", "E_g2", "delta", "ax"].find((name) => names.includes(name)) ?? names[1];
  const chosen = state.inside.map((name) => (names.includes(name) ? name : ""));
  return [chosen[0] || first, chosen[1] || second];
}

// The longest step along one coordinate so far, in learning rates, in words.
function longest(run, end) {
  const { trained: path, d, values: { lr } } = run;
  let most = 0, at = 0;
  for (let k = d; k < d * (end + 1); k++) {
    const length = Math.abs(path[k] - path[k - d]);
    if (length > most) [most, at] = [length, Math.floor(k / d)];
  }
  return lr > 0 && most > 0 ? `; longest: ${written(most / lr)} times it, at step ${at}` : "";
}

// Corrections of the bias where the rule has some; else what else it computes once a step.
function corrections(rule) {
  const found = rule.probes.filter((name) => name.startsWith("1 - "));
  return found.length ? found : rule.hosts.filter((name) => rule.probes.includes(name)).slice(0, 3);
}
