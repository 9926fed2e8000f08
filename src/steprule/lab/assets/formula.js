// The formula of the rule that is looked into; a line that is pointed at shows the numbers of this step.
class Formula {
  // `onOpen` is told which line is pointed at.
  constructor(host, onOpen) {
    this.host = host;
    this.onOpen = onOpen;
    this.rule = null;
    this.open = null;
  }

  // `opened` is the name of the line whose numbers are seen.
  show(rule, opened) {
    if (this.rule !== rule) {
      this.rule = rule;
      this.open = null;
      this.host.replaceChildren(...rule.lines.map((line) => this.line(line)));
    }
    const row = [...this.host.children].find((one) => one.dataset.line === opened);
    if (row && this.open?.row !== row) this.select(row, rule.lines.find((line) => line.name === opened));
  }

  line(line) {
    const row = document.createElement("div"), math = (inner) => `<math display="block"><mrow>${inner}</mrow></math>`;
    row.className = "line";
    row.tabIndex = 0;
    row.dataset.line = line.name;
    row.innerHTML = `<div class="symbols">${math(`${line.left}<mo>=</mo>${line.right}`)}</div>`
      + `<div class="numbers">${math(`${line.left}<mo>=</mo>${line.numbers}<mo>=</mo><mn class="result"></mn>`)}</div>`;
    const open = () => { if (this.open?.row !== row) this.onOpen(line.name); };
    for (const event of ["pointermove", "focus", "click"]) row.addEventListener(event, open);
    return row;
  }

  select(row, line) {
    this.open?.row.classList.remove("open");
    this.open = { row, line };
    row.classList.add("open");
    this.fill();
  }

  update(run, t, axis) {
    this.given = { run, t, axis };
    if (this.open) this.fill();
  }

  fill() {
    const { row, line } = this.open;
    for (const place of row.querySelectorAll("mn[data-of]")) {
      const value = this.value(place.dataset.of, place.dataset.age), text = written(value, 4);
      place.textContent = value < 0 ? `(${text})` : text;
    }
    const age = this.isOutput(line.name) ? "new" : "", text = written(this.value(line.name, age), 4);
    const projected = line.name === this.rule.parameter ? written(this.placed(), 4) : text;
    row.querySelector(".result").textContent = projected === text ? text : `${text} → ${projected}`;
  }

  // Where the parameter is after the step, projected where the surface has limits.
  placed() {
    const { run, t, axis } = this.given ?? {};
    return run && t >= 1 && t <= run.done ? run.trained[run.d * t + Math.min(axis, run.d - 1)] : undefined;
  }

  isOutput(name) {
    const { rule } = this;
    return name === rule.parameter || rule.slots.includes(name) || rule.scalars.includes(name);
  }

  // The number that stands for a name in step t: hyperparameters, values of this step, and those of the step before.
  value(name, age) {
    if (!this.given?.run) return undefined;
    const { run, t, axis } = this.given, { rule, d } = run, at = age === "old" ? t - 1 : t;
    if (name === "t") return t;
    if (t < 1 || at < 0 || t > run.done) return undefined;
    const k = Math.min(axis, d - 1), of = (values) => values[d * at + k];
    if (name === rule.parameter) return of(age === "new" ? run.unprojected : run.trained);
    if (rule.point && name === rule.pointLine) return of(run.path);
    if (name === rule.gradient) return of(run.gradients);
    if (run.names.has(name)) return of(run.names.get(name));
    if (run.scalars.has(name)) return run.scalars.get(name)[at];
    return run.values[name];
  }
}
