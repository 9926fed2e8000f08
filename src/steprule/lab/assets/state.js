// What is seen is a function of this state, and the state is in the link: to send one is to send a situation.
// LIMITS, WHOLE, VIEWS, SPEEDS, TURN, UP, FAR, MARKS and TWIN are those of steprule/lab/link.py, which reads links as well.
const KEYS = ["surface", "start", "rules", "look", ...Object.keys(LIMITS), "view", "turn", "axis", "inside", "marks", "theme",
  "speed", "scope", "line", "preset"];

// A rule once more, with settings of its own: "adam (2)" is made when it is named. False where there is no such rule.
function known(facts, name) {
  const base = name.endsWith(TWIN) ? facts.rules.get(name.slice(0, -TWIN.length)) : undefined;
  if (!facts.rules.has(name) && base && !base.twinOf) facts.rules.set(name, { ...base, name, twinOf: base.name });
  return facts.rules.has(name);
}

// The functions of a rule; a twin has those of the rule it is made of.
const codeOf = (rule) => RULES[rule.twinOf ?? rule.name];

function freshState(facts, name) {
  const ground = facts.surfaces.get(name);
  return {
    surface: name, start: [...ground.start], rules: [], look: "", common: Object.create(null), own: Object.create(null),
    noise: ground.noise, scale: 1, seed: 1, steps: ground.steps, t: ground.steps, from: 0, view: "map", turn: [...TURN], axis: 0,
    inside: ["", ""], marks: Object.create(null), theme: "", speed: "", scope: "all", line: "", preset: "",
  };
}

// Lists of names in a link: a comma within a name is written otherwise.
const joined = (names) => names.map((name) => name.replaceAll("%", "%25").replaceAll(",", "%2C")).join(",");
const parted = (text) => text.split(",").map((name) => name.replaceAll("%2C", ",").replaceAll("%25", "%"));
const numbersIn = (text) => text.split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));

// A state from the pairs of a link or of a preset. What cannot be read is named in `problems` and left out.
function readState(facts, pairs, problems = []) {
  const given = new Map(pairs), take = (key) => { const value = given.get(key); given.delete(key); return value; };
  let surface = take("surface") ?? facts.first.surface;
  if (!facts.surfaces.has(surface)) {
    problems.push(`There is no surface “${surface}” on this page.`);
    surface = facts.first.surface;
  }
  const state = freshState(facts, surface), ground = facts.surfaces.get(surface);
  readStart(state, ground, take("start"), problems);
  readRules(facts, state, take, problems);
  for (const key of Object.keys(LIMITS)) {
    if (key === "t") state.t = state.steps;
    readNumber(state, key, take(key), problems);
  }
  state.t = Math.min(state.t, state.steps);
  const view = take("view"), turn = numbersIn(take("turn") ?? "");
  if (VIEWS.includes(view) && !(view === "solid" && ground.dimensions === 1)) state.view = view;
  if (turn.length === 2 && turn.every(Number.isFinite)) state.turn = [turn[0], clamp(turn[1], ...UP)];
  if (take("axis") === "1" && ground.dimensions > 1) state.axis = 1;
  const theme = take("theme"), speed = take("speed");
  if (["light", "dark"].includes(theme)) state.theme = theme;
  if (SPEEDS.includes(speed)) state.speed = speed;
  if (take("scope") === "one") state.scope = "one";
  state.line = take("line") ?? "";
  state.preset = take("preset") ?? "";
  const inside = parted(take("inside") ?? ",");
  if (inside.length === 2) state.inside = inside;
  for (const [key, text] of given) readHyper(facts, state, key, text, problems);
  return state;
}

function readStart(state, ground, text, problems) {
  if (text === undefined) return;
  const start = numbersIn(text), [low, high] = ground.limits ?? [-FAR, FAR], count = ground.dimensions;
  const fits = start.length === count && start.every((x) => x >= low && x <= high);
  if (fits) state.start = start;
  else problems.push(`The start has to be ${count} number${count > 1 ? "s" : ""} from ${low} to ${high}.`);
}

function readRules(facts, state, take, problems) {
  for (const name of parted(take("rules") ?? facts.first.rules).filter(Boolean)) {
    if (!known(facts, name)) problems.push(`There is no rule “${name}” on this page.`);
    else if (!state.rules.includes(name)) state.rules.push(name);
  }
  state.look = take("look") ?? "";
  if (!state.rules.includes(state.look)) state.look = state.rules.at(-1) ?? "";
  const marks = numbersIn(take("marks") ?? "");
  if (marks.length === state.rules.length && new Set(marks).size === marks.length && marks.every((k) => k >= 0 && k < MARKS)) {
    state.rules.forEach((name, k) => { state.marks[name] = Math.round(marks[k]); });
  }
}

function readNumber(state, key, text, problems) {
  if (text === undefined) return;
  const value = numbersIn(text)[0], [low, high] = LIMITS[key];
  if (value >= low && value <= high) state[key] = WHOLE.includes(key) ? Math.round(value) : value;
  else problems.push(`${key} has to be a number from ${low} to ${high}, not “${text}”.`);
}

// `lr=` is for all rules, `adam.lr=` for one; `*.scale=` is a hyperparameter whose name the page uses as well.
function readHyper(facts, state, key, text, problems) {
  const dot = key.lastIndexOf("."), rule = dot > 0 ? key.slice(0, dot) : "*", name = key.slice(dot + 1);
  known(facts, rule);
  const holders = [...facts.rules.values()].filter((one) => rule === "*" || one.name === rule);
  const hypers = holders.flatMap((one) => one.hypers.filter((hyper) => hyper.name === name));
  const value = numbersIn(text)[0];
  if (!hypers.length) problems.push(`Nothing on this page is called “${key}”.`);
  else if (!hypers.some((hyper) => allows(hyper, value))) {
    problems.push(`${key} cannot be “${text}”: it takes ${rangeOf(hypers[0])}.`);
  } else if (rule === "*") state.common[name] = value;
  else (state.own[rule] ??= Object.create(null))[name] = value;
}

function allows(hyper, value) {
  const above = hyper.low === null || (hyper.open ? value > hyper.low : value >= hyper.low);
  const below = hyper.high === null || (hyper.closed ? value <= hyper.high : value < hyper.high);
  return Number.isFinite(value) && above && below;
}

function rangeOf(hyper) {
  const low = hyper.low === null ? "" : `${hyper.open ? "more than" : "at least"} ${hyper.low}`;
  const high = hyper.high === null ? "" : `${hyper.closed ? "at most" : "less than"} ${hyper.high}`;
  return ["numbers", [low, high].filter(Boolean).join(" and ")].filter(Boolean).join(" of ");
}

// The pairs that make this state: only what differs from where a link without them would lead.
function statePairs(facts, state) {
  const fresh = freshState(facts, state.surface), pairs = [["surface", state.surface], ["rules", joined(state.rules)]];
  const put = (key, value, plain = fresh[key]) => { if (String(value) !== String(plain)) pairs.push([key, String(value)]); };
  put("start", state.start);
  put("look", state.look, state.rules.at(-1) ?? "");
  for (const key of Object.keys(LIMITS)) put(key, state[key], key === "t" ? state.steps : fresh[key]);
  put("view", state.view);
  put("turn", state.turn.map((x) => Number(x.toFixed(3))));
  put("inside", joined(state.inside), ",");
  put("marks", state.rules.map((name) => state.marks[name]), state.rules.map((_, k) => k));
  for (const key of ["axis", "theme", "speed", "scope", "line", "preset"]) put(key, state[key]);
  for (const [name, value] of Object.entries(state.common)) pairs.push([KEYS.includes(name) ? `*.${name}` : name, String(value)]);
  for (const [rule, values] of Object.entries(state.own)) {
    if (!facts.rules.has(rule)) continue;
    for (const [name, value] of Object.entries(values)) pairs.push([`${rule}.${name}`, String(value)]);
  }
  return pairs;
}

const toHash = (pairs) => `#${pairs.map((pair) => pair.map(encodeURIComponent).join("=")).join("&").replaceAll("%2C", ",")}`;

function fromHash(hash) {
  const parts = hash.replace(/^#/, "").split("&").filter(Boolean);
  return parts.map((part) => {
    const [key, ...rest] = part.split("=");
    try {
      return [key, rest.join("=")].map(decodeURIComponent);
    } catch {
      return [key, rest.join("=")]; // a stray % from a program that cut the link
    }
  });
}

// The hyperparameters that a rule runs with: its own, those for all rules, its defaults.
function valuesOf(facts, state, name) {
  const own = state.own[name] ?? Object.create(null), rule = facts.rules.get(name);
  const chosen = (hyper) => {
    if (own[hyper.name] !== undefined) return own[hyper.name];
    const common = state.common[hyper.name];
    return common !== undefined && allows(hyper, common) ? common : hyper.default;
  };
  return Object.fromEntries(rule.hypers.map((hyper) => [hyper.name, chosen(hyper)]));
}
