// How rules are drawn. PALETTES, DASHES and SHAPES are those of steprule/style.py: colours that colour-blind readers tell apart,
// and dashes and shapes beside them, so that no colour says it alone.
class Looks {
  constructor() {
    this.marks = Object.create(null);
    this.system = matchMedia("(prefers-color-scheme: dark)");
    this.chosen = "";
    this.printing = false;
  }

  get theme() {
    return this.printing ? "light" : this.chosen || (this.system.matches ? "dark" : "light");
  }

  // Each rule keeps its mark as long as it is shown; a new one takes the first that is free.
  assign(state) {
    this.chosen = state.theme;
    this.marks = state.marks;
    for (const name of Object.keys(state.marks)) if (!state.rules.includes(name)) delete state.marks[name];
    for (const name of state.rules) {
      const taken = Object.values(state.marks);
      if (name in state.marks) continue;
      let mark = 0;
      while (taken.includes(mark)) mark++;
      state.marks[name] = mark;
    }
  }

  of(name) {
    const slot = this.marks[name] ?? 0, colors = PALETTES[this.theme];
    const round = Math.floor(slot / colors.length);
    const color = colors[slot % colors.length];
    return { color, dash: DASHES[round % DASHES.length], shape: SHAPES[slot % SHAPES.length] };
  }

  paint(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  }
}

// The mark at the head of a path.
function mark(context, x, y, { color, shape }, size, paper) {
  context.beginPath();
  if (shape === "circle") context.arc(x, y, size, 0, 2 * Math.PI);
  else if (shape === "square") context.rect(x - size * 0.9, y - size * 0.9, size * 1.8, size * 1.8);
  else {
    const corners = { triangle: [[0, -1.25], [1.15, 0.85], [-1.15, 0.85]], diamond: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]] };
    const cross = [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]];
    for (const [dx, dy] of corners[shape] ?? cross) context.lineTo(x + dx * size, y + dy * size);
    context.closePath();
  }
  context.fillStyle = color;
  context.strokeStyle = paper;
  context.lineWidth = 2;
  context.setLineDash([]);
  context.stroke();
  context.fill();
}

// The line of the point at which gradients are taken, where a rule is evaluated elsewhere, and the mark at its head.
function thinLine(context, look) {
  context.setLineDash([]);
  context.lineJoin = "round";
  context.strokeStyle = look.color;
  context.lineWidth = 1;
}

function hollow(context, [x, y], look, paper) {
  thinLine(context, look);
  context.lineWidth = 1.5;
  context.fillStyle = paper;
  context.beginPath();
  context.arc(x, y, 3.5, 0, 2 * Math.PI);
  context.fill();
  context.stroke();
}

// A small picture of a rule's line and mark, for lists.
function swatch(canvas, look, paper) {
  const ratio = Math.min(devicePixelRatio || 1, 2), context = canvas.getContext("2d");
  canvas.width = 34 * ratio;
  canvas.height = 16 * ratio;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.strokeStyle = look.color;
  context.lineWidth = 2.5;
  context.setLineDash(look.dash);
  context.beginPath();
  context.moveTo(1, 8);
  context.lineTo(26, 8);
  context.stroke();
  mark(context, 25, 8, look, 4.5, paper);
}
