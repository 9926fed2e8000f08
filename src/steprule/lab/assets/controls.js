// Lists and sliders. They change the state by `edit`, and are redrawn from it.
const SHOWN_FIRST = ["lr", "beta1", "beta2", "eps"];

// How a number lies on a slider: decays by their distance from one, sizes by their logarithm, shares evenly.
function scaleOf(hyper) {
  if (hyper.low === 0 && hyper.high === 1 && !hyper.closed) {
    const to = (p) => Number((1 - Number((10 ** -p).toPrecision(2))).toFixed(9));
    return { min: hyper.open ? 0.01 : 0, max: 5, step: 0.01, to, from: (x) => -Math.log10(Math.max(1 - x, 1e-5)) };
  }
  if (hyper.name !== "steps" && (hyper.high !== null || hyper.low > 0)) {
    const low = hyper.low ?? 0, high = hyper.high ?? 4 * low + 1, edge = (high - low) / 200;
    const to = (p) => Number(p.toPrecision(4));
    return { min: low + (hyper.open ? edge : 0), max: high - (hyper.closed || hyper.high === null ? 0 : edge), step: edge, to, from: (x) => x };
  }
  const [low, high] = { lr: [-4, 1], eps: [-12, 1], noise: [-2, 2], scale: [-3, 3], steps: [1, 4] }[hyper.name] ?? [-4, 2];
  const zero = low - 0.25, digits = hyper.whole ? 0 : undefined;
  const round = (x) => (digits === 0 ? Math.round(x) : Number(x.toPrecision(2)));
  const to = (p) => (!hyper.open && hyper.zero !== false && p < low - 0.1 ? 0 : round(10 ** Math.max(p, low)));
  return { min: hyper.open || hyper.zero === false ? low : zero, max: high, step: 0.01, to, from: (x) => (x > 0 ? Math.log10(x) : zero) };
}

class Controls {
  constructor(facts, root, edit) {
    Object.assign(this, { facts, edit, root, sliders: new Map() });
    this.list = root.querySelector("#rules");
    this.host = root.querySelector("#sliders");
    this.more = root.querySelector("#more-sliders");
    this.everyone = root.querySelector("#for-all");
    this.single = root.querySelector("#for-one");
    this.buildRules();
    for (const radio of [this.everyone, this.single]) radio.addEventListener("change", () => edit(() => {}));
  }

  buildRules() {
    this.items = new Map();
    for (const rule of this.facts.rules.values()) {
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
      box.addEventListener("change", () => this.edit((state) => toggled(state, rule.name, box.checked)));
      look.addEventListener("click", () => this.edit((state) => {
        toggled(state, rule.name, true);
        state.look = rule.name;
      }));
      this.items.set(rule.name, { item, box, canvas, look });
      this.list.append(item);
    }
  }

  show(scene) {
    const { state, looks, facts } = scene;
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
    this.showSliders(scene, facts);
  }

  showSliders({ state }, facts) {
    const seen = new Map();
    const names = this.single.checked ? [state.look] : state.rules;
    for (const name of [state.look, ...names].filter((one) => facts.rules.has(one) && (one !== state.look || names.includes(one)))) {
      for (const hyper of facts.rules.get(name).hypers) if (!seen.has(hyper.name)) seen.set(hyper.name, { hyper, holder: name });
    }
    const first = SHOWN_FIRST.filter((name) => seen.has(name)), rest = [...seen.keys()].filter((name) => !SHOWN_FIRST.includes(name));
    const wanted = (list) => list.map((name) => ({ id: name, ...seen.get(name) }));
    const fixed = ["noise", "scale", "steps"].map((id) => ({ id, hyper: OWN_SLIDERS[id], holder: "" }));
    this.fill(this.host, [...wanted(first), ...fixed], state);
    this.fill(this.more, wanted(rest), state);
    this.root.querySelector("#more").hidden = !rest.length;
  }

  fill(host, wanted, state) {
    const key = wanted.map(({ id, holder }) => `${id}:${holder}`).join();
    if (host.dataset.key !== key) {
      host.dataset.key = key;
      host.replaceChildren(...wanted.map((entry) => this.slider(entry)));
    }
    for (const { id, holder } of wanted) {
      const value = holder ? valuesOf(this.facts, state, holder)[id] : state[id], { range, number, scale } = this.sliders.get(id);
      if (document.activeElement !== number) number.value = String(value);
      if (scale.to(Number(range.value)) !== value) range.value = String(scale.from(value));
      range.setAttribute("aria-valuetext", String(value));
    }
  }

  slider({ id, hyper }) {
    const row = document.createElement("div"), label = document.createElement("label"), scale = scaleOf(hyper);
    const range = document.createElement("input"), number = document.createElement("input");
    row.className = "slider";
    const symbol = hyper.symbol ? `<math>${hyper.symbol}</math>` : "";
    label.innerHTML = `${symbol} <span>${hyper.title ?? hyper.name}</span>`;
    if (hyper.note) row.title = hyper.note;
    Object.assign(range, { type: "range", id: `slider-${id}`, min: scale.min, max: scale.max, step: scale.step });
    Object.assign(number, { type: "text", inputMode: "decimal", size: 8, id: `number-${id}` });
    label.htmlFor = range.id;
    number.setAttribute("aria-label", hyper.title ?? hyper.name);
    range.addEventListener("input", () => this.set(id, hyper, scale.to(Number(range.value))));
    number.addEventListener("change", () => this.typed(id, hyper, number));
    row.append(label, number, range);
    this.sliders.set(id, { range, number, scale });
    return row;
  }

  typed(id, hyper, number) {
    const value = Number(number.value.replace("−", "-")), fits = number.value.trim() !== "" && allows(hyper, value);
    number.setCustomValidity(fits ? "" : `${hyper.title ?? hyper.name} takes ${rangeOf(hyper)}.`);
    number.reportValidity();
    if (fits) this.set(id, hyper, hyper.whole ? Math.round(value) : value);
  }

  set(id, hyper, value) {
    this.edit((state) => {
      if (id in OWN_SLIDERS) {
        state[id] = value;
        if (id === "steps") state.t = state.steps;
      } else if (this.single.checked) (state.own[state.look] ??= {})[id] = value;
      else {
        state.common[id] = value;
        for (const values of Object.values(state.own)) delete values[id];
      }
    });
  }
}

const OWN_SLIDERS = {
  noise: { name: "noise", title: "noise", low: 0, high: null, note: "Standard deviation of what is added to each coordinate of the gradient, the same for all rules." },
  scale: { name: "scale", title: "loss ×", low: 0, high: null, open: true, note: "The loss, and so the gradient, times this number." },
  steps: { name: "steps", title: "steps", low: 1, high: MAX_STEPS, closed: true, whole: true },
};

function toggled(state, name, on) {
  if (on === state.rules.includes(name)) return;
  state.rules = on ? [...state.rules, name] : state.rules.filter((one) => one !== name);
  if (on || state.look === name) state.look = on ? name : state.rules.at(-1) ?? "";
}
