// The surface in three dimensions, on a plain canvas: it needs no WebGL, so remote desktops and old machines show it,
// and lines can be as thick and smooth as on the map. The surface is drawn when the camera moves, the paths every frame.
class Solid {
  constructor(canvas) {
    this.stage = new Stage(canvas);
    this.cells = 52;
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

  sample(heights) {
    this.heights = heights;
    const n = this.cells + 1;
    this.grid = new Float32Array(n * n);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) this.grid[i * n + j] = heights.height(...heights.at(i / this.cells, j / this.cells));
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
    for (let at = 0; at < n * n; at += 2) {
      const [across, down] = this.raw(Math.floor(at / n) / this.cells, (at % n) / this.cells, Math.min(this.grid[at], 1.1));
      if (!Number.isFinite(across + down)) continue;
      [limits[0], limits[1]] = [Math.min(limits[0], across), Math.max(limits[1], across)];
      [limits[2], limits[3]] = [Math.min(limits[2], down), Math.max(limits[3], down)];
    }
    const [x0, x1, y0, y1] = limits, scale = Math.min((width - 2 * room) / (x1 - x0), (height - 2 * room) / (y1 - y0));
    this.fit = { scale, left: width / 2 - (scale * (x0 + x1)) / 2, top: height / 2 - (scale * (y0 + y1)) / 2 };
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
    context.strokeStyle = `rgba(${SHADES[this.theme].line.join()},0.5)`;
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

  // Places along a path, and whether the surface hides them from here (asked once the camera rests).
  traced(run) {
    const key = `${this.painted},${!this.fine}`;
    if (run.traced?.key !== key) run.traced = { key, done: -1, points: [], hidden: [] };
    const { traced } = run, [[x0, x1], [y0, y1]] = this.heights.ground.box;
    for (let t = traced.done + 1; t <= run.done; t++) {
      const x = run.path[run.d * t], y = run.d > 1 ? run.path[run.d * t + 1] : 0;
      const right = (x - x0) / (x1 - x0), ahead = (y - y0) / (y1 - y0);
      const inside = right >= 0 && right <= 1 && ahead >= 0 && ahead <= 1;
      const height = inside ? this.heights.height(x, y) + 0.008 : 0;
      traced.points.push(inside ? this.project(right, ahead, height) : null);
      traced.hidden.push(inside && !this.fine && this.isHidden(right, ahead, height));
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
    context.drawImage(this.still, 0, 0, stage.width, stage.height);
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
    for (const { name, run } of runs) {
      const point = this.traced(run).points[Math.min(t, run.done)];
      if (point) mark(context, point[0], point[1], looks.of(name), name === focus ? 7 : 5.5, paper);
    }
  }
}
