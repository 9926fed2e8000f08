// The page: a state, the runs that follow from it, and a frame that draws them.
class Lab {
  constructor(facts) {
    this.facts = { ...facts, rules: FACTS_OF(facts.rules, "name"), surfaces: FACTS_OF(facts.surfaces, "key") };
    this.$ = (id) => document.getElementById(id);
    this.looks = new Looks();
    this.heights = new Map();
    this.runs = new Map();
    this.playing = false;
    this.frames = { count: 0, spent: 0, longest: 0 };
    this.map = new SurfaceMap(this.$("base"), this.$("over"));
    this.solid = new Solid(this.$("solid"));
    this.thousand = new Thousand(this.$("thousand"), this.$("progress"));
    this.charts = new Charts(document, (t) => this.jump(t));
    this.formula = new Formula(this.$("formula"));
    this.controls = new Controls(this.facts, document, (change) => this.edit(change));
    this.fillMenus();
    this.listen();
    this.load(location.hash);
    document.documentElement.dataset.ready = "true";
  }

  fillMenus() {
    const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });
    this.$("surface").append(...[...this.facts.surfaces.values()].map((one) => option(one.key, one.title)));
    this.$("preset").append(option("", "Choose a story …"), ...this.facts.presets.map((one) => option(one.key, one.title)));
  }

  // States come from links, presets and edits; all go this way.
  load(hash) {
    const problems = [], pairs = fromHash(hash);
    this.state = readState(this.facts, pairs.length ? pairs : this.facts.first.pairs, problems);
    this.say(problems.join(" "));
    this.edit(() => {});
  }

  edit(change) {
    change(this.state);
    this.state.t = clamp(this.state.t, 0, this.state.steps);
    this.looks.assign(this.state.rules);
    this.refresh();
    this.dirty = true;
    this.wake();
    clearTimeout(this.linking);
    this.linking = setTimeout(() => history.replaceState(null, "", this.link()), 250);
  }

  link() {
    return toHash(statePairs(this.facts, this.state));
  }

  say(text) {
    this.$("message").textContent = text;
    this.$("message").hidden = !text;
  }

  given(name) {
    const { start, noise, scale, seed, steps } = this.state;
    return { start, noise, scale, seed, steps, values: valuesOf(this.facts, this.state, name) };
  }

  // Runs whose settings are as before are kept.
  refresh() {
    const { state } = this, ground = this.facts.surfaces.get(state.surface), surface = SURFACES[state.surface];
    if (!this.heights.has(ground.key)) this.heights.set(ground.key, new Heights(ground, surface));
    const wrong = trouble(ground, surface, state.start);
    this.$("trouble").textContent = wrong;
    this.$("trouble").hidden = !wrong;
    const kept = new Map();
    for (const name of wrong ? [] : state.rules) {
      const given = this.given(name), key = JSON.stringify([state.surface, given]), old = this.runs.get(name);
      const run = old?.key === key ? old.run : new Run(this.facts.rules.get(name), RULES[name], ground, surface, given);
      kept.set(name, { key, run });
    }
    this.runs = kept;
  }

  get scene() {
    const runs = [...this.runs].map(([name, { run }]) => ({ name, run }));
    const { state, looks, facts } = this;
    const given = (name) => this.given(name);
    return { state, looks, facts, runs, focus: state.look, heights: this.heights.get(state.surface), given };
  }

  wake() {
    this.waiting ??= requestAnimationFrame((now) => this.frame(now));
  }

  frame(now) {
    this.waiting = undefined;
    const begun = performance.now();
    if (this.playing) this.move(now);
    // What is looked at first comes first, so that a drag follows the hand.
    const unfinished = [...this.runs.values()].filter(({ run }) => !run.finished);
    for (const { run } of unfinished) run.advance(begun + 3);
    const scene = this.scene, view = this.state.view;
    if (this.dirty) this.arrange(scene);
    const more = this.draw(scene, view, begun + 4) || [...this.runs.values()].some(({ run }) => !run.finished);
    this.charts.show(scene, !this.playing && !more);
    this.tell(scene);
    this.dirty = false;
    if (this.playing || more) this.wake();
    // After the charts, which draw in microtasks of their own.
    queueMicrotask(() => this.measure(performance.now() - begun));
  }

  measure(spent) {
    this.frames.count++;
    this.frames.spent += spent;
    this.frames.longest = Math.max(this.frames.longest, spent);
  }

  move(now) {
    const speed = Number(this.$("speed").value) || Math.max(this.state.steps / 6, 4), passed = Math.min(now - (this.last ?? now), 100);
    this.last = now;
    this.exact = Math.min((this.exact ?? this.state.t) + (passed * speed) / 1000, this.state.steps);
    this.state.t = Math.floor(this.exact);
    if (this.exact >= this.state.steps) this.play(false);
  }

  draw(scene, view, deadline) {
    const { state, looks } = scene, runs = [...scene.runs].sort((a, b) => (a.name === scene.focus) - (b.name === scene.focus));
    if (view === "map") {
      this.map.show(scene.heights, looks.theme, state.steps);
      const more = this.map.work(deadline);
      this.map.drawPaths(runs, state.t, looks, scene.focus);
      return more;
    }
    if (view === "solid") {
      this.solid.show(scene.heights, looks.theme, state.turn);
      const more = this.solid.work(deadline);
      this.solid.drawPaths(runs, state.t, looks, scene.focus);
      return more;
    }
    const settings = state.rules.map((name) => this.given(name).values);
    const key = JSON.stringify([state.surface, state.rules, settings, state.noise, state.scale, state.seed, state.steps, looks.theme]);
    this.thousand.show(scene, key);
    return this.thousand.work(deadline);
  }

  // Everything but canvases: menus, lists, sliders, formula.
  arrange(scene) {
    const { state, facts } = scene, ground = facts.surfaces.get(state.surface), rule = facts.rules.get(state.look);
    const preset = facts.presets.find((one) => one.key === state.preset);
    this.$("surface").value = state.surface;
    this.$("preset").value = state.preset;
    this.$("story").textContent = preset ? preset.story : ground.about;
    this.$("surface-formula").innerHTML = `<math><mi>f</mi><mo>=</mo>${ground.formula}</math>`;
    for (const tab of document.querySelectorAll("[data-view]")) tab.setAttribute("aria-selected", String(tab.dataset.view === state.view));
    document.documentElement.dataset.view = state.view;
    document.documentElement.dataset.dimensions = ground.dimensions;
    this.$("tab-solid").disabled = ground.dimensions === 1;
    this.$("scrub").max = state.steps;
    this.controls.show(scene);
    for (const radio of document.querySelectorAll("[name=axis]")) radio.checked = Number(radio.value) === state.axis;
    this.$("inside").hidden = !rule;
    if (rule) this.arrangeInside(rule, state);
  }

  arrangeInside(rule, state) {
    this.$("inside-name").textContent = rule.name;
    this.$("inside-about").textContent = rule.about;
    this.$("inside-paper").textContent = rule.paper;
    this.formula.show(rule);
    const names = insideNames(rule), chosen = insideOf(rule, state);
    ["first", "second"].forEach((which, place) => {
      const menu = this.$(`inside-${which}`);
      menu.replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name, textContent: plain(name) })));
      menu.value = chosen[place] ?? "";
      this.$(`figure-${which}`).hidden = !chosen[place];
    });
    const shown = corrections(rule);
    this.$("figure-correction").hidden = !shown.length;
    this.$("correction-name").textContent = shown.length && shown[0].startsWith("1 - ") ? `Bias correction: ${shown.map(plain).join(", ")}` : shown.map(plain).join(", ");
  }

  // What is seen, in words and numbers.
  tell(scene) {
    const { state, runs } = scene, { t } = state;
    this.$("scrub").value = t;
    this.$("now").textContent = `step ${t} of ${state.steps}`;
    const run = this.runs.get(state.look)?.run;
    this.formula.update(run, t, state.axis);
    const told = [t, ...runs.map((one) => one.run.done)].join();
    if (told === this.told && !this.dirty) return;
    this.told = told;
    const rows = runs.map(({ name, run: one }) => {
      const at = Math.min(t, one.done), where = [...one.path.subarray(one.d * at, one.d * (at + 1))].map((x) => written(x)).join(", ");
      const lost = one.diverged && t > one.done ? ` (diverged at step ${one.done + 1})` : "";
      return { name, text: `${written(one.losses[at])} at (${where})${lost}` };
    });
    this.table(rows);
  }

  table(rows) {
    const body = this.$("numbers");
    while (body.children.length > rows.length) body.lastChild.remove();
    rows.forEach(({ name, text }, index) => {
      const row = body.children[index] ?? body.appendChild(document.createElement("tr"));
      if (row.children.length < 2) row.append(document.createElement("th"), document.createElement("td"));
      row.children[0].textContent = name;
      row.children[0].style.color = this.looks.of(name).color;
      row.children[1].textContent = text;
    });
  }

  play(on = !this.playing) {
    this.playing = on;
    this.last = undefined;
    this.exact = undefined;
    if (on && this.state.t >= this.state.steps) this.state.t = 0;
    this.$("play").setAttribute("aria-pressed", String(on));
    this.$("play").textContent = on ? "Pause" : "Play";
    this.edit(() => {});
  }

  jump(t) {
    this.playing = false;
    this.$("play").setAttribute("aria-pressed", "false");
    this.$("play").textContent = "Play";
    this.edit((state) => { state.t = t; });
  }

  listen() {
    const on = (id, event, act) => this.$(id).addEventListener(event, act);
    on("play", "click", () => this.play());
    on("to-start", "click", () => this.jump(0));
    on("back", "click", () => this.jump(this.state.t - 1));
    on("forward", "click", () => this.jump(this.state.t + 1));
    on("to-end", "click", () => this.jump(this.state.steps));
    on("scrub", "input", () => this.jump(Number(this.$("scrub").value)));
    on("surface", "change", () => this.chooseSurface(this.$("surface").value));
    on("preset", "change", () => this.choosePreset(this.$("preset").value));
    on("theme", "click", () => {
      this.looks.chosen = this.looks.theme === "dark" ? "light" : "dark";
      document.documentElement.dataset.theme = this.looks.chosen;
      this.edit(() => {});
    });
    on("share", "click", () => this.share());
    on("tune", "click", () => this.tune());
    on("new-noise", "click", () => this.edit((state) => { state.seed = (state.seed + 1) % 4294967296; }));
    ["first", "second"].forEach((which, place) => {
      on(`inside-${which}`, "change", () => this.edit((state) => { state.inside[place] = this.$(`inside-${which}`).value; }));
    });
    for (const radio of document.querySelectorAll("[name=axis]")) {
      radio.addEventListener("change", () => this.edit((state) => { state.axis = Number(radio.value); }));
    }
    for (const tab of document.querySelectorAll("[data-view]")) {
      tab.addEventListener("click", () => this.edit((state) => { state.view = tab.dataset.view; }));
    }
    this.looks.system.addEventListener("change", () => this.edit(() => {}));
    addEventListener("hashchange", () => this.load(location.hash));
    new ResizeObserver(() => this.edit(() => {})).observe(document.body);
    document.addEventListener("keydown", (event) => this.key(event));
    this.listenStart();
    this.listenTurn();
  }

  chooseSurface(name) {
    this.edit((state) => {
      const fresh = freshState(this.facts, name);
      for (const key of ["surface", "start", "noise", "steps"]) state[key] = fresh[key];
      Object.assign(state, { t: fresh.steps, preset: "", axis: 0, view: fresh.start.length === 1 && state.view === "solid" ? "map" : state.view });
    });
    this.tune();
  }

  choosePreset(key) {
    const preset = this.facts.presets.find((one) => one.key === key);
    if (!preset) return this.edit((state) => { state.preset = ""; });
    this.load(toHash([...preset.pairs, ["preset", key]]));
    return this.play(true);
  }

  listenStart() {
    const over = this.$("over");
    const put = (event) => {
      const box = over.getBoundingClientRect();
      const [x, y] = this.map.fromPlace(event.clientX - box.left, event.clientY - box.top);
      const flat = this.state.start.length === 1, digits = (value) => Number(value.toPrecision(4));
      this.edit((state) => { state.start = flat ? [digits(x)] : [digits(x), digits(y)]; });
    };
    over.addEventListener("pointerdown", (event) => {
      over.setPointerCapture(event.pointerId);
      if (this.state.t === 0) this.edit((state) => { state.t = state.steps; });
      put(event);
    });
    over.addEventListener("pointermove", (event) => { if (over.hasPointerCapture(event.pointerId)) put(event); });
    over.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!move) return;
      event.preventDefault();
      event.stopPropagation();
      const { box } = this.facts.surfaces.get(this.state.surface);
      this.edit((state) => {
        state.start = state.start.map((x, k) => {
          const [low, high] = box[k];
          return Number(clamp(x + (move[k] * (high - low)) / (event.shiftKey ? 200 : 50), low, high).toPrecision(4));
        });
      });
    });
  }

  listenTurn() {
    const canvas = this.$("solid");
    let from = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      from = [event.clientX, event.clientY, ...this.state.turn];
    });
    const turn = (around, up) => this.edit((state) => { state.turn = [around, clamp(up, 0.15, 1.5)]; });
    canvas.addEventListener("pointermove", (event) => {
      if (!from || !canvas.hasPointerCapture(event.pointerId)) return;
      turn(from[2] - (event.clientX - from[0]) / 150, from[3] + (event.clientY - from[1]) / 200);
    });
    canvas.addEventListener("pointerup", () => { from = null; });
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.08], ArrowDown: [0, -0.08] }[event.key];
      if (!move) return;
      event.preventDefault();
      event.stopPropagation();
      turn(this.state.turn[0] + move[0], this.state.turn[1] + move[1]);
    });
  }

  key(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const field = event.target.closest("input, select, button, textarea, summary, [role=tab]");
    if (field && (event.key === " " || event.key.startsWith("Arrow") || field.type === "text")) return;
    const act = {
      " ": () => this.play(),
      ArrowRight: () => this.jump(this.state.t + (event.shiftKey ? 10 : 1)),
      ArrowLeft: () => this.jump(this.state.t - (event.shiftKey ? 10 : 1)),
      Home: () => this.jump(0),
      End: () => this.jump(this.state.steps),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  // Give each rule the learning rate that takes it furthest from here: what a fair race does, for one start.
  tune() {
    const { state } = this, ground = this.facts.surfaces.get(state.surface), surface = SURFACES[state.surface];
    if (trouble(ground, surface, state.start)) return this.edit(() => {});
    const found = new Map();
    for (const name of state.rules) {
      const rule = this.facts.rules.get(name);
      if (!rule.hypers.some((hyper) => hyper.name === "lr")) continue;
      const steps = Math.min(state.steps, 1000);
      const make = (lr) => {
        const given = { ...this.given(name), steps };
        return new Run(rule, RULES[name], ground, surface, { ...given, values: { ...given.values, lr } });
      };
      const lr = bestRate(make, steps);
      if (lr !== null) found.set(name, lr);
    }
    return this.edit(() => {
      for (const [name, lr] of found) (state.own[name] ??= {}).lr = lr;
      if (state.t === 0) state.t = state.steps;
    });
  }

  async share() {
    history.replaceState(null, "", this.link());
    try {
      await navigator.clipboard.writeText(location.href);
      this.$("shared").textContent = "The link is copied. It holds all that you see.";
    } catch {
      this.$("shared").textContent = "Copy the address of this page: it holds all that you see.";
    }
    setTimeout(() => { this.$("shared").textContent = ""; }, 4000);
  }
}

const plain = (name) => name.replace(/^sqrt /, "√").replace(/^1 - (\w+)\^t$/, "1 − $1ᵗ");
const lab = new Lab(JSON.parse(document.getElementById("facts").textContent));
