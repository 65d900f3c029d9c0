// The graph: inputs, steps and outputs as nodes, values as edges. Weights, states and constants are listed in the nodes
// that read them, as are inputs with many readers: edges to all of them would clutter the drawing.

/** An input with more readers than this has an edge to the first one only. */
const FEW_READERS = 3;
const NODE = { width: 216, height: 58, channel: 10, gap: 22, between: 34 };

const graphView = { x: 0, y: 0, zoom: 1 };
const nodeKeys = allKeys.filter((key) => "iso".includes(key[0]));
const inOrder = (key) => ({ i: -1e9, s: 0, o: 1e9 })[key[0]] + numberOf(key);
nodeKeys.sort((a, b) => inOrder(a) - inOrder(b));
const isCrowded = (key) => key[0] === "i" && readersOf.get(key).length > FEW_READERS;
const graphEdges = nodeKeys.flatMap((from) => {
  const readers = readersOf.get(from);
  return (isCrowded(from) ? readers.slice(0, 1) : readers).map((to) => [from, to]);
});
const drawing = layered(nodeKeys, graphEdges, NODE);
const largest = Math.max(1, ...steps.map((step) => step.cost.bytes));

/** The third line of a step: the leaves it reads. */
function leafLine(i) {
  const names = readsOf[i].filter((key) => key !== null && ("wtc".includes(key[0]) || isCrowded(key))).map(nameOf);
  return [...new Set(names)].join(" · ");
}
function nodeLines(key) {
  if (key[0] === "s") {
    const step = steps[numberOf(key)];
    const weight = step.inputs.find((input) => keyOf(input.place)?.[0] === "w");
    const op = weight && step.op.startsWith("linear") ? `${step.op} ${weight.desc.dtype}` : step.op;
    return [step.name, `${key.slice(1)}  ${op} → ${step.outputs.map((output) => showDesc(output.desc)).join(", ")}`, leafLine(numberOf(key))];
  }
  const readers = readersOf.get(key).length;
  const use = key[0] === "o" ? "output" : isCrowded(key) ? `input, read by ${readers} steps` : "input";
  return [nameOf(key), use, showDesc(thingOf(key).operand.desc)];
}
const writesState = (key) =>
  key[0] === "s" && steps[numberOf(key)].outputs.some((output) => keyOf(output.place) !== null);

function drawNode(pen, key, x, y) {
  const round = key[0] === "s" ? 5 : NODE.height / 2;
  const kind = key[0] === "s" ? (writesState(key) ? "state" : "value") : kinds[key[0]];
  pen.globalAlpha = isDim(key) ? 0.45 : 1;
  pen.beginPath();
  pen.roundRect(x - NODE.width / 2, y, NODE.width, NODE.height, round);
  pen.fillStyle = isMatch(key) ? colours.match : colours.card;
  pen.fill();
  pen.lineWidth = key === selected ? 3.5 : isRelated(key) ? 2.5 : 1.4;
  pen.strokeStyle = key === selected ? colours.accent : colours[kind];
  pen.stroke();
  const lines = nodeLines(key);
  const inset = key[0] === "s" ? 9 : 24;
  pen.textAlign = "left";
  lines.forEach((line, i) => {
    pen.font = `${i === 0 ? "600 13px" : "11.5px"} ${FONT}`;
    pen.fillStyle = i === 0 ? colours.text : colours.muted;
    pen.fillText(fitted(pen, line, NODE.width - 2 * inset), x - NODE.width / 2 + inset, y + 16 + 15.5 * i);
  });
  if (key[0] === "s") {
    pen.fillStyle = colours[kind];
    const share = steps[numberOf(key)].cost.bytes / largest;
    pen.fillRect(x - NODE.width / 2 + 4, y + NODE.height - 4, Math.max(1, (NODE.width - 8) * share), 3);
  }
  pen.globalAlpha = 1;
}

function drawEdge(pen, { from, to, route }) {
  const strong = from === selected || to === selected;
  pen.globalAlpha = strong ? 1 : isDim(from) && isDim(to) ? 0.15 : 0.75;
  pen.strokeStyle = strong ? colours.accent : colours.edge;
  pen.lineWidth = strong ? 2.2 : 1.3;
  pen.setLineDash(isCrowded(from) ? [4, 4] : []);
  pen.beginPath();
  route.forEach((cell, i) => {
    const y = cell.y + (i === 0 ? NODE.height : 0);
    if (i === 0) {
      pen.moveTo(cell.x, y);
      return;
    }
    const before = route[i - 1];
    const last = before.y + NODE.height;
    const bend = Math.min(60, (y - last) / 2);
    pen.bezierCurveTo(before.x, last + bend, cell.x, y - bend, cell.x, y);
    if (cell.key === null) pen.lineTo(cell.x, y + NODE.height);
  });
  pen.stroke();
  pen.setLineDash([]);
  const { x, y } = route[route.length - 1];
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(x - 3.5, y - 7);
  pen.lineTo(x + 3.5, y - 7);
  pen.fillStyle = pen.strokeStyle;
  pen.fill();
  pen.globalAlpha = 1;
}

function drawGraph(pen, width, height) {
  const { x, y, zoom } = graphView;
  pen.translate(width / 2, 0);
  pen.scale(zoom, zoom);
  pen.translate(-x, -y);
  const [top, bottom] = [y - 10, y + height / zoom + 10];
  const inSight = ({ route }) => route[route.length - 1].y >= top && route[0].y + NODE.height <= bottom;
  drawing.routes.filter(inSight).forEach((route) => drawEdge(pen, route));
  drawing.rows.forEach((row) => row.forEach((cell) => {
    if (cell.key !== null && cell.y + NODE.height >= top && cell.y <= bottom) drawNode(pen, cell.key, cell.x, cell.y);
  }));
}

/** The node under a point of the canvas. */
function nodeAt(px, py) {
  const canvas = byId("graph");
  const x = (px - canvas.clientWidth / 2) / graphView.zoom + graphView.x;
  const y = py / graphView.zoom + graphView.y;
  const row = drawing.rows[Math.floor(y / (NODE.height + NODE.between))] ?? [];
  const hit = row.find((cell) => cell.key !== null && Math.abs(cell.x - x) <= NODE.width / 2
    && y - cell.y <= NODE.height);
  return hit?.key ?? null;
}

function zoomGraph(factor, px, py) {
  const canvas = byId("graph");
  const zoom = Math.min(3, Math.max(0.01, graphView.zoom * factor));
  const [dx, dy] = [(px ?? canvas.clientWidth / 2) - canvas.clientWidth / 2, py ?? canvas.clientHeight / 2];
  graphView.x += dx / graphView.zoom - dx / zoom;
  graphView.y += dy / graphView.zoom - dy / zoom;
  graphView.zoom = zoom;
}

/** Fits the whole drawing, or its upper end at a readable size as at the start. */
function fitGraph(whole) {
  const canvas = byId("graph");
  const extent = (rows) => {
    const xs = rows.flat().map((cell) => cell.x);
    return [Math.min(...xs) - NODE.width / 2 - 20, Math.max(...xs) + NODE.width / 2 + 20];
  };
  const [left, right] = extent(drawing.rows);
  const tall = drawing.rows.length * (NODE.height + NODE.between) + 20;
  const across = canvas.clientWidth / (right - left);
  const zoom = whole ? Math.min(across, canvas.clientHeight / tall) : Math.max(0.7, across);
  graphView.zoom = Math.min(1, zoom);
  const [upperLeft, upperRight] = whole || across >= 0.7 ? [left, right] : extent(drawing.rows.slice(0, 10));
  graphView.x = (upperLeft + upperRight) / 2;
  graphView.y = -16 / graphView.zoom;
}

function startGraph() {
  const canvas = byId("graph");
  const redraw = surface(canvas, drawGraph);
  fitGraph(false);
  drags(canvas, (dx, dy) => {
    graphView.x -= dx / graphView.zoom;
    graphView.y -= dy / graphView.zoom;
    redraw();
  }, (x, y) => select(nodeAt(x, y), false));
  canvas.addEventListener("wheel", (event) => {
    const zooms = event.ctrlKey || event.metaKey;
    // Until the drawing is clicked, the wheel scrolls the page.
    if (!zooms && document.activeElement !== canvas) return;
    event.preventDefault();
    if (zooms) {
      zoomGraph(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
    } else {
      graphView.x += event.deltaX / graphView.zoom;
      graphView.y += event.deltaY / graphView.zoom;
    }
    redraw();
  }, { passive: false });
  tips(canvas, (x, y) => {
    const key = nodeAt(x, y);
    return key === null ? null : nodeLines(key).filter((line) => line !== "").join("\n");
  });
  const button = (id, action) => byId(id).addEventListener("click", () => { action(); redraw(); });
  button("graph-in", () => zoomGraph(1.4));
  button("graph-out", () => zoomGraph(1 / 1.4));
  button("graph-fit", () => fitGraph(true));
  onChange((moved) => {
    const cell = drawing.cells.get(selected);
    if (moved && cell !== undefined) {
      graphView.zoom = Math.max(graphView.zoom, 0.7);
      graphView.x = cell.x;
      graphView.y = cell.y - canvas.clientHeight / 2 / graphView.zoom;
    }
    redraw();
  });
  legend("graph-legend", [["input", "input"], ["value", "step"], ["state", "step that writes a state"],
    ["output", "output"]]);
}
