// The arena: steps along x, offsets along y, a box per tensor lifetime, and above them a curve of the bytes alive.

const PLOT = { left: 78, right: 14, curve: 74, top: 24, bottom: 52 };
/** Boxes lower than this are hard to tell from a line. */
const THIN = 4;
/** In columns narrower than this, selecting a step zooms in. */
const NARROW = 3;
const columns = Math.max(1, steps.length);
const arenaView = { from: 0, to: columns, scale: "linear" };
const most = Math.max(0, ...alive);
const peakStep = alive.indexOf(most);
const align = (n) => Math.ceil(n / plan.device.alignment) * plan.device.alignment;
const aliveAt = (life, step) => life.first <= step && step <= life.last;
const lifeKey = (life) => (life.input === null ? `s${life.first}` : `i${life.input}`);
// A box whose memory is taken over in place ends in the middle of that step's column.
const goesOn = new Set(lives.filter((life) => life.in_place_of !== null).map((life) => life.in_place_of));
const boxOf = (life, i) => ({
  from: life.first + (life.in_place_of === null ? 0 : 0.5),
  to: life.last + (goesOn.has(i) ? 0.5 : 1),
});
const holders = lives.map((life, i) => [life, i])
  .filter(([life, i]) => aliveAt(life, peakStep) && !(goesOn.has(i) && life.last === peakStep))
  .sort(([a], [b]) => b.bytes - a.bytes);
const isHolder = new Set(holders.map(([, i]) => i));

// Heights: linear, or with each range between two boundaries as high as the logarithm of its bytes.
const boundaries = [...new Set([0, plan.arena, ...lives.flatMap((life) => [life.offset, life.offset + align(life.bytes)])])]
  .sort((a, b) => a - b);
const logHeights = boundaries.map((end, i) =>
  (i === 0 ? 0 : 1 + Math.log2((end - boundaries[i - 1]) / plan.device.alignment + 1)));
const logTotals = logHeights.reduce((sums, height) => [...sums, (sums[sums.length - 1] ?? 0) + height], []);
/** The relative height of an offset: 0 at the bottom, 1 at the top. */
function level(offset) {
  if (arenaView.scale === "linear") return offset / Math.max(1, plan.arena);
  let [low, high] = [0, boundaries.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (boundaries[middle] < offset) low = middle + 1;
    else high = middle;
  }
  const total = logTotals[logTotals.length - 1] || 1;
  if (low === 0) return 0;
  const [start, end] = [boundaries[low - 1], boundaries[low]];
  const part = Math.min(1, (offset - start) / (end - start));
  return (logTotals[low - 1] + (logTotals[low] - logTotals[low - 1]) * part) / total;
}

/** The frame of the plot in a canvas of this size. */
function arenaFrame(width, height) {
  const [left, right] = [PLOT.left, width - PLOT.right];
  const [top, bottom] = [PLOT.top + PLOT.curve + 14, height - PLOT.bottom];
  const across = (right - left) / (arenaView.to - arenaView.from);
  return {
    left, right, top, bottom, across,
    x: (step) => left + (step - arenaView.from) * across,
    y: (offset) => bottom - level(offset) * (bottom - top),
    curveTop: PLOT.top,
    curveBottom: PLOT.top + PLOT.curve,
  };
}

/** Evenly spaced byte values: 1, 2 or 5 times a power of two's unit. */
function byteTicks(most, count) {
  const steps = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
  for (let unit = 1; ; unit *= 1024) {
    const step = steps.find((n) => most / (n * unit) <= count);
    if (step !== undefined) {
      return Array.from({ length: Math.floor(most / (step * unit)) + 1 }, (_, i) => i * step * unit);
    }
  }
}

function drawOffsets(pen, frame) {
  const ticks = arenaView.scale === "linear" ? byteTicks(plan.arena, 8) : boundaries;
  pen.font = `11px ${FONT}`;
  pen.textAlign = "right";
  let last = Infinity;
  for (const offset of ticks) {
    const y = frame.y(offset);
    if (last - y < 15) continue;
    last = y;
    pen.fillStyle = colours.line;
    pen.fillRect(frame.left - 4, y, frame.right - frame.left + 4, 1);
    pen.fillStyle = colours.muted;
    pen.fillText(showBytes(offset), frame.left - 8, y + 4);
  }
  pen.save();
  pen.translate(12, (frame.top + frame.bottom) / 2);
  pen.rotate(-Math.PI / 2);
  pen.textAlign = "center";
  pen.fillStyle = colours.text;
  pen.fillText(arenaView.scale === "linear" ? "offset in the arena" : "offset (compressed)", 0, 0);
  pen.restore();
}

/** Step numbers, and below them the steps' layers. */
function drawSteps(pen, frame) {
  const first = Math.max(0, Math.floor(arenaView.from));
  const last = Math.min(columns, Math.ceil(arenaView.to));
  const apart = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].find((n) => n * frame.across >= 34) ?? 10000;
  pen.font = `11px ${FONT}`;
  pen.textAlign = "center";
  pen.fillStyle = colours.muted;
  for (let step = Math.ceil(first / apart) * apart; step < last; step += apart) {
    pen.fillText(String(step), frame.x(step + 0.5), frame.bottom + 14);
  }
  let room = frame.left;
  for (let step = first; step < last;) {
    let end = step;
    while (end < steps.length && layers[end] === layers[step]) end += 1;
    if (layers[step] !== null) room = drawLayer(pen, frame, step, end, room);
    step = Math.max(end, step + 1);
  }
  pen.fillStyle = colours.text;
  pen.textAlign = "left";
  pen.fillText("step", 12, frame.bottom + 14);
  pen.fillText("layer", 12, frame.bottom + 34);
}

/** One layer's range of steps. Its name is written only from `room` on; returns the end of the occupied room. */
function drawLayer(pen, frame, step, end, room) {
  let first = step;
  while (first > 0 && layers[first - 1] === layers[step]) first -= 1;
  const [x0, x1] = [Math.max(frame.left, frame.x(first)), Math.min(frame.right, frame.x(end))];
  pen.fillStyle = colours.faint;
  pen.fillRect(x0 + 0.5, frame.bottom + 21, x1 - x0 - 1, 18);
  pen.fillStyle = colours.text;
  const short = layers[step].slice(layers[step].lastIndexOf(".") + 1);
  const text = pen.measureText(layers[step]).width <= x1 - x0 - 2 ? layers[step] : short;
  const left = (x0 + x1 - pen.measureText(text).width) / 2;
  if (left < room) return room;
  pen.fillText(text, (x0 + x1) / 2, frame.bottom + 34);
  return left + pen.measureText(text).width + 6;
}

/** A name in a box, rotated if it only fits that way. */
function drawBoxName(pen, life, x, y, width, height) {
  pen.fillStyle = colours.text;
  pen.font = `11px ${FONT}`;
  pen.textAlign = "left";
  // The layer is written below the plot.
  const layer = life.input === null ? layers[life.first] : null;
  const own = layer !== null && life.name.startsWith(layer + ".") ? life.name.slice(layer.length + 1) : life.name;
  const name = life.kind === "scratch" ? `scratch of ${own}` : own;
  if (height >= 13 && width >= 34) {
    const sticky = Math.max(x, PLOT.left);
    pen.fillText(fitted(pen, name, x + width - sticky - 8), sticky + 4, y + height / 2 + 4);
  } else if (width >= 12 && height >= 50) {
    pen.save();
    pen.translate(x + width / 2 + 4, y + height - 5);
    pen.rotate(-Math.PI / 2);
    pen.fillText(fitted(pen, name, height - 10), 0, 0);
    pen.restore();
  }
}

function lifeRectangle(frame, life, i) {
  const { from, to } = boxOf(life, i);
  const [x, y] = [frame.x(from), frame.y(life.offset + align(life.bytes))];
  return [x, y, frame.x(to) - x, Math.max(1, frame.y(life.offset) - y)];
}

function drawLife(pen, frame, life, i) {
  const [x, y, width, height] = lifeRectangle(frame, life, i);
  if (x > frame.right || x + width < frame.left) return;
  const key = lifeKey(life);
  pen.globalAlpha = isDim(key) ? 0.2 : 1;
  pen.fillStyle = isMatch(key) ? colours.match : colours[life.kind];
  const inner = width > 3 ? 0.5 : 0;
  pen.fillRect(x + inner, y + (height > 3 ? 0.5 : 0), Math.max(1, width - 2 * inner), Math.max(1, height - (height > 3 ? 1 : 0)));
  if (key === selected || (isHolder.has(i) && width > 3 && height > 5)) {
    pen.lineWidth = key === selected ? 3 : 1.8;
    pen.strokeStyle = key === selected ? colours.accent : colours.peak;
    pen.strokeRect(x + 1, y + 1, Math.max(1, width - 2), Math.max(1, height - 2));
  }
  drawBoxName(pen, life, x, y, width, height);
  pen.globalAlpha = 1;
}

function drawCurve(pen, frame) {
  const height = frame.curveBottom - frame.curveTop;
  const y = (n) => frame.curveBottom - (n / Math.max(1, plan.arena)) * height;
  pen.fillStyle = colours.faint;
  pen.strokeStyle = colours.muted;
  pen.lineWidth = 1.2;
  pen.beginPath();
  pen.moveTo(frame.x(0), frame.curveBottom);
  alive.forEach((n, step) => {
    pen.lineTo(frame.x(step), y(n));
    pen.lineTo(frame.x(step + 1), y(n));
  });
  pen.lineTo(frame.x(alive.length), frame.curveBottom);
  pen.fill();
  pen.stroke();
}

/** The peak's column across curve and boxes, with its size. */
function drawPeak(pen, frame) {
  const [x0, x1] = [frame.x(peakStep), frame.x(peakStep + 1)];
  if (x1 < frame.left || x0 > frame.right) return;
  pen.globalAlpha = 0.16;
  pen.fillStyle = colours.peak;
  pen.fillRect(x0, frame.curveTop, Math.max(2, x1 - x0), frame.bottom - frame.curveTop);
  pen.globalAlpha = 1;
  pen.strokeStyle = colours.peak;
  pen.lineWidth = 1.5;
  pen.setLineDash([5, 3]);
  pen.strokeRect(x0, frame.curveTop, Math.max(2, x1 - x0), frame.bottom - frame.curveTop);
  pen.setLineDash([]);
}

function drawPeakWords(pen, frame) {
  pen.font = `600 12px ${FONT}`;
  pen.fillStyle = colours.peak;
  const at = frame.x(peakStep + 0.5);
  const arrows = at < frame.left ? ["← ", ""] : at > frame.right ? ["", " →"] : ["", ""];
  const words = arrows.join(`peak: ${showBytes(most)} at step ${peakStep}`);
  const x = Math.min(Math.max(at, frame.left), frame.right);
  pen.textAlign = x - frame.left < 110 ? "left" : frame.right - x < 110 ? "right" : "center";
  pen.fillText(words, x, PLOT.top - 8);
  pen.font = `11px ${FONT}`;
  pen.fillStyle = colours.muted;
  pen.textAlign = "right";
  pen.fillText(showBytes(plan.arena), frame.left - 8, frame.curveTop + 8);
  pen.fillText("0 B", frame.left - 8, frame.curveBottom);
  pen.save();
  pen.translate(12, (frame.curveTop + frame.curveBottom) / 2);
  pen.rotate(-Math.PI / 2);
  pen.textAlign = "center";
  pen.fillStyle = colours.text;
  pen.fillText("bytes alive", 0, 0);
  pen.restore();
}

function drawArena(pen, width, height) {
  const frame = arenaFrame(width, height);
  drawOffsets(pen, frame);
  pen.save();
  pen.beginPath();
  pen.rect(frame.left, 0, frame.right - frame.left, height);
  pen.clip();
  drawCurve(pen, frame);
  lives.forEach((life, i) => drawLife(pen, frame, life, i));
  drawPeak(pen, frame);
  pen.restore();
  drawSteps(pen, frame);
  drawPeakWords(pen, frame);
}

/** The life under a point, topmost first. */
function lifeAt(px, py) {
  const canvas = byId("arena");
  const frame = arenaFrame(canvas.clientWidth, canvas.clientHeight);
  for (let i = lives.length - 1; i >= 0; i -= 1) {
    const [x, y, width, height] = lifeRectangle(frame, lives[i], i);
    if (px >= x && px <= x + width && py >= y && py <= y + height) return lives[i];
  }
  return null;
}

function lifeWords(life) {
  const until = life.last === life.first ? `step ${life.first}` : `steps ${life.first} to ${life.last}`;
  const what = life.kind === "scratch" ? `scratch of ${life.name}` : `${life.name} (${life.kind === "value" ? "intermediate" : life.kind})`;
  return `${what}\n${showBytes(life.bytes)} at ${life.offset} to ${life.offset + life.bytes}\n${until}`;
}

function showPeak() {
  const line = byId("peak");
  const others = alive.filter((n) => n === most).length - 1;
  const again = others > 0 ? ` (and at ${others} more ${others === 1 ? "step" : "steps"})` : "";
  line.append(`The peak is ${showBytes(most)} at step ${peakStep}${again}; the arena has ${showBytes(plan.arena)}. Alive then: `);
  holders.forEach(([life], i) => {
    const entry = element("a", life.kind === "scratch" ? `scratch of ${life.name}` : life.name);
    entry.addEventListener("click", () => select(lifeKey(life)));
    line.append(i === 0 ? "" : ", ", entry, ` ${showBytes(life.bytes)}`);
  });
  line.append(".");
}

function zoomArena(factor, px) {
  const canvas = byId("arena");
  const frame = arenaFrame(canvas.clientWidth, canvas.clientHeight);
  const at = arenaView.from + ((px ?? (frame.left + frame.right) / 2) - frame.left) / frame.across;
  const span = Math.min(columns, Math.max(Math.min(4, columns), (arenaView.to - arenaView.from) / factor));
  const share = (at - arenaView.from) / (arenaView.to - arenaView.from);
  moveArena(at - share * span, span);
}
function moveArena(from, span) {
  arenaView.from = Math.min(Math.max(0, from), columns - span);
  arenaView.to = arenaView.from + span;
}

function startArena() {
  const canvas = byId("arena");
  const redraw = surface(canvas, drawArena);
  const plotHeight = canvas.clientHeight - PLOT.top - PLOT.curve - 14 - PLOT.bottom;
  const thin = lives.filter((life) => (life.bytes / Math.max(1, plan.arena)) * plotHeight < THIN).length;
  arenaView.scale = thin > lives.length * 0.4 ? "compressed" : "linear";
  byId("arena-scale").value = arenaView.scale;
  byId("arena-scale").addEventListener("change", (event) => {
    arenaView.scale = event.target.value;
    redraw();
  });
  const span = () => arenaView.to - arenaView.from;
  drags(canvas, (dx) => {
    moveArena(arenaView.from - dx / arenaFrame(canvas.clientWidth, canvas.clientHeight).across, span());
    redraw();
  }, (x, y) => {
    const life = lifeAt(x, y);
    select(life === null ? null : lifeKey(life));
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoomArena(Math.exp(-event.deltaY / 300), event.offsetX);
    redraw();
  }, { passive: false });
  tips(canvas, (x, y) => {
    const life = lifeAt(x, y);
    return life === null ? null : lifeWords(life);
  });
  const button = (id, action) => byId(id).addEventListener("click", () => { action(); redraw(); });
  button("arena-in", () => zoomArena(1.6));
  button("arena-out", () => zoomArena(1 / 1.6));
  button("arena-fit", () => moveArena(0, columns));
  onChange((moved) => {
    const life = lives.find((life) => lifeKey(life) === selected);
    const { across } = arenaFrame(canvas.clientWidth, canvas.clientHeight);
    if (moved && life !== undefined && across < NARROW) {
      moveArena(life.first - 30, Math.min(columns, 60));
    } else if (life !== undefined && (life.first >= arenaView.to || life.last < arenaView.from)) {
      moveArena(life.first - span() / 2, span());
    }
    redraw();
  });
  legend("arena-legend", [["input", "input"], ["value", "intermediate"], ["output", "output"], ["scratch", "scratch"],
    ["peak", "alive at the peak", true]]);
  showPeak();
}
