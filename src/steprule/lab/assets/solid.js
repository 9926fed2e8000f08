// The surface in three dimensions, on a plain canvas: it needs no WebGL, so remote desktops and old machines show it,
// and lines can be as thick and smooth as on the map. The surface is drawn when the camera moves, the paths every frame.
class Solid {
  constructor(canvas) {
    this.stage = new Stage(canvas);
    this.cells = 60;
    this.painted = "";
  }

  // A coarse picture at once, so that turning follows the hand; the fine one in slices of the next frames.
  show(heights, theme, turn) {
    this.stage.fit();
    const key = [heights.ground.key, theme, ...turn, this.stage.canvas.width, this.stage.canvas.height].join();
    if (this.heights !== heights) this.sample(heights);
    if (key === this.painted) return;
    this.painted = key;
    this.theme = theme;
    [this.around, this.up] = turn;
    this.sin = [Math.sin(this.around), Math.sin(this.up)];
    this.cos = [Math.cos(this.around), Math.cos(this.up)];
    this.fitAll();
    this.still = this.picture(4).run();
    this.fine = this.picture(1);
    this.isNew = true;
  }

  // Draw until the time is up; true while there is more.
  work(deadline) {
    if (!this.fine) return false;
    if (this.isNew) {
      this.isNew = false; // while the camera turns, fine pictures would be begun in vain
      return true;
    }
    const done = this.fine.run(deadline);
    if (!done) return true;
    this.still = done;
    this.fine = null;
    return false;
  }

  // Each corner of a cell has the mean height around it (by tents four cells wide): a valley that is narrower than a cell would
  // else be seen at some corners and missed at others, and its edges be combs.
  sample(heights) {
    this.heights = heights;
    const n = this.cells + 1, parts = 3, fine = parts * this.cells + 1, values = new Float32Array(fine * fine);
    for (let i = 0; i < fine; i++) {
      for (let j = 0; j < fine; j++) values[i * fine + j] = Math.min(heights.height(...heights.at(i / (fine - 1), j / (fine - 1))), 1.1);
    }
    const reach = 2 * parts, tent = Array.from({ length: 2 * reach - 1 }, (_, k) => [k - reach + 1, reach - Math.abs(k - reach + 1)]);
    const around = tent.flatMap(([k, a]) => tent.map(([l, b]) => [k, l, a * b]));
    this.grid = new Float32Array(n * n);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) this.grid[i * n + j] = meanAround(values, fine, parts * i, parts * j, around);
    }
  }

  // From (right, ahead, height), each from 0 to 1, to the canvas: parallel rays, so sizes do not mislead.
  project(right, ahead, height) {
    const [across, down] = this.raw(right, ahead, height), { scale, left, top } = this.fit;
    return [left + scale * across, top + scale * down];
  }

  raw(right, ahead, height) {
    const x = 2 * right - 1, y = 2 * ahead - 1;
    const across = x * this.cos[0] - y * this.sin[0], depth = x * this.sin[0] + y * this.cos[0];
    return [across, -(depth * this.sin[1] + 1.15 * height * this.cos[1])];
  }

  // As large as the canvas allows, whatever the camera sees.
  fitAll() {
    const { width, height } = this.stage, room = 14, n = this.cells + 1, limits = [Infinity, -Infinity, Infinity, -Infinity];
    const seen = this.axes().flatMap(({ ends, ticks, name }) => [...ends, ...ticks.map(({ at }) => at), name.at]);
    for (let at = 0; at < n * n; at += 2) seen.push([Math.floor(at / n) / this.cells, (at % n) / this.cells, Math.min(this.grid[at], 1.1)]);
    for (const place of seen) {
      const [across, down] = this.raw(...place);
      if (!Number.isFinite(across + down)) continue;
      [limits[0], limits[1]] = [Math.min(limits[0], across), Math.max(limits[1], across)];
      [limits[2], limits[3]] = [Math.min(limits[2], down), Math.max(limits[3], down)];
    }
    const [x0, x1, y0, y1] = limits, scale = Math.min((width - 2 * room) / (x1 - x0), (height - 2 * room) / (y1 - y0));
    this.fit = { scale, left: width / 2 - (scale * (x0 + x1)) / 2, top: height / 2 - (scale * (y0 + y1)) / 2 };
  }

  // The axes: along the two lower edges that are nearer, with numbers, and upwards at the corner on the left. Places are
  // (right, ahead, height).
  axes() {
    const [[x0, x1], [y0, y1]] = this.heights.ground.box, near = [this.sin[0] > 0 ? 0 : 1, this.cos[0] > 0 ? 0 : 1];
    const out = near.map((side) => (side ? 1.07 : -0.07)), further = near.map((side) => (side ? 1.17 : -0.17));
    // Numbers of two axes would stand on each other where the axes meet.
    const part = (value, low, high) => (value - low) / (high - low), apart = (share) => share > 0.05 && share < 0.95;
    const ticks = (low, high, place) => evenTicks(low, high, 5).filter((value) => apart(part(value, low, high)))
      .map((value) => ({ at: place(part(value, low, high)), text: written(value) }));
    const corners = [[0, 0], [0, 1], [1, 0], [1, 1]].sort((a, b) => this.raw(...a, 0)[0] - this.raw(...b, 0)[0]), corner = corners[0];
    return [
      { ends: [[0, near[1], 0], [1, near[1], 0]], ticks: ticks(x0, x1, (part) => [part, out[1], 0]), name: { text: "x", at: [0.5, further[1], 0] } },
      { ends: [[near[0], 0, 0], [near[0], 1, 0]], ticks: ticks(y0, y1, (part) => [out[0], part, 0]), name: { text: "y", at: [further[0], 0.5, 0] } },
      { ends: [[...corner, 0], [...corner, 1]], ticks: [], name: { text: "log loss", at: [...corner, 1.06] }, align: "left" },
    ];
  }

  drawAxes(context, looks) {
    context.lineWidth = 1;
    context.strokeStyle = looks.paint("muted");
    for (const { ends } of this.axes()) {
      context.beginPath();
      for (const end of ends) context.lineTo(...this.project(...end));
      context.stroke();
    }
  }

  drawLabels(context, looks) {
    for (const { ticks, name, align } of this.axes()) {
      for (const { at, text } of [...ticks, name]) label(context, text, ...this.project(...at), looks, align);
    }
  }

  // The height of what is drawn at a place: that of the surface's cells, which in a narrow valley is above the true one.
  ground(right, ahead) {
    const n = this.cells + 1, [i, j] = [right, ahead].map((part) => clamp(Math.floor(part * this.cells), 0, this.cells - 1));
    const [a, b] = [right * this.cells - i, ahead * this.cells - j], at = (k, l) => Math.min(this.grid[(i + k) * n + j + l], 1.1);
    return (1 - a) * ((1 - b) * at(0, 0) + b * at(0, 1)) + a * ((1 - b) * at(1, 0) + b * at(1, 1));
  }

  // Where a point of the plane is on the canvas, and whether the surface hides it (asked once the camera rests).
  onSurface(x, y) {
    const [[x0, x1], [y0, y1]] = this.heights.ground.box, right = (x - x0) / (x1 - x0), ahead = (y - y0) / (y1 - y0);
    if (!(right >= 0 && right <= 1 && ahead >= 0 && ahead <= 1)) return { point: null, hidden: false };
    const height = this.ground(right, ahead) + 0.008;
    return { point: this.project(right, ahead, height), hidden: !this.fine && this.isHidden(right, ahead, height) };
  }

  // The surface from here, a row of quads after the other, from the far side to the near one; coarse: quads of more cells.
  picture(coarse) {
    const still = new OffscreenCanvas(this.stage.canvas.width, this.stage.canvas.height), context = still.getContext("2d");
    const { ratio } = this.stage, n = this.cells + 1, points = new Array(n * n), count = this.cells / coarse;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.lineWidth = 0.7;
    context.lineJoin = "round";
    for (let i = 0; i < n; i += coarse) {
      for (let j = 0; j < n; j += coarse) {
        points[i * n + j] = this.project(i / this.cells, j / this.cells, Math.min(this.grid[i * n + j], 1.1));
      }
    }
    const inOrder = (k, far) => coarse * (far ? count - 1 - k : k), [farRows, farColumns] = [this.sin[0] > 0, this.cos[0] > 0];
    let row = 0;
    const run = (deadline = Infinity) => {
      while (row < count) {
        for (let k = 0; k < count; k++) this.quad(context, points, inOrder(row, farRows), inOrder(k, farColumns), coarse);
        row++;
        if (performance.now() > deadline) break;
      }
      return row < count ? null : still;
    };
    return { run };
  }

  quad(context, points, i, j, size) {
    const n = this.cells + 1, corners = [i * n + j, (i + size) * n + j, (i + size) * n + j + size, i * n + j + size];
    const [a, b, c, d] = corners.map((at) => this.grid[at]);
    if (!Number.isFinite(a + b + c + d)) return;
    const middle = (a + b + c + d) / 4, slope = ((b + c - a - d) / size) * this.cells * 0.06;
    const light = clamp(1 - 0.5 * slope, 0.72, 1.12), color = shade(this.theme, middle).map((part) => part * light);
    context.beginPath();
    for (const at of corners) context.lineTo(points[at][0], points[at][1]);
    context.closePath();
    context.fillStyle = context.strokeStyle = `rgb(${color.map(Math.round).join()})`;
    context.fill();
    context.stroke();
    if (size === 1) this.contours(context, points, corners);
  }

  // The contour lines in one quad: from where a level crosses an edge to where it crosses another.
  contours(context, points, corners) {
    const heights = corners.map((at) => this.grid[at] * 18), low = Math.ceil(Math.min(...heights)), high = Math.min(Math.max(...heights), 19);
    // Where levels crowd, as on a steep edge seen from the side, lines would make a comb: they fade.
    const apart = thickness(corners.map((at) => points[at])) / Math.max(Math.max(...heights) - Math.min(...heights), 1e-9);
    const ink = 0.5 * clamp((apart - 1.5) / 4, 0, 1);
    if (!(ink > 0.02)) return;
    context.strokeStyle = `rgba(${SHADES[this.theme].line.join()},${ink})`;
    for (let level = Math.max(low, 1); level <= high; level++) {
      const ends = [];
      for (let k = 0; k < 4; k++) {
        const from = heights[k], to = heights[(k + 1) % 4], part = (level - from) / (to - from);
        if (!(part >= 0 && part < 1)) continue;
        const [x0, y0] = points[corners[k]], [x1, y1] = points[corners[(k + 1) % 4]];
        ends.push([x0 + part * (x1 - x0), y0 + part * (y1 - y0)]);
      }
      if (ends.length < 2) continue;
      context.beginPath();
      context.moveTo(...ends[0]);
      context.lineTo(...ends[1]);
      context.stroke();
    }
  }

  // Places along a path, and whether the surface hides them from here.
  traced(run, of = "path") {
    const key = `${this.painted},${!this.fine}`, path = run[of];
    run.places ??= {};
    if (run.places[of]?.key !== key) run.places[of] = { key, done: -1, points: [], hidden: [] };
    const traced = run.places[of];
    for (let t = traced.done + 1; t <= run.done; t++) {
      const { point, hidden } = this.onSurface(path[run.d * t], run.d > 1 ? path[run.d * t + 1] : 0);
      traced.points.push(point);
      traced.hidden.push(hidden);
    }
    traced.done = run.done;
    return traced;
  }

  isHidden(right, ahead, height) {
    const towards = [-this.sin[0], -this.cos[0]], rise = (2 * this.sin[1]) / (1.15 * this.cos[1]), n = this.cells + 1;
    for (let step = 1; step < 40; step++) {
      const s = step / 40, i = Math.round((right + s * towards[0]) * this.cells), j = Math.round((ahead + s * towards[1]) * this.cells);
      if (i < 0 || j < 0 || i > this.cells || j > this.cells) return false;
      if (this.grid[i * n + j] > height + s * rise + 0.03) return true;
    }
    return false;
  }

  drawPaths(runs, t, looks, focus) {
    const { stage } = this, context = stage.context, paper = looks.paint("paper");
    stage.clear();
    this.drawAxes(context, looks);
    context.drawImage(this.still, 0, 0, stage.width, stage.height);
    this.drawLabels(context, looks);
    for (const [x, y] of this.heights.ground.minima) this.sign(context, cross, x, y, looks);
    for (const { name, run } of runs) {
      const end = Math.min(t, run.done), look = looks.of(name), { points, hidden } = this.traced(run);
      for (const isHidden of [true, false]) {
        polyline(context, 0, end, (k) => (hidden[k] === isHidden || (k && hidden[k - 1] === isHidden) ? points[k] : null));
        context.globalAlpha = isHidden ? 0.25 : 1;
        context.strokeStyle = look.color;
        context.setLineDash(look.dash);
        context.lineWidth = name === focus ? 3 : 2;
        context.lineJoin = "round";
        context.stroke();
      }
      context.globalAlpha = 1;
    }
    const two = runs.filter(({ run }) => run.rule.point);
    for (const { name, run } of two) this.drawTrained(run, Math.min(t, run.done), looks.of(name));
    for (const { name, run } of runs) {
      const { points, hidden } = this.traced(run), at = Math.min(t, run.done), point = points[at];
      context.globalAlpha = hidden[at] ? 0.35 : 1;
      if (point && !run.isLost(t)) mark(context, point[0], point[1], looks.of(name), name === focus ? 7 : 5.5, paper);
    }
    for (const { name, run } of two) {
      const { points, hidden } = this.traced(run, "trained"), at = Math.min(t, run.done);
      context.globalAlpha = hidden[at] ? 0.35 : 1;
      if (points[at] && !run.isLost(t)) hollow(context, points[at], looks.of(name), paper);
      context.globalAlpha = 1;
    }
    if (runs.length) this.sign(context, ring, ...runs[0].run.given.start, looks);
  }

  // Thin, where gradients are taken.
  drawTrained(run, end, look) {
    const { context } = this.stage, { points, hidden } = this.traced(run, "trained");
    for (const isHidden of [true, false]) {
      polyline(context, 0, end, (k) => (hidden[k] === isHidden || (k && hidden[k - 1] === isHidden) ? points[k] : null));
      thinLine(context, look);
      context.globalAlpha = isHidden ? 0.25 : 1;
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  // A sign on the surface, paler where the surface hides it.
  sign(context, draw, x, y, looks) {
    const { point, hidden } = this.onSurface(x, y);
    context.globalAlpha = hidden ? 0.35 : 1;
    if (point) draw(context, point, looks);
    context.globalAlpha = 1;
  }
}

// How thick a quad is on the canvas: its area by the longer of its diagonals.
function thickness([a, b, c, d]) {
  const long = Math.max(Math.hypot(c[0] - a[0], c[1] - a[1]), Math.hypot(d[0] - b[0], d[1] - b[1]));
  return Math.abs((c[0] - a[0]) * (d[1] - b[1]) - (c[1] - a[1]) * (d[0] - b[0])) / 2 / (long || 1);
}

// The mean around a place of a square of values, of those that are finite; NaN where the place itself has none.
function meanAround(values, side, i, j, around) {
  if (!Number.isFinite(values[i * side + j])) return NaN;
  let sum = 0, total = 0;
  for (const [k, l, weight] of around) {
    const value = i + k >= 0 && i + k < side && j + l >= 0 && j + l < side ? values[(i + k) * side + j + l] : NaN;
    if (Number.isFinite(value)) [sum, total] = [sum + weight * value, total + weight];
  }
  return sum / total;
}
