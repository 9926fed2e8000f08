// The runs: emitted kernels over emitted surfaces. Nothing here knows of the document.
const FACTS_OF = (list, key) => new Map(list.map((one) => [one[key], one]));

// What a slot holds before the first step: a number, or a hyperparameter.
function startOf(rule, values, slot) {
  const start = rule.init[slot] ?? 0;
  return typeof start === "string" ? values[start] : start;
}

// Arrays as they are before the first step: slots, behind the parameter, which is there.
function beginSlots(rule, values, now) {
  rule.slots.forEach((name, index) => {
    if (rule.points.includes(name)) now[2 + index].set(now[0]);
    else now[2 + index].fill(startOf(rule, values, name));
  });
}

// How many numbers of a slot a point of d coordinates has: it is a vector, and so one row.
function numbersOf(rule, name, d) {
  return rule.ofRows.includes(name) ? 1 : d;
}

// Take step t of a run or a crowd: its values take the new scalar slots, its arrays (`now`) are stepped in place. They
// are one tensor, and there is no other: sums over a tensor and over all are the same.
function stepOf({ rule, code, values, now }, t) {
  const columns = now[0].length, given = { sums: [], vectors: {}, rows: 1, columns };
  let numbers = [];
  Object.assign(values, { t, _total: given.sums, _size: columns, _all_size: columns });
  if (rule.seesRows) Object.assign(values, { _size_row: columns, _size_column: 1, _size_rows: 1, _size_columns: columns, _ndim: 1 });
  for (const one of rule.passes) {
    numbers = code[one.prelude](...one.arguments.map((name) => values[name]));
    code[one.kernel](...now, numbers, ...one.behind.map((name) => given[name]));
  }
  rule.scalars.forEach((name, k) => { values[name] = numbers[rule.row + k]; });
}

// Write the point at which a rule is evaluated, after a step of a run or a crowd, into an array.
function evaluate({ rule, code, values, now }, into) {
  const { prelude, kernel, arguments: names, reads } = rule.point;
  const arrays = reads.map((name) => (name === rule.parameter ? now[0] : now[2 + rule.slots.indexOf(name)]));
  code[kernel](...arrays, into, code[prelude](...names.map((name) => values[name])));
}

// One rule from one start. Arrays hold every step, so that time can be moved freely: entry t of a quantity of
// d coordinates is at d * t. Of a rule that is evaluated elsewhere than it trains, `path` and `losses` are of the
// evaluated point, which counts, and `trained` and `trainedLosses` of the point at which gradients are taken; of others these
// are the same arrays.
class Run {
  static made = 0;

  constructor(rule, code, ground, surface, given) {
    const d = ground.dimensions, size = d * (given.steps + 1);
    Object.assign(this, { rule, code, ground, surface, given, d, done: 0, diverged: false, fate: "", serial: Run.made++ });
    this.path = new Float32Array(size);
    this.gradients = new Float32Array(size);
    this.losses = new Float64Array(given.steps + 1);
    this.trained = rule.point ? new Float32Array(size) : this.path;
    this.trainedLosses = rule.point ? new Float64Array(given.steps + 1) : this.losses;
    this.lowest = Infinity;
    this.unprojected = ground.limits ? new Float32Array(size) : this.trained;
    this.kept = [...rule.slots, ...rule.probes].map(() => new Float32Array(size));
    this.names = new Map([...rule.slots, ...rule.probes].map((name, index) => [name, this.kept[index]]));
    this.scalars = new Map(rule.scalars.map((name) => [name, new Float64Array(given.steps + 1)]));
    this.now = [new Float32Array(d), new Float32Array(d)];
    this.now.push(...[...this.names.keys()].map((name) => new Float32Array(numbersOf(rule, name, d))));
    this.point = rule.point ? new Float32Array(d) : this.now[0];
    this.values = { ...given.values };
    this.begin();
  }

  begin() {
    const { rule, now } = this;
    now[0].set(this.given.start);
    beginSlots(rule, this.values, now);
    for (const [name, history] of this.scalars) history[0] = this.values[name] = startOf(rule, this.values, name);
    this.record(0);
  }

  record(t) {
    const { d, now, kept, point } = this;
    if (this.rule.point) this.place(t);
    for (let k = 0; k < d; k++) {
      this.trained[d * t + k] = now[0][k];
      this.path[d * t + k] = point[k];
      this.gradients[d * t + k] = now[1][k];
      for (let index = 0; index < kept.length; index++) {
        const numbers = now[2 + index];
        kept[index][d * t + k] = numbers[numbers.length < d ? 0 : k];
      }
    }
    const loss = this.losses[t] = this.loss(point, t);
    if (loss < this.lowest) this.lowest = loss;
    if (this.rule.point) this.trainedLosses[t] = this.loss(now[0], t);
  }

  loss(place, t) {
    return this.surface.value(place[0], this.d > 1 ? place[1] : 0, t, 0.5)[0];
  }

  // The evaluated point after step t; before the first it is the start.
  place(t) {
    const { point, ground: { limits } } = this;
    if (t) evaluate(this, point);
    else point.set(this.now[0]);
    if (limits) for (let k = 0; k < this.d; k++) point[k] = clampedTo(point[k], limits[0], limits[1]);
  }

  gradient(t) {
    const { given, now, d } = this, theta = now[0];
    const slope = this.surface.slope(theta[0], d > 1 ? theta[1] : 0, t, uniform(given.seed, t, 0));
    for (let k = 0; k < d; k++) {
      let g = given.scale * slope[k];
      if (given.noise) g += given.noise * normal(given.seed, t, k);
      now[1][k] = g;
    }
  }

  step() {
    const t = this.done + 1, { now } = this;
    this.gradient(t);
    stepOf(this, t);
    for (const [name, history] of this.scalars) history[t] = this.values[name];
    const limits = this.ground.limits;
    if (limits) {
      for (let k = 0; k < this.d; k++) {
        this.unprojected[this.d * t + k] = now[0][k];
        now[0][k] = clampedTo(now[0][k], limits[0], limits[1]);
      }
    }
    this.record(t);
    if (now[0].every(Number.isFinite) && Number.isFinite(this.losses[t])) this.done = t;
    else this.lose(t);
  }

  // A run ends where a coordinate overflows, and where it comes upon ground without a loss.
  lose(t) {
    this.diverged = true;
    this.fate = this.now[0].every(Number.isFinite) && Number.isNaN(this.losses[t]) ? "no loss" : "diverged";
  }

  // Whether there is no more of it at step t.
  isLost(t) {
    return this.diverged && t > this.done;
  }

  get finished() {
    return this.diverged || this.done >= this.given.steps;
  }

  // Take steps until all are taken or the time is up.
  advance(deadline = Infinity) {
    while (!this.finished) {
      this.step();
      if (this.done % 32 === 0 && performance.now() > deadline) return;
    }
  }
}

// As NumPy's clip: a NaN stays.
function clampedTo(x, low, high) {
  return x < low ? low : x > high ? high : x;
}

// Where a surface has no gradient at a point, in words; empty where it has one.
function trouble(ground, surface, start) {
  const [x, y = 0] = start.map(Math.fround);
  const kinks = surface.kinks ? surface.kinks(x, y, 1, 0.5) : [];
  const kink = kinks.findIndex((value) => value === 0);
  if (kink >= 0) return `f is not differentiable here: it has a kink where ${ground.kinks[kink]}. Start beside it.`;
  const numbers = [...surface.value(x, y, 1, 0.5), ...surface.slope(x, y, 1, 0.5)];
  return numbers.every(Number.isFinite) ? "" : "f has no finite loss or gradient here. Start elsewhere.";
}

// Many starts at once by the same kernel: one array of all coordinates, stepped together; by a rule that sums over its
// tensor or a row of it, each start by itself.
class Crowd {
  constructor(rule, code, ground, surface, given, starts) {
    const d = ground.dimensions, n = starts.length;
    Object.assign(this, { rule, code, ground, surface, given, d, n, t: 0 });
    this.now = [starts, new Float32Array(n)];
    this.now.push(...rule.slots.map((name) => new Float32Array((n / d) * numbersOf(rule, name, d))));
    this.now.push(...rule.probes.map(() => new Float32Array(n)));
    this.values = { ...given.values };
    beginSlots(rule, this.values, this.now);
    rule.scalars.forEach((name) => { this.values[name] = startOf(rule, this.values, name); });
    this.points = rule.point ? starts.slice() : starts; // where they are evaluated
    this.members = rule.sums ? Array.from({ length: n / d }, (_, k) => this.member(k)) : [this];
  }

  member(k) {
    const { rule, code, d, n } = this;
    const now = this.now.map((array) => {
      const own = (array.length * d) / n; // of each start
      return array.subarray(own * k, own * (k + 1));
    });
    return { rule, code, now, values: { ...this.values } };
  }

  step() {
    const { given, now, d, n } = this, t = ++this.t, [theta, g] = now;
    const u = uniform(given.seed, t, 0);
    const noise = Array.from({ length: d }, (_, k) => (given.noise ? given.noise * normal(given.seed, t, k) : 0));
    for (let i = 0; i < n; i += d) {
      const slope = this.surface.slope(theta[i], d > 1 ? theta[i + 1] : 0, t, u);
      for (let k = 0; k < d; k++) g[i + k] = given.scale * slope[k] + noise[k];
    }
    for (const one of this.members) stepOf(one, t);
    const limits = this.ground.limits;
    if (limits) for (let i = 0; i < n; i++) theta[i] = clampedTo(theta[i], limits[0], limits[1]);
    if (!this.rule.point) return;
    evaluate(this, this.points);
    if (limits) for (let i = 0; i < n; i++) this.points[i] = clampedTo(this.points[i], limits[0], limits[1]);
  }

  get finished() {
    return this.t >= this.given.steps;
  }
}

// For each rule the learning rate, of a grid of three a decade, whose path is lowest on average, by the heights of the map:
// neither a slow one, nor one that jumps about before it settles.
class Tuning {
  constructor(names, make, heights, isAllowed) {
    const rates = [-4, -3, -2, -1, 0, 1].flatMap((power) => [1, 2, 5].map((digit) => Number(`${digit}e${power}`)));
    Object.assign(this, { names, make, heights, found: new Map(), lowest: new Map() });
    this.jobs = names.flatMap((name) => rates.filter((lr) => isAllowed(name, lr)).map((lr) => [name, lr]));
  }

  // Try rates until the time is up; true when all have been.
  work(deadline) {
    while (this.jobs.length) {
      const [name, lr] = this.jobs[0];
      this.run ??= this.make(name, lr);
      this.run.advance(deadline);
      if (!this.run.finished) return false;
      this.judge(name, lr, this.run);
      this.jobs.shift();
      this.run = null;
      if (performance.now() > deadline) return !this.jobs.length;
    }
    return true;
  }

  judge(name, lr, run) {
    if (run.diverged) return;
    let sum = 0;
    for (let t = 0; t <= run.done; t++) sum += this.heights.of(run.losses[t]);
    if (sum < (this.lowest.get(name) ?? Infinity)) {
      this.lowest.set(name, sum);
      this.found.set(name, lr);
    }
  }
}
