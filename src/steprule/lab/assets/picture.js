// The map or the surface as it is seen, with its legend, as a PNG file.
async function savePicture(lab) {
  const picture = pictureOf(lab), link = document.createElement("a");
  const blob = await new Promise((done) => { picture.toBlob(done); });
  const address = URL.createObjectURL(blob), download = `steprule-${lab.state.preset || lab.state.surface}.png`;
  Object.assign(link, { href: address, download }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function pictureOf({ state, looks, map, solid, facts, runs }) {
  const layers = state.view === "solid" ? [solid.stage] : [map.base, map.over], { width, height, ratio } = layers.at(-1);
  const line = 20, rows = [...runs].map(([name, { run }]) => ({ name, text: `${name}: ${settings(facts, run, name)}, loss ${written(run.losses[Math.min(state.t, run.done)])}` }));
  const picture = document.createElement("canvas"), context = picture.getContext("2d");
  picture.width = Math.round(width * ratio);
  picture.height = Math.round((height + line * (rows.length + 1) + 16) * ratio);
  context.fillStyle = looks.paint("paper");
  context.fillRect(0, 0, picture.width, picture.height);
  for (const { canvas } of layers) context.drawImage(canvas, 0, 0);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  Object.assign(context, { font: "13px system-ui, sans-serif", textBaseline: "middle", fillStyle: looks.paint("text") });
  const sample = document.createElement("canvas");
  rows.forEach(({ name, text }, k) => {
    swatch(sample, looks.of(name), looks.paint("paper"));
    context.drawImage(sample, 10, height + 8 + line * k + 2, 34, 16);
    context.fillText(text, 52, height + 8 + line * (k + 0.5), width - 60);
  });
  context.fillStyle = looks.paint("muted");
  const where = `${facts.surfaces.get(state.surface).title}, step ${state.t} of ${state.steps}. Ring: the start; cross: a minimum.`;
  context.fillText(where, 10, height + 8 + line * (rows.length + 0.5), width - 20);
  return picture;
}

// The rate of a run, or what else it has instead.
function settings(facts, run, name) {
  const hyper = rateOf(facts, name) ?? facts.rules.get(name).hypers[0];
  return hyper ? `${hyper.name} ${written(run.values[hyper.name])}` : "no hyperparameters";
}
