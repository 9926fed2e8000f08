// What is seen is a function of this state, and the state is in the link: to send one is to send a situation.
const NUMBERS = ["noise", "scale", "seed", "steps", "t"];
const MAX_STEPS = 10000;

function freshState(facts, name) {
  const ground = facts.surfaces.get(name);
  return {
    surface: name, start: [...ground.start], rules: [], look: "", common: {}, own: {}, noise: ground.noise, scale: 1,
    seed: 1, steps: ground.steps, t: ground.steps, view: "map", axis: 0, turn: [-0.6, 0.75], preset: "", inside: ["", ""],
  };
}

// A state from the pairs of a link or of a preset. What cannot be read is named in `problems` and left out.
function readState(facts, pairs, problems = []) {
  const given = new Map(pairs), take = (key) => { const value = given.get(key); given.delete(key); return value; };
  let surface = take("surface") ?? facts.first.surface;
  if (!facts.surfaces.has(surface)) {
    problems.push(`There is no surface “${surface}” on this page.`);
    surface = facts.first.surface;
  }
  const state = freshState(facts, surface), ground = facts.surfaces.get(surface);
  const start = take("start")?.split(",").map(Number);
  if (start && start.length === ground.dimensions && start.every(Number.isFinite)) state.start = start;
  else if (start) problems.push(`The start has to be ${ground.dimensions} number${ground.dimensions > 1 ? "s" : ""}.`);
  for (const name of (take("rules") ?? facts.first.rules).split(",").filter(Boolean)) {
    if (!facts.rules.has(name)) problems.push(`There is no rule “${name}” on this page.`);
    else if (!state.rules.includes(name)) state.rules.push(name);
  }
  state.look = take("look") ?? "";
  if (!state.rules.includes(state.look)) state.look = state.rules.at(-1) ?? "";
  for (const key of NUMBERS) {
    const text = take(key);
    if (key === "t") state.t = state.steps;
    if (text === undefined) continue;
    const value = Number(text);
    if (text !== "" && Number.isFinite(value) && value >= 0) state[key] = value;
    else problems.push(`${key} has to be a number that is not negative, not “${text}”.`);
  }
  state.steps = clamp(Math.round(state.steps), 1, MAX_STEPS);
  state.t = clamp(Math.round(state.t), 0, state.steps);
  state.seed = Math.round(state.seed) % 4294967296;
  const view = take("view");
  if (["map", "solid", "thousand"].includes(view)) state.view = view;
  const turn = take("turn")?.split(",").map(Number);
  if (turn?.length === 2 && turn.every(Number.isFinite)) state.turn = [turn[0], clamp(turn[1], 0.15, 1.5)];
  if (take("axis") === "1" && ground.dimensions > 1) state.axis = 1;
  state.preset = take("preset") ?? "";
  state.inside = (take("inside") ?? ",").split(",");
  for (const [key, text] of given) readHyper(facts, state, key, text, problems);
  return state;
}

function readHyper(facts, state, key, text, problems) {
  const dot = key.lastIndexOf("."), rule = dot > 0 ? key.slice(0, dot) : "", name = key.slice(dot + 1);
  const holders = [...facts.rules.values()].filter((one) => !rule || one.name === rule);
  const hypers = holders.flatMap((one) => one.hypers.filter((hyper) => hyper.name === name));
  const value = Number(text);
  if (!hypers.length) problems.push(`Nothing on this page is called “${key}”.`);
  else if (text === "" || !hypers.some((hyper) => allows(hyper, value))) {
    problems.push(`${key} cannot be ${text}: it takes ${rangeOf(hypers[0])}.`);
  } else if (rule) (state.own[rule] ??= {})[name] = value;
  else state.common[name] = value;
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
  const fresh = freshState(facts, state.surface), pairs = [];
  const put = (key, value, plain) => { if (String(value) !== String(plain)) pairs.push([key, String(value)]); };
  pairs.push(["surface", state.surface], ["rules", state.rules.join(",")]);
  put("start", state.start, fresh.start);
  put("look", state.look, state.rules.at(-1) ?? "");
  for (const key of NUMBERS) put(key, state[key], key === "t" ? state.steps : fresh[key]);
  put("view", state.view, "map");
  put("turn", state.turn.map((x) => Number(x.toFixed(3))), fresh.turn);
  put("axis", state.axis, 0);
  put("inside", state.inside, ",");
  put("preset", state.preset, "");
  for (const [name, value] of Object.entries(state.common)) pairs.push([name, String(value)]);
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
  const own = state.own[name] ?? {}, rule = facts.rules.get(name);
  const chosen = (hyper) => {
    if (own[hyper.name] !== undefined) return own[hyper.name];
    const common = state.common[hyper.name];
    return common !== undefined && allows(hyper, common) ? common : hyper.default;
  };
  return Object.fromEntries(rule.hypers.map((hyper) => [hyper.name, chosen(hyper)]));
}
