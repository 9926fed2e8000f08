// A thousand starts for each rule: where each ends up, and how soon.
const ARRIVED = 0.03; // of the longer side of the box: nearer than this to a minimum a path has arrived

class Thousand {
  constructor(host, status) {
    this.host = host;
    this.status = status;
    this.key = "";
  }

  show(scene, key) {
    this.scene = scene;
    if (this.jobs && this.theme !== scene.looks.theme) for (const job of this.jobs) job.drawn = false;
    this.theme = scene.looks.theme;
    if (this.key === key) return;
    this.key = key;
    const { heights, looks } = scene, flat = heights.flat, side = flat ? 1024 : 32;
    this.starts = [];
    for (let row = 0; row < (flat ? 1 : side); row++) {
      for (let column = 0; column < side; column++) {
        const [x, y] = heights.at((column + 0.5) / side, 1 - (row + 0.5) / side);
        this.starts.push(...(flat ? [x] : [x, y]));
      }
    }
    this.side = [side, flat ? 1 : side];
    this.jobs = scene.state.rules.map((name) => this.job(name, looks));
    this.host.replaceChildren(...this.jobs.map((job) => job.figure));
  }

  job(name, looks) {
    const { scene } = this, rule = scene.facts.rules.get(name), { ground, surface } = scene.heights;
    const crowd = new Crowd(rule, codeOf(rule), ground, surface, scene.given(name), Float32Array.from(this.starts));
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption"), title = document.createElement("b"), note = document.createElement("span");
    title.textContent = name;
    caption.append(title, " ", note);
    [canvas.width, canvas.height] = this.side;
    canvas.setAttribute("role", "img");
    figure.append(canvas, caption);
    const count = this.starts.length / ground.dimensions;
    return { name, crowd, figure, canvas, note, since: new Int32Array(count).fill(-1), end: new Int8Array(count).fill(-1), drawn: false };
  }

  // Take steps of one rule after the other until the time is up; true while there is more.
  work(deadline) {
    if (!this.jobs) return false;
    for (const job of this.jobs) {
      while (!job.crowd.finished) {
        job.crowd.step();
        this.judge(job);
        if (performance.now() > deadline) {
          this.say(job);
          return true;
        }
      }
      if (!job.drawn) this.draw(job);
    }
    if (this.jobs.length) this.status.textContent = "Every start has been run.";
    return false;
  }

  say(job) {
    const done = this.jobs.filter((one) => one.drawn).length;
    this.status.textContent = `${job.name}: step ${job.crowd.t} of ${job.crowd.given.steps} (${done} of ${this.jobs.length} rules done)`;
  }

  judge({ crowd, since, end }) {
    const { ground, d } = crowd, theta = crowd.points, [[x0, x1], [y0, y1]] = ground.box;
    const near = (ARRIVED * Math.max(x1 - x0, d > 1 ? y1 - y0 : 0)) ** 2;
    for (let i = 0; i < since.length; i++) {
      let found = -1;
      for (let m = 0; m < ground.minima.length; m++) {
        let off = 0;
        for (let k = 0; k < d; k++) off += (theta[d * i + k] - ground.minima[m][k]) ** 2;
        if (off < near) found = m;
      }
      if (found !== end[i]) [end[i], since[i]] = [found, found < 0 ? -1 : crowd.t];
    }
  }

  draw(job) {
    job.drawn = true;
    const { canvas, crowd, since, end, note } = job, context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    let arrived = 0, lost = 0;
    for (let i = 0; i < since.length; i++) {
      const color = this.cell(job, i);
      arrived += end[i] >= 0 ? 1 : 0;
      lost += color.lost ? 1 : 0;
      image.data.set([...color.rgb.map(Math.round), 255], 4 * i);
    }
    context.putImageData(image, 0, 0);
    const share = (count) => `${Math.round((100 * count) / since.length)} %`;
    const any = crowd.ground.minima.length > 0;
    note.textContent = [any ? `${share(arrived)} arrive` : "", lost ? `${share(lost)} diverge` : ""].filter(Boolean).join(", ");
    canvas.setAttribute("aria-label", `${job.name}: ${note.textContent}`);
  }

  // The colour of the minimum, the paler the later it was reached; grey by height where none was.
  cell({ crowd, since, end }, i) {
    const { d } = crowd, theta = crowd.points, { looks, heights } = this.scene, theme = looks.theme;
    const x = theta[d * i], y = d > 1 ? theta[d * i + 1] : 0, paper = theme === "dark" ? 20 : 255;
    const height = heights.height(x, y);
    if (!Number.isFinite(x + y + height) || Math.abs(x) + Math.abs(y) > 1e6) return { rgb: theme === "dark" ? [255, 255, 255] : [0, 0, 0], lost: true };
    if (end[i] < 0) return { rgb: shade(theme, height * 0.9 + 0.1), lost: false };
    const color = rgbOf(PALETTES[theme][[0, 1, 2, 3][end[i] % 4]]), pale = 0.62 * (since[i] / crowd.given.steps) ** 0.5;
    return { rgb: color.map((part) => part + (paper - part) * pale), lost: false };
  }
}

const rgbOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
