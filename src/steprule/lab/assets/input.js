// What hands do: buttons, menus, keys, and pointers on the map and on the surface. Each becomes an edit of the state.
function listen(lab) {
  const on = (id, event, act) => lab.$(id).addEventListener(event, act);
  on("play", "click", () => lab.play());
  on("to-start", "click", () => lab.jump(0));
  on("back", "click", () => lab.jump(lab.state.t - 1));
  on("forward", "click", () => lab.jump(lab.state.t + 1));
  on("to-end", "click", () => lab.jump(lab.state.steps));
  on("scrub", "input", () => lab.jump(Number(lab.$("scrub").value)));
  on("surface", "change", () => lab.chooseSurface(lab.$("surface").value));
  on("preset", "change", () => lab.choosePreset(lab.$("preset").value));
  on("theme", "click", () => {
    const other = lab.looks.theme === "dark" ? "light" : "dark";
    lab.edit((state) => { state.theme = other; });
  });
  on("share", "click", () => lab.share());
  on("picture", "click", () => savePicture(lab));
  on("tune", "click", () => lab.tune(lab.state.rules));
  on("speed", "change", () => lab.edit((state) => { state.speed = lab.$("speed").value; }));
  on("new-noise", "click", () => lab.edit((state) => { state.seed = (state.seed + 1) % 4294967296; }));
  ["first", "second"].forEach((which, place) => {
    on(`inside-${which}`, "change", () => lab.edit((state) => { state.inside[place] = lab.$(`inside-${which}`).value; }));
  });
  for (const radio of document.querySelectorAll("[name=axis]")) {
    radio.addEventListener("change", () => lab.edit((state) => { state.axis = Number(radio.value); }));
  }
  for (const tab of document.querySelectorAll("[data-view]")) {
    tab.addEventListener("click", () => lab.edit((state) => { state.view = tab.dataset.view; }));
  }
  lab.looks.system.addEventListener("change", () => lab.edit(() => {}));
  addEventListener("beforeprint", () => lab.print(true));
  addEventListener("afterprint", () => lab.print(false));
  // Not location.hash, where the link of the state before may stand again: it is written a little after each edit.
  addEventListener("hashchange", (event) => lab.load(new URL(event.newURL).hash));
  new ResizeObserver(() => lab.edit(() => {})).observe(document.body);
  document.addEventListener("keydown", (event) => pressed(lab, event));
  listenToMap(lab);
  listenToSolid(lab);
}

function listenToMap(lab) {
  const over = lab.$("over");
  const put = (event) => {
    const box = over.getBoundingClientRect();
    const [x, y] = lab.map.fromPlace(event.clientX - box.left, event.clientY - box.top);
    const flat = lab.state.start.length === 1, digits = (value) => Number(value.toPrecision(4));
    lab.edit((state) => { state.start = flat ? [digits(x)] : [digits(x), digits(y)]; });
  };
  over.addEventListener("pointerdown", (event) => {
    over.setPointerCapture(event.pointerId);
    if (lab.state.t === 0) lab.edit((state) => { state.t = state.steps; });
    put(event);
  });
  over.addEventListener("pointermove", (event) => { if (over.hasPointerCapture(event.pointerId)) put(event); });
  over.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    const { box } = lab.facts.surfaces.get(lab.state.surface);
    lab.edit((state) => {
      state.start = state.start.map((x, k) => {
        const [low, high] = box[k];
        return Number(clamp(x + (move[k] * (high - low)) / (event.shiftKey ? 200 : 50), low, high).toPrecision(4));
      });
    });
  });
}

function listenToSolid(lab) {
  const canvas = lab.$("solid");
  let from = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    from = [event.clientX, event.clientY, ...lab.state.turn];
  });
  const turn = (around, up) => lab.edit((state) => { state.turn = [around, clamp(up, ...UP)]; });
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
    turn(lab.state.turn[0] + move[0], lab.state.turn[1] + move[1]);
  });
}

function pressed(lab, event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  // Sliders, menus, fields and choices have all keys for themselves; buttons and boxes the one that presses them.
  const field = event.target.closest("input, select, button, summary, .line"), kind = field?.type ?? field?.tagName;
  if (field && !["button", "checkbox", "SUMMARY", undefined].includes(kind)) return;
  if (field && (event.key === " " || event.key === "Enter")) return;
  if (event.target.closest("[role=tablist]") && event.key.startsWith("Arrow")) return turnTabs(lab, event);
  const act = {
    " ": () => lab.play(),
    ArrowRight: () => lab.jump(lab.state.t + (event.shiftKey ? 10 : 1)),
    ArrowLeft: () => lab.jump(lab.state.t - (event.shiftKey ? 10 : 1)),
    Home: () => lab.jump(0),
    End: () => lab.jump(lab.state.steps),
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

function turnTabs(lab, event) {
  const tabs = [...document.querySelectorAll("[role=tab]:not(:disabled)")], at = tabs.indexOf(event.target);
  const next = tabs[(at + (event.key === "ArrowRight" ? 1 : tabs.length - 1)) % tabs.length];
  event.preventDefault();
  next.focus();
  next.click();
}
