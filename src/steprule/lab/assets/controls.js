// Lists and sliders. They change the state by `edit`, and are redrawn from it.
const SHOWN_FIRST = ["lr", "beta1", "beta2", "eps"];

// How a number lies on a slider: decays by their distance from one, sizes by their logarithm, others evenly. The
// default and the present value are always on it.
function scaleOf(hyper, value) {
  const plain = scaleFor(hyper, [hyper.default].filter(Number.isFinite));
  // Wider only for what was typed or linked: a scale that grew under the hand would run away from it.
  const holds = !Number.isFinite(value) || (value >= plain.to(plain.min) && value <= plain.to(plain.max));
  return holds ? plain : scaleFor(hyper, [hyper.default, value].filter(Number.isFinite));
}

function scaleFor(hyper, seen) {
  if (hyper.low === 0 && hyper.high === 1 && !hyper.closed) {
    const most = Math.max(5, ...seen.map((x) => Math.ceil(-Math.log10(1 - x)))), from = (x) => -Math.log10(1 - x);
    const to = (p) => Number((1 - Number((10 ** -p).toPrecision(2))).toFixed(most + 4));
    return { min: hyper.open ? 0.01 : 0, max: most, step: 0.01, to, from };
  }
  const isSize = hyper.size || hyper.whole || (hyper.low === 0 && hyper.high === null);
  return isSize ? sizes(hyper, seen) : evenly(hyper, seen);
}

function sizes(hyper, seen) {
  const usual = { lr: [-4, 1], eps: [-12, 1], noise: [-2, 2], scale: [-3, 3], steps: [1, 4] }[hyper.name] ?? [-4, 2];
  const powers = seen.filter((x) => x > 0).map(Math.log10), hasZero = hyper.low === 0 && !hyper.open;
  const low = Math.min(usual[0], ...powers.map(Math.floor)), high = Math.max(usual[1], ...powers.map(Math.ceil)), zero = low - 0.25;
  const round = (x) => (hyper.whole ? Math.round(x) : Number(x.toPrecision(2)));
  const to = (p) => (hasZero && p < low - 0.1 ? 0 : round(10 ** Math.max(p, low)));
  return { min: hasZero ? zero : low, max: high, step: 0.01, to, from: (x) => (x > 0 ? Math.log10(x) : zero) };
}

function evenly(hyper, seen) {
  const widest = 2 * Math.max(1, ...seen.map(Math.abs)), low = hyper.low ?? -widest;
  const high = hyper.high ?? (hyper.low === null ? widest : low + widest), edge = (high - low) / 200;
  const to = (p) => Number(p.toPrecision(4));
  const most = hyper.high === null || hyper.closed ? high : high - edge;
  return { min: hyper.open ? low + edge : low, max: most, step: edge, to, from: (x) => x };
}

class Controls {
  // `byHand` is told of rules whose learning rate a hand has set, `added` of a rule that is shown from now on.
  constructor(facts, root, edit, byHand, added) {
    Object.assign(this, { facts, edit, root, byHand, added, sliders: new Map() });
    this.list = root.querySelector("#rules");
    this.host = root.querySelector("#sliders");
    this.more = root.querySelector("#more-sliders");
    this.everyone = root.querySelector("#for-all");
    this.single = root.querySelector("#for-one");
    this.items = new Map();
    this.second = root.querySelector("#twin");
    this.second.addEventListener("click", () => edit((state) => doubled(facts, state)));
    for (const radio of [this.everyone, this.single]) {
      radio.addEventListener("change", () => edit((state) => { state.scope = this.single.checked ? "one" : "all"; }));
    }
  }

  // An entry of the list for each rule; those that are made later stand behind the rule they are made of.
  listRules() {
    for (const rule of this.facts.rules.values()) if (!this.items.has(rule.name)) this.listRule(rule);
  }

  listRule(rule) {
    const item = document.createElement("li"), label = document.createElement("label"), box = document.createElement("input");
    const canvas = document.createElement("canvas"), name = document.createElement("span"), look = document.createElement("button");
    Object.assign(box, { type: "checkbox", name: "rule", value: rule.name });
    name.textContent = rule.name;
    name.className = "name";
    canvas.setAttribute("aria-hidden", "true");
    Object.assign(look, { type: "button", className: "look", textContent: "look inside" });
    look.setAttribute("aria-label", `look inside ${rule.name}`);
    label.title = `${rule.about} ${rule.paper}`.trim();
    label.append(box, canvas, name);
    item.append(label, look);
    box.addEventListener("change", () => {
      this.edit((state) => toggled(state, rule.name, box.checked));
      if (box.checked) this.added(rule.name);
    });
    look.addEventListener("click", () => {
      const isNew = !box.checked;
      this.edit((state) => {
        toggled(state, rule.name, true);
        state.look = rule.name;
      });
      if (isNew) this.added(rule.name);
    });
    this.items.set(rule.name, { item, box, canvas, look });
    if (rule.twinOf) this.items.get(rule.twinOf).item.after(item);
    else this.list.append(item);
  }

  show(scene) {
    const { state, looks, facts } = scene;
    this.listRules();
    for (const [name, { item, box, canvas, look }] of this.items) {
      const on = state.rules.includes(name);
      box.checked = on;
      item.classList.toggle("on", on);
      item.classList.toggle("focus", name === state.look);
      look.setAttribute("aria-pressed", String(name === state.look));
      look.tabIndex = on ? 0 : -1;
      canvas.hidden = !on;
      if (on) swatch(canvas, looks.of(name), looks.paint("paper"));
    }
    this.single.nextElementSibling.textContent = state.look ? `for ${state.look} only` : "for one only";
    this.single.disabled = !state.look;
    this.single.checked = state.scope === "one";
    const twin = facts.rules.get(state.look)?.twinOf;
    this.second.disabled = !state.look || twin !== undefined;
    this.second.textContent = state.look ? `A second ${twin ?? state.look} beside it` : "A second one beside it";
    this.everyone.checked = state.scope !== "one";
    const focus = this.items.get(state.look)?.item;
    if (focus && this.seen !== state.look) this.list.scrollTop = focus.offsetTop - this.list.clientHeight / 2;
    this.seen = state.look;
    const draws = state.noise > 0 || facts.surfaces.get(state.surface).draws;
    this.root.querySelector("#new-noise").disabled = !draws;
    this.showSliders(scene, facts);
  }

  showSliders({ state }, facts) {
    const seen = new Map();
    const names = state.scope === "one" && state.look ? [state.look] : state.rules;
    for (const name of [state.look, ...names].filter((one) => facts.rules.has(one) && (one !== state.look || names.includes(one)))) {
      for (const hyper of facts.rules.get(name).hypers) if (!seen.has(hyper.name)) seen.set(hyper.name, { hyper, holder: name });
    }
    const first = SHOWN_FIRST.filter((name) => seen.has(name)), rest = [...seen.keys()].filter((name) => !SHOWN_FIRST.includes(name));
    // One slider may stand for several rules: where their values differ, all are said.
    const each = (hyper) => {
      const holders = names.filter((name) => facts.rules.get(name)?.hypers.some((one) => one.name === hyper));
      const values = holders.map((name) => [name, valuesOf(facts, state, name)[hyper]]);
      return values.every(([, value]) => value === values[0][1]) ? [] : values;
    };
    const wanted = (list) => list.map((name) => {
      const { hyper, holder } = seen.get(name);
      return { id: name, hyper, holder, value: valuesOf(facts, state, holder)[name], each: each(name) };
    });
    const fixed = Object.values(OF_THE_PAGE).map((hyper) => ({ id: `page-${hyper.name}`, hyper, holder: "", value: state[hyper.name], each: [] }));
    this.fill(this.host, [...wanted(first), ...fixed]);
    this.fill(this.more, wanted(rest));
    this.root.querySelector("#more").hidden = !rest.length;
  }

  fill(host, wanted) {
    const scales = wanted.map(({ hyper, value }) => scaleOf(hyper, value));
    const key = wanted.map(({ id, holder }, k) => [id, holder, scales[k].min, scales[k].max].join(":")).join();
    if (host.dataset.key !== key) {
      const held = document.activeElement?.id;
      host.dataset.key = key;
      host.replaceChildren(...wanted.map((entry, k) => this.slider(entry, scales[k])));
      if (held) document.getElementById(held)?.focus();
    }
    for (const { id, value, each } of wanted) {
      const { range, number, scale, all } = this.sliders.get(id), words = each.map(([name, own]) => `${name} ${own}`).join(", ");
      if (document.activeElement !== number) number.value = words ? "" : String(value);
      number.placeholder = words ? "differ" : "";
      all.textContent = words;
      all.hidden = !words;
      if (scale.to(Number(range.value)) !== value) range.value = String(scale.from(value));
      range.setAttribute("aria-valuetext", words || String(value));
    }
  }

  slider({ id, hyper, holder }, scale) {
    const row = document.createElement("div"), label = document.createElement("label"), title = document.createElement("span");
    const range = document.createElement("input"), number = document.createElement("input");
    row.className = "slider";
    label.innerHTML = hyper.symbol ? `<math>${hyper.symbol}</math> ` : "";
    title.textContent = hyper.title ?? hyper.name;
    if (hyper.note) row.title = hyper.note;
    Object.assign(range, { type: "range", id: `slider-${id}`, min: scale.min, max: scale.max, step: scale.step });
    Object.assign(number, { type: "text", inputMode: "decimal", size: 8, id: `number-${id}` });
    label.append(title);
    label.htmlFor = range.id;
    number.setAttribute("aria-label", title.textContent);
    range.addEventListener("input", () => this.set(hyper, holder, scale.to(Number(range.value))));
    number.addEventListener("change", () => this.typed(hyper, holder, number));
    const all = document.createElement("p");
    all.className = "each";
    row.append(label, number, range, all);
    this.sliders.set(id, { range, number, scale, all });
    return row;
  }

  typed(hyper, holder, number) {
    const value = Number(number.value.replace("−", "-")), fits = number.value.trim() !== "" && allows(hyper, value);
    number.setCustomValidity(fits ? "" : `${hyper.title ?? hyper.name} takes ${rangeOf(hyper)}.`);
    number.reportValidity();
    if (fits) this.set(hyper, holder, hyper.whole ? Math.round(value) : value);
  }

  set(hyper, holder, value) {
    const { name } = hyper;
    this.edit((state) => {
      if (!holder) {
        state[name] = value;
        if (name === "steps") state.t = value;
        return;
      }
      if (name === "lr") this.byHand(state.scope === "one" ? [state.look] : state.rules);
      if (state.scope === "one") (state.own[state.look] ??= Object.create(null))[name] = value;
      else {
        state.common[name] = value;
        for (const values of Object.values(state.own)) delete values[name];
      }
    });
  }
}

// What the page itself sets, beside the rules' own.
const OF_THE_PAGE = {
  noise: { name: "noise", title: "noise", low: 0, high: LIMITS.noise[1], closed: true, size: true, note: "Standard deviation of what is added to each coordinate of the gradient, the same for all rules." },
  scale: { name: "scale", title: "loss ×", low: LIMITS.scale[0], high: LIMITS.scale[1], closed: true, size: true, note: "Rules descend the loss times this number. The loss that is shown is the plain one." },
  steps: { name: "steps", title: "steps", low: LIMITS.steps[0], high: LIMITS.steps[1], closed: true, whole: true },
};

function toggled(state, name, on) {
  if (on === state.rules.includes(name)) return;
  state.rules = on ? [...state.rules, name] : state.rules.filter((one) => one !== name);
  if (on || state.look === name) state.look = on ? name : state.rules.at(-1) ?? "";
}

// The rule that is looked into once more, at first with the same settings; the sliders are those of the second one.
function doubled(facts, state) {
  const first = state.look, name = `${first}${TWIN}`;
  if (!known(facts, name)) return;
  if (!state.rules.includes(name)) state.own[name] = Object.assign(Object.create(null), state.own[first]);
  toggled(state, name, true);
  state.look = name;
  state.scope = "one";
}
