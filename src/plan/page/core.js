"use strict";
// The plan, the names of its parts, the selection and the search. All views use these, so that a found or selected name
// is marked everywhere.

const data = JSON.parse(document.getElementById("data").textContent);
const { plan, lives, alive, layers, bytes } = data;
const steps = plan.steps;
/** The font of canvases. */
const FONT = 'system-ui, "DejaVu Sans", sans-serif';

/** The element with this id. */
const byId = (id) => document.getElementById(id);

/** A new element. Text is always set as text: names come from untrusted files. */
function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** A number with a unit: 1.5 MiB, 393 kflop. */
function scaled(n, base, units) {
  let i = 0;
  while (n >= base && i < units.length - 1) {
    n /= base;
    i += 1;
  }
  return `${i === 0 ? n : n.toFixed(n < 10 ? 2 : n < 100 ? 1 : 0)} ${units[i]}`;
}
const showBytes = (n) => scaled(n, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
const showFlops = (n) => scaled(n, 1000, ["flop", "kflop", "Mflop", "Gflop", "Tflop"]);
const showDesc = (desc) => `${desc.dtype}[${desc.shape.join(", ")}]`;

/** The name of a step's output: further outputs append their number, as `h.1`. */
const outputName = (step, number) => (number > 0 ? `${step.name}.${number}` : step.name);

// A key identifies a thing: i0 an input, s0 a step, o0 an output, w0 a weight, t0 a state, c0 a constant.
const letters = { upload: "i", step: "s", download: "o", weight: "w", state: "t", constant: "c" };
/** The key of a point or a place in the plan's data: {"step": 3}. */
function keyOf(tagged) {
  if (tagged === null || typeof tagged === "string") return null;
  const [[kind, number]] = Object.entries(tagged);
  return letters[kind] + number;
}
const slots = { w: plan.weights, t: plan.states, c: plan.constants.map(([slot]) => slot) };
const things = { i: plan.inputs, s: steps, o: plan.outputs, ...slots };
const kinds = { i: "input", s: "step", o: "output", w: "weight", t: "state", c: "constant" };
const numberOf = (key) => Number(key.slice(1));
const thingOf = (key) => things[key[0]][numberOf(key)];
const nameOf = (key) => thingOf(key).name;
const allKeys = Object.entries(things).flatMap(([letter, list]) => list.map((_, i) => letter + i));

/** The place of an operand: an offset in the arena, or the thing's name. */
function placeOf(operand) {
  const key = keyOf(operand.place);
  if (key === null) return `@${operand.offset}`;
  return nameOf(key) + (operand.offset > 0 ? ` @${operand.offset}` : "");
}

/** The name of a value read from a step or an input. */
function readName(read, from) {
  if (from[0] !== "s") return nameOf(from);
  const step = thingOf(from);
  return outputName(step, step.outputs.findIndex((output) => output.value === read.value));
}

// For each step, the keys it reads: the writer of a value, or the leaf itself; and neighbours of all things, both ways.
const readsOf = steps.map((step, i) =>
  step.inputs.map((input, j) => keyOf(data.reads[i][j]) ?? keyOf(input.place)));
const readersOf = new Map(allKeys.map((key) => [key, []]));
const neighbours = new Map(allKeys.map((key) => [key, new Set()]));
function link(from, to) {
  if (from === null) return;
  if (!readersOf.get(from).includes(to)) readersOf.get(from).push(to);
  neighbours.get(from).add(to);
  neighbours.get(to).add(from);
}
steps.forEach((step, i) => {
  readsOf[i].forEach((from) => link(from, `s${i}`));
  // Readers of a written state are neighbours of the state, too.
  [...step.inputs, ...step.outputs].forEach((operand) => link(keyOf(operand.place), `s${i}`));
});
plan.outputs.forEach((_, i) => link(keyOf(data.results[i]), `o${i}`));

/** The text that is searched. */
function searchText(key) {
  if (key[0] === "t") return `${nameOf(key)}\n${thingOf(key).kind}`.toLowerCase();
  if (key[0] !== "s") return nameOf(key).toLowerCase();
  const i = numberOf(key);
  const leaves = readsOf[i].filter((read) => read !== null && "wtc".includes(read[0])).map(nameOf);
  return [...steps[i].outputs.map((_, j) => outputName(steps[i], j)), steps[i].op, steps[i].kernel, layers[i] ?? "", ...leaves].join("\n").toLowerCase();
}
const texts = new Map(allKeys.map((key) => [key, searchText(key)]));

// Selection, matches, and listeners.
let selected = null;
let query = "";
let matches = new Set();
const listeners = [];
const onChange = (listener) => listeners.push(listener);
const tell = (moved) => listeners.forEach((listener) => listener(moved));

/** Selects a thing, or nothing; `moved` makes views scroll to it. */
function select(key, moved = true) {
  selected = key;
  tell(moved);
}
function search(text) {
  query = text.trim().toLowerCase();
  matches = new Set(query === "" ? [] : allKeys.filter((key) => texts.get(key).includes(query)));
  tell(false);
}
const isMatch = (key) => matches.has(key);
const isRelated = (key) => selected !== null && neighbours.get(selected).has(key);
/** True if a thing is dimmed because it does not match the search. */
const isDim = (key) => query !== "" && !matches.has(key) && key !== selected;

/** A colour of the style sheet in the current theme. */
const probe = element("span", undefined, { hidden: "" });
document.body.append(probe);
function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}
const colourNames = ["card", "line", "faint", "text", "muted", "accent", "match", "input", "value", "output",
  "scratch", "state", "peak", "edge"];
let colours = {};
function readColours() {
  colours = Object.fromEntries(colourNames.map((name) => [name, colour(name)]));
}

/** A canvas that is redrawn, at most once a frame, when its size or content changes. */
function surface(canvas, draw) {
  let asked = false;
  const now = () => {
    asked = false;
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = canvas;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    draw(pen, width, height);
  };
  const redraw = () => {
    if (!asked) requestAnimationFrame(now);
    asked = true;
  };
  new ResizeObserver(redraw).observe(canvas);
  return redraw;
}

/** Handles dragging, and clicks without dragging. */
function drags(canvas, onDrag, onClick) {
  let last = null;
  let moved = false;
  canvas.addEventListener("pointerdown", (event) => {
    last = [event.clientX, event.clientY];
    moved = false;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (last === null) return;
    const [dx, dy] = [event.clientX - last[0], event.clientY - last[1]];
    if (!moved && Math.hypot(dx, dy) < 4) return;
    moved = true;
    last = [event.clientX, event.clientY];
    onDrag(dx, dy);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (last !== null && !moved) onClick(event.offsetX, event.offsetY);
    last = null;
  });
}

/** A tooltip at the pointer; `text` returns nothing where there is none. */
function tips(canvas, text) {
  const tip = byId("tip");
  canvas.addEventListener("pointermove", (event) => {
    const words = text(event.offsetX, event.offsetY);
    tip.hidden = words === null;
    if (words === null) return;
    tip.textContent = words;
    tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 8)}px`;
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
}

/** The longest prefix of a text that fits. */
function fitted(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (pen.measureText(text.slice(0, middle) + "…").width <= width) low = middle;
    else high = middle - 1;
  }
  return low === 0 ? "" : text.slice(0, low) + "…";
}

/** Fills a legend with pairs of a colour's name and a text. */
function legend(id, entries) {
  for (const [name, words, outlined] of entries) {
    const sample = element("i");
    if (outlined) sample.style.borderColor = `var(--${name})`;
    else sample.style.background = `var(--${name})`;
    const entry = element("span");
    entry.append(sample, words);
    byId(id).append(entry);
  }
}
