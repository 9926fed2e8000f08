// The map: contours below, drawn once a surface; paths above, drawn every frame.
class SurfaceMap {
  constructor(base, over) {
    this.base = new Stage(base);
    this.over = new Stage(over);
    this.pending = null;
    this.painted = "";
  }

  show(heights, theme, steps) {
    this.base.fit();
    this.over.fit();
    this.heights = heights;
    this.steps = steps;
    const key = [heights.ground.key, theme, this.base.canvas.width, this.base.canvas.height].join();
    if (key === this.painted) return;
    this.painted = key;
    // A coarse picture at once, then every pixel.
    this.pending = [{ cell: 6, row: 0 }, { cell: 1, row: 0 }];
    this.theme = theme;
    this.work(performance.now() + 5);
  }

  // From the plane to the canvas. On a line the second axis is time, downwards.
  place(x, y) {
    const [[x0, x1], [y0, y1]] = this.heights.ground.box, { width, height } = this.over;
    return [((x - x0) / (x1 - x0)) * width, (1 - (y - y0) / (y1 - y0)) * height];
  }

  fromPlace(left, top) {
    const { width, height } = this.over;
    return this.heights.at(clamp(left / width, 0, 1), clamp(1 - top / height, 0, 1));
  }

  // Paint rows until the time is up; true while there is more.
  work(deadline) {
    while (this.pending?.length) {
      const pass = this.pending[0];
      if (!pass.image) this.begin(pass);
      while (pass.row < pass.high) {
        this.paintRow(pass);
        if (performance.now() > deadline) return true;
      }
      this.finish(pass);
      this.pending.shift();
    }
    return false;
  }

  begin(pass) {
    pass.wide = Math.max(1, Math.ceil(this.base.canvas.width / pass.cell));
    pass.high = Math.max(1, Math.ceil(this.base.canvas.height / pass.cell));
    pass.image = new ImageData(pass.wide, pass.high);
    pass.above = this.levels(pass, 0);
  }

  levels(pass, row) {
    const found = new Float32Array(pass.wide + 1), up = 1 - (row + 0.5) / pass.high;
    for (let column = 0; column <= pass.wide; column++) {
      found[column] = this.heights.height(...this.heights.at((column + 0.5) / pass.wide, up));
    }
    return found;
  }

  // Shade by height; a line where a level passes within a pixel, thin however steep the surface is.
  paintRow(pass) {
    const { image, row, wide, above } = pass, below = this.levels(pass, row + 1), bands = 18;
    const line = SHADES[this.theme].line, { low, high } = SHADES[this.theme];
    for (let column = 0; column < wide; column++) {
      const h = above[column], across = above[column + 1] - h, down = below[column] - h;
      const level = h * bands, near = Math.abs(level - Math.round(level));
      const thick = Math.hypot(across, down) * bands * this.base.ratio / pass.cell;
      const ink = h > 0.002 && pass.cell === 1 ? 0.42 * clamp(1 - near / (thick || 1e-9), 0, 1) * (thick > 0.9 ? 0.9 / thick : 1) : 0;
      const at = 4 * (row * wide + column);
      if (!Number.isFinite(h)) {
        image.data.set([...line, 70], at); // f has no value here
        continue;
      }
      const part = clamp(h, 0, 1);
      for (let k = 0; k < 3; k++) {
        const ground = low[k] + (high[k] - low[k]) * part;
        image.data[at + k] = ground + (line[k] - ground) * ink;
      }
      image.data[at + 3] = 255;
    }
    pass.above = below;
    pass.row++;
  }

  finish(pass) {
    const { context, canvas } = this.base;
    const still = new OffscreenCanvas(pass.wide, pass.high);
    still.getContext("2d").putImageData(pass.image, 0, 0);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.imageSmoothingEnabled = true;
    context.drawImage(still, 0, 0, canvas.width, canvas.height);
  }

  point(run, t, path = run.path) {
    const { d } = run;
    const [left, top] = this.place(path[d * t], d > 1 ? path[d * t + 1] : 0);
    return d > 1 ? [left, top] : [left, (t / this.steps) * this.over.height];
  }

  drawPaths(runs, t, looks, focus) {
    const { over } = this, context = over.context, paper = looks.paint("paper");
    over.clear();
    if (looks.printing) context.drawImage(this.base.canvas, 0, 0, over.width, over.height); // printers take no transparency
    this.drawMinima(context, looks);
    for (const { name, run } of runs) {
      const end = Math.min(t, run.done), look = looks.of(name), strong = name === focus;
      polyline(context, 0, end, (k) => this.onCanvas(this.point(run, k)));
      context.lineJoin = "round";
      context.setLineDash([]);
      context.strokeStyle = paper;
      context.globalAlpha = 0.55;
      context.lineWidth = strong ? 6 : 4.5;
      context.stroke();
      context.globalAlpha = 1;
      context.setLineDash(look.dash);
      context.strokeStyle = look.color;
      context.lineWidth = strong ? 3 : 2;
      context.stroke();
    }
    const two = runs.filter(({ run }) => run.rule.point);
    for (const { name, run } of two) this.drawTrained(run, Math.min(t, run.done), looks.of(name));
    this.drawAxes(context, looks);
    for (const { name, run } of runs) {
      if (run.isLost(t)) continue; // it is not where its path ends
      const [left, top] = this.point(run, Math.min(t, run.done));
      mark(context, left, top, looks.of(name), name === focus ? 7 : 5.5, paper);
    }
    for (const { name, run } of two) {
      if (!run.isLost(t)) hollow(context, this.point(run, Math.min(t, run.done), run.trained), looks.of(name), paper);
    }
    if (runs.length) ring(context, this.point(runs[0].run, 0), looks);
  }

  // Thin, where gradients are taken.
  drawTrained(run, end, look) {
    const { context } = this.over;
    polyline(context, 0, end, (k) => this.onCanvas(this.point(run, k, run.trained)));
    thinLine(context, look);
    context.stroke();
  }

  // Far outside, a canvas would spend its time on lines that nobody sees.
  onCanvas([left, top]) {
    return Number.isFinite(left + top) ? [clamp(left, -4000, 8000), clamp(top, -4000, 8000)] : null;
  }

  drawMinima(context, looks) {
    for (const [x, y = 0] of this.heights.ground.minima) {
      const flat = this.heights.flat, [left, top] = this.place(x, y);
      cross(context, [clamp(left, 7, this.over.width - 7), flat ? this.over.height - 8 : top], looks);
    }
  }

  // Numbers along the lower and the left edge, within the picture; on a line the second axis counts steps, downwards.
  drawAxes(context, looks) {
    const { width, height } = this.over, [[x0, x1], [y0, y1]] = this.heights.ground.box, { flat } = this.heights;
    for (const x of evenTicks(x0, x1, width < 400 ? 4 : 8)) {
      const [left] = this.place(x, y0);
      if (left > 30 && left < width - 30) label(context, written(x), left, height - 8, looks);
    }
    for (const y of flat ? evenTicks(0, this.steps, 6) : evenTicks(y0, y1, 7)) {
      const top = flat ? (y / this.steps) * height : this.place(x0, y)[1];
      if (top > 22 && top < height - 20) label(context, written(y, flat ? 5 : 3), 5, top, looks, "left");
    }
    label(context, "x", width - 9, height - 8, looks);
    label(context, flat ? "step" : "y", 5, 9, looks, "left");
  }
}
