// Draws the curves of trainings, and renews what the page says of those that run.
const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, EDGE] = [360, 180, 26];
const EVERY = 2000;

function element(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  made.textContent = text;
  return made;
}

function drawCurve(points, section) {
  const last = points[points.length - 1];
  const mostLoss = Math.max(...points.map((point) => point.loss), 1e-6);
  const x = (step) => EDGE + ((WIDTH - 2 * EDGE) * step) / Math.max(last.step, 1);
  const y = (share) => HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * share;
  const line = (value) =>
    points
      .filter((point) => value(point) !== null)
      .map((point) => `${x(point.step).toFixed(1)},${y(value(point)).toFixed(1)}`)
      .join(" ");
  const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": section.dataset.curve });
  svg.append(
    element("line", { class: "axis", x1: EDGE, x2: WIDTH - EDGE, y1: y(0), y2: y(0) }),
    element("polyline", { class: "loss", points: line((point) => point.loss / mostLoss) }),
    element("polyline", { class: "accuracy", points: line((point) => point.accuracy) }),
    element("text", { class: "loss-text", x: EDGE, y: 16 }, `${section.dataset.loss} ${last.loss.toFixed(3)}`),
    element("text", { x: WIDTH - EDGE, y: HEIGHT - 8, "text-anchor": "end" }, String(last.step)),
  );
  if (last.accuracy !== null) {
    const text = `${section.dataset.accuracy} ${Math.round(100 * last.accuracy)} %`;
    svg.append(element("text", { class: "accuracy-text", x: WIDTH - EDGE, y: 16, "text-anchor": "end" }, text));
  }
  return svg;
}

function drawCurves(section, curves) {
  section.querySelector(".curves").replaceChildren(
    ...Object.values(curves).filter((points) => points.length).map((points) => drawCurve(points, section)),
  );
}

async function renew(section) {
  let progress;
  try {
    const answer = await fetch(section.dataset.progress, { headers: { Accept: "application/json" } });
    progress = await answer.json();
  } catch {
    return; // the server is being started again
  }
  if (progress.state !== section.dataset.state) {
    location.reload();
    return;
  }
  drawCurves(section, progress.curves);
  section.querySelectorAll(".phases li").forEach((item, number) => {
    const phase = progress.phases[number];
    item.className = phase.state;
    item.lastElementChild.textContent = phase.text;
  });
  const left = section.querySelector(".left");
  if (progress.left_text && left.textContent !== progress.left_text) {
    left.textContent = progress.left_text;
  }
}

for (const section of document.querySelectorAll("section.version")) {
  drawCurves(section, JSON.parse(section.querySelector(".curves").dataset.points));
  if (section.dataset.progress) {
    setInterval(() => renew(section), EVERY);
  }
}
