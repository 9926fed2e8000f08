// The page: a state, the runs that follow from it, and a frame that draws them.
class Lab {
  constructor(facts) {
    this.facts = { ...facts, rules: FACTS_OF(facts.rules, "name"), surfaces: FACTS_OF(facts.surfaces, "key") };
    this.$ = (id) => document.getElementById(id);
    this.looks = new Looks();
    this.heights = new Map();
    this.runs = new Map();
    this.playing = false;
    this.byHand = new Set();
    this.map = new SurfaceMap(this.$("base"), this.$("over"));
    this.solid = new Solid(this.$("solid"));
    this.thousand = new Thousand(this.$("thousand"), this.$("progress"));
    this.charts = new Charts(document, (t) => this.jump(t));
    this.formula = new Formula(this.$("formula"), (name) => this.edit((state) => { state.line = name; }));
    const byHand = (names) => {
      for (const name of names) this.byHand.add(name);
      if (this.tuning) this.tuning.names = this.tuning.names.filter((name) => !names.includes(name));
    };
    this.controls = new Controls(this.facts, document, (change) => this.edit(change), byHand, (name) => this.added(name));
    this.fillMenus();
    listen(this);
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
    const problems = [], linked = fromHash(hash), { first } = this.facts, pairs = linked.length ? linked : first.pairs;
    this.running(false);
    this.tuning = null;
    this.state = readState(this.facts, pairs, problems);
    // Rates that a link or a hand has set are not to be tuned unasked; those of the page's own views may be.
    const chosen = linked.length ? !this.state.preset : first.tunes;
    this.byHand = new Set(chosen ? this.state.rules.filter((name) => this.hasOwnRate(name)) : []);
    this.say(problems.join(" "));
    this.edit(() => {});
    if (!linked.length && first.tunes) this.tuneUnasked();
  }

  hasOwnRate(name) {
    return this.state.own[name]?.lr !== undefined || this.state.common.lr !== undefined;
  }

  edit(change) {
    change(this.state);
    this.state.t = clamp(this.state.t, 0, this.state.steps);
    this.looks.assign(this.state);
    this.setTheme();
    this.refresh();
    // From another start other rates are good ones, and one that a hand has set is the hand's.
    if (this.tuning && this.tuning.key !== this.tuningKey(this.tuning.names)) this.tune([]);
    this.dirty = true;
    this.wake();
    clearTimeout(this.linking);
    // A link made while rates are looked for would hold none; the next edit is when they are found.
    this.linking = setTimeout(() => { if (!this.tuning) history.replaceState(null, "", this.link()); }, 250);
  }

  setTheme() {
    const chosen = this.looks.printing ? "light" : this.state.theme;
    if (chosen) document.documentElement.dataset.theme = chosen;
    else delete document.documentElement.dataset.theme;
  }

  // On paper all is light, and drawn before the browser takes it.
  print(on) {
    this.looks.printing = on;
    this.running(false);
    this.edit(() => {});
    while (on && this.waiting) {
      cancelAnimationFrame(this.waiting);
      this.frame(performance.now());
    }
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
      const run = old?.key === key ? old.run : this.runOf(name, ground, surface, given);
      kept.set(name, { key, run });
    }
    this.runs = kept;
  }

  runOf(name, ground, surface, given) {
    const rule = this.facts.rules.get(name);
    return new Run(rule, codeOf(rule), ground, surface, given);
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
    const tuning = this.workOnRates(begun + 3), scene = this.scene, view = this.state.view;
    this.arrangeAnew(scene);
    const more = this.draw(scene, view, begun + 4) || [...this.runs.values()].some(({ run }) => !run.finished);
    const late = this.drawCharts(scene);
    this.tell(scene);
    this.dirty = false;
    if (this.playing || more || late || tuning) this.wake();
    // For who measures (benchmarks/lab_frames.py): after the charts, which draw in microtasks of their own.
    if (this.onFrame) queueMicrotask(() => this.onFrame(performance.now() - begun));
  }

  // What only pointers change (start, step, camera) leaves menus, lists and sliders as they are.
  arrangeAnew(scene) {
    const { start, t, turn, ...rest } = this.state, key = JSON.stringify([rest, this.looks.theme]);
    if (key === this.arranged) return;
    this.arranged = key;
    this.arrange(scene);
  }

  // Charts are drawn when they would show something else: two a frame, in turn. True while some are late.
  drawCharts(scene) {
    const { start, turn, view, ...rest } = this.state, runs = scene.runs.map(({ run }) => [run.serial, run.done]);
    const key = JSON.stringify([rest, runs, this.looks.theme, innerWidth, devicePixelRatio]);
    if (key !== this.charted) this.late = this.charts.count;
    this.charted = key;
    const now = Math.min(this.late, 2);
    this.charts.show(scene, now);
    this.late -= now;
    return this.late > 0;
  }

  move(now) {
    const speed = Number(this.state.speed) || Math.max(this.state.steps / 6, 4), passed = Math.min(now - (this.last ?? now), 100);
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
    const key = JSON.stringify([state.surface, state.rules, settings, state.noise, state.scale, state.seed, state.steps]);
    this.thousand.show(scene, key);
    return this.thousand.work(deadline);
  }

  // Everything but canvases: menus, lists, sliders, formula.
  arrange(scene) {
    const { state, facts } = scene, ground = facts.surfaces.get(state.surface), rule = facts.rules.get(state.look);
    const preset = facts.presets.find((one) => one.key === state.preset);
    this.$("surface").value = state.surface;
    this.$("preset").value = state.preset;
    this.$("speed").value = state.speed;
    this.$("story").textContent = unbroken(preset ? preset.story : ground.about);
    this.$("surface-formula").innerHTML = `<math displaystyle="true"><mi>f</mi><mo>=</mo>${ground.formula}</math>`;
    this.$("legend").textContent = legend(scene);
    this.$("loss-scale").textContent = isLogarithmic(scene) ? "(logarithmic)" : "";
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
    this.formula.show(rule, state.line);
    const limits = this.facts.surfaces.get(state.surface).limits;
    this.$("projected").hidden = !limits;
    this.$("projected").textContent = limits ? `After each step the parameter is projected to the interval from ${limits.map((x) => written(x)).join(" to ")}.` : "";
    const names = insideNames(rule), chosen = insideOf(rule, state);
    ["first", "second"].forEach((which, place) => {
      const menu = this.$(`inside-${which}`);
      menu.replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name, textContent: plain(name) })));
      menu.value = chosen[place] ?? "";
      this.$(`figure-${which}`).hidden = !chosen[place];
    });
    const shown = corrections(rule);
    this.$("figure-correction").hidden = !shown.length;
    const kinds = ["solid", "dashed", "dotted"], corrects = shown[0]?.startsWith("1 - ");
    const named = shown.map((name, k) => `${shown.length > 1 ? kinds[k] : ""} <math>${rule.symbols[name]}</math>`);
    this.$("correction-name").innerHTML = `${corrects ? "Bias correction: " : ""}${named.join(", ")}`;
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
    this.$("longest").textContent = run ? longest(run, Math.min(t, run.done)) : "";
    const rows = runs.map(({ name, run: one }) => {
      const at = Math.min(t, one.done), where = [...one.path.subarray(one.d * at, one.d * (at + 1))].map((x) => written(x)).join(", ");
      const trains = one.rule.point ? `; trains at (${[...one.trained.subarray(one.d * at, one.d * (at + 1))].map((x) => written(x)).join(", ")})` : "";
      const lost = one.isLost(t) ? ` (${one.fate} at step ${one.done + 1})` : "";
      return { name, text: `${written(one.losses[at])} at (${where})${trains}${lost}` };
    });
    this.table(rows);
  }

  table(rows) {
    const body = this.$("numbers");
    while (body.children.length > rows.length) body.lastChild.remove();
    rows.forEach(({ name, text }, index) => {
      const row = body.children[index] ?? body.appendChild(document.createElement("tr"));
      if (row.children.length < 2) row.append(document.createElement("th"), document.createElement("td"));
      const [head, cell] = row.children;
      if (!head.firstChild) head.append(document.createElement("canvas"), document.createElement("span"));
      head.firstChild.setAttribute("aria-hidden", "true");
      head.lastChild.textContent = name;
      cell.textContent = text;
      const look = JSON.stringify([this.looks.of(name), this.looks.theme]);
      if (row.dataset.look !== look) swatch(head.firstChild, this.looks.of(name), this.looks.paint("paper"));
      row.dataset.look = look;
    });
  }

  play(on = !this.playing) {
    this.running(on);
    if (on && this.state.t >= this.state.steps) this.state.t = 0;
    this.edit(() => {});
  }

  // Begin anew to count time; `on`: and let it run.
  running(on) {
    this.playing = on;
    this.last = undefined;
    this.exact = undefined;
    this.$("play").setAttribute("aria-pressed", String(on));
    this.$("play").textContent = on ? "Pause" : "Play";
  }

  jump(t) {
    this.running(false);
    this.edit((state) => { state.t = t; });
  }

  chooseSurface(name) {
    this.running(false);
    this.edit((state) => {
      const fresh = freshState(this.facts, name);
      for (const key of ["surface", "start", "noise", "steps", "t", "from", "axis", "preset"]) state[key] = fresh[key];
      if (fresh.start.length === 1 && state.view === "solid") state.view = "map";
    });
    this.tuneUnasked();
  }

  // A rule that has just been ticked: beside rules that have good rates its default would look broken.
  added(name) {
    if (!this.hasOwnRate(name) && !this.byHand.has(name)) this.tune([name]);
  }

  tuneUnasked() {
    this.tune(this.state.rules.filter((rule) => !this.byHand.has(rule)));
  }

  choosePreset(key) {
    const preset = this.facts.presets.find((one) => one.key === key);
    if (!preset) return this.edit((state) => { state.preset = ""; });
    this.load(toHash([...preset.pairs, ["preset", key]]));
    // Where motion is not wanted, a story stands at its end.
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this.jump(this.state.steps);
    return this.play(true);
  }

  // Give rules the learning rate that takes them down fastest from here: what a fair race does, for one start.
  tune(names) {
    const { state } = this, ground = this.facts.surfaces.get(state.surface), surface = SURFACES[state.surface];
    const waiting = this.tuning?.names.filter((name) => state.rules.includes(name)) ?? [];
    this.tuning = null;
    this.$("shared").textContent = "";
    if (trouble(ground, surface, state.start)) return;
    const rated = [...new Set([...waiting, ...names])].filter((name) => rateOf(this.facts, name));
    const heights = this.heights.get(state.surface), steps = Math.min(state.steps, 1000);
    this.tuning = new Tuning(rated, (name, lr) => {
      const given = { ...this.given(name), steps };
      return this.runOf(name, ground, surface, { ...given, values: { ...given.values, lr } });
    }, heights, (name, lr) => allows(rateOf(this.facts, name), lr));
    this.tuning.key = this.tuningKey(rated);
    if (rated.length) this.$("shared").textContent = "Looking for learning rates …";
    this.wake();
  }

  // The names of rules, and what their good rates depend on.
  tuningKey(names) {
    const settings = names.map((name) => {
      const { values: { lr, ...others }, ...given } = this.given(name);
      return [name, given, others];
    });
    return JSON.stringify([this.state.surface, settings]);
  }

  // True while there is more to try.
  workOnRates(deadline) {
    if (!this.tuning) return false;
    if (!this.tuning.work(deadline)) return true;
    const { found } = this.tuning;
    this.tuning = null;
    this.edit((state) => { for (const [name, lr] of found) (state.own[name] ??= Object.create(null)).lr = lr; });
    const words = [...found].map(([name, lr]) => `${name} ${written(lr)}`).join(", ");
    this.note(words && `Each rule has its best learning rate for this start: ${words}.`, 9000);
    return false;
  }

  note(text, milliseconds) {
    this.$("shared").textContent = text;
    clearTimeout(this.noting);
    this.noting = setTimeout(() => { this.$("shared").textContent = ""; }, milliseconds);
  }

  async share() {
    history.replaceState(null, "", this.link());
    try {
      await navigator.clipboard.writeText(location.href);
      this.note(`The link is copied. It holds all that you see.${reach()}`, 9000);
    } catch {
      this.note(`Copy the address of this page: it holds all that you see.${reach()}`, 9000);
    }
  }
}

// The hyperparameter that is a rule's learning rate, if it has one.
const rateOf = (facts, name) => facts.rules.get(name).hypers.find((hyper) => hyper.name === "lr");

// Where a link leads to a file, what it is good for.
function reach() {
  return location.protocol === "file:" ? " It opens the file of this page, on this machine: send the file along, and what follows # shows the same there." : "";
}

// A line does not end within a difference or beside a sign of equality.
const unbroken = (text) => text.replace(/ ([=−]) /g, "\u00a0$1\u00a0");

const plain = (name) => name.replace(/^sqrt /, "√").replace(/^1 - (\w+)\^t$/, "1 − $1ᵗ");
const lab = new Lab(JSON.parse(document.getElementById("facts").textContent));
