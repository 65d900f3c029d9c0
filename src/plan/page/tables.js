// The tables, the totals and the details panel of the selection.

const rowsOf = new Map();

/** Fills a table: heads (a leading # for numbers), then rows with a key and cells. */
function table(id, heads, rows) {
  const head = element("tr");
  heads.forEach((text) => {
    head.append(element("th", text.replace(/^#/, ""), text.startsWith("#") ? { class: "number" } : {}));
  });
  const body = element("tbody");
  for (const [key, cells] of rows) {
    const row = element("tr");
    cells.forEach((cell, i) => {
      const made = element("td", undefined, heads[i].startsWith("#") ? { class: "number" } : {});
      made.append(...[cell].flat());
      row.append(made);
    });
    if (key !== null) {
      rowsOf.set(key, [...(rowsOf.get(key) ?? []), row]);
      row.addEventListener("click", () => select(key));
    }
    body.append(row);
  }
  byId(id).append(element("thead"), body);
  byId(id).firstChild.append(head);
}

/** A link that selects a thing. */
function anchor(key, text = nameOf(key)) {
  const made = element("a", text);
  made.addEventListener("click", (event) => {
    event.stopPropagation();
    select(key);
  });
  return made;
}
const listed = (parts) => parts.flatMap((part, i) => (i === 0 ? [part] : [", ", part]));

const waitsOf = new Map();
for (const edge of plan.edges) {
  const to = keyOf(edge.to);
  waitsOf.set(to, [...(waitsOf.get(to) ?? []), edge]);
}
const pointWords = (key) => ({ i: "upload of ", o: "download of ", s: `step ${key.slice(1)} ` })[key[0]];
function waitParts(edge) {
  const from = keyOf(edge.from);
  return [pointWords(from), anchor(from), edge.across_runs ? " of the run before" : ""];
}

function stepRow(step, i) {
  const reads = [...new Set(readsOf[i])].filter((key) => key !== null).map((key) => anchor(key));
  const { outputs } = step;
  const kernel = step.kernel === step.op ? step.op : `${step.op}: ${step.kernel}`;
  const waits = (waitsOf.get(`s${i}`) ?? []).filter((edge) => !edge.across_runs);
  return [`s${i}`, [String(i), step.name, kernel, outputs.map((output) => showDesc(output.desc)).join(", "),
    outputs.map(placeOf).join(", "), listed(reads), step.scratch === null ? "" : showBytes(step.scratch[1]),
    showBytes(step.cost.bytes), showFlops(step.cost.flops), listed(waits.map(waitParts)).flat()]];
}

function fillTables() {
  table("steps", ["#step", "name", "operator: kernel", "outputs", "at", "reads", "#scratch", "#bytes", "#flops", "waits for"],
    steps.map(stepRow));
  const slotRow = (letter, sizes) => (slot, i) => [letter + i, [String(i), slot.name, showDesc(slot.desc),
    showBytes(sizes[i]), listed(readersOf.get(letter + i).map((key) => anchor(key, `${numberOf(key)}`)))]];
  const stateRow = (slot, i) => {
    const [key, cells] = slotRow("t", bytes.states)(slot, i);
    return [key, [...cells.slice(0, 3), slot.kind, ...cells.slice(3)]];
  };
  table("states", ["#", "name", "shape", "kind", "#bytes", "steps"], plan.states.map(stateRow));
  table("weights", ["#", "name", "shape", "#bytes", "steps"], plan.weights.map(slotRow("w", bytes.weights)));
  const portRow = (letter) => (port, i) => [letter + i, [kinds[letter], port.name, showDesc(port.operand.desc),
    placeOf(port.operand)]];
  table("ports", ["", "name", "shape", "at"], [...plan.inputs.map(portRow("i")), ...plan.outputs.map(portRow("o")),
    ...slots.c.map((slot, i) => [`c${i}`, ["constant", slot.name, showDesc(slot.desc), showBytes(bytes.constants[i])]])]);
  table("waits", ["", "waits", "for"], plan.edges.map((edge) => {
    const to = keyOf(edge.to);
    return [null, [edge.across_runs ? "next run" : "", [pointWords(to), anchor(to)], waitParts(edge)]];
  }));
}

function fillTotals() {
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  const recurrent = plan.states.filter((state) => state.kind === "recurrent").length;
  const entries = [
    ["steps", String(steps.length)],
    [`${plan.weights.length} weights`, showBytes(sum(bytes.weights))],
    [`${plan.states.length} states${recurrent > 0 ? ` (${recurrent} recurrent)` : ""}`, showBytes(sum(bytes.states))],
    ["arena", showBytes(plan.arena)],
    ["most bytes alive", showBytes(plan.lower_bound)],
    ["moved by a run", showBytes(sum(steps.map((step) => step.cost.bytes)))],
    ["computed by a run", showFlops(sum(steps.map((step) => step.cost.flops)))],
  ];
  for (const [words, value] of entries) {
    const card = element("div");
    card.append(element("strong", value), element("span", words, { class: "muted" }));
    byId("totals").append(card);
  }
}

/** Pairs of names and values in the panel. */
function facts(panel, pairs) {
  const list = element("dl");
  for (const [name, value] of pairs) {
    if (value === "" || value === null) continue;
    const entry = element("dd");
    entry.append(...[value].flat());
    list.append(element("dt", name), entry);
  }
  panel.append(list);
}
function lines(panel, title, entries) {
  if (entries.length === 0) return;
  const list = element("ul");
  entries.forEach((parts) => {
    const entry = element("li");
    entry.append(...parts);
    list.append(entry);
  });
  panel.append(element("h3", title), list);
}

function stepDetails(panel, key) {
  const i = numberOf(key);
  const step = steps[i];
  const [attributes, rates] = [Object.entries(step.attributes ?? {}), step.cost];
  facts(panel, [["step", `${i} of ${steps.length}`], ["layer", layers[i] ?? ""], ["operator", step.op],
    ["kernel", step.kernel === step.op ? "" : step.kernel],
    ...attributes.map(([name, value]) => [name, JSON.stringify(value)]),
    ["bytes", `${showBytes(rates.bytes)} (${rates.bytes})`], ["flops", `${showFlops(rates.flops)} (${rates.flops})`],
    ["scratch", step.scratch === null ? "" : `${showBytes(step.scratch[1])} @${step.scratch[0]}`]]);
  const operand = (read, from) => [from === null ? "?" : anchor(from, readName(read, from)), ` ${showDesc(read.desc)} ${keyOf(read.place) === null ? placeOf(read) : ""}`];
  lines(panel, "reads", step.inputs.map((read, j) => operand(read, readsOf[i][j])));
  lines(panel, "writes", step.outputs.map((output, j) => [`${outputName(step, j)} ${showDesc(output.desc)} in ${keyOf(output.place) === null ? "the arena " : ""}${placeOf(output)}`]));
}

function details() {
  const panel = byId("details");
  panel.replaceChildren();
  if (selected === null) {
    panel.append(element("h2", "Nothing selected"),
      element("p", "Click a box, a node or a row. Names lead from one to the next.", { class: "muted" }));
    return;
  }
  panel.append(element("h2", nameOf(selected)), element("span", kinds[selected[0]], { class: "muted" }));
  const thing = thingOf(selected);
  if (selected[0] === "s") stepDetails(panel, selected);
  else if ("io".includes(selected[0])) {
    facts(panel, [["shape", showDesc(thing.operand.desc)], ["at", placeOf(thing.operand)]]);
  } else {
    const sizes = { w: bytes.weights, t: bytes.states, c: bytes.constants }[selected[0]];
    facts(panel, [["shape", showDesc(thing.desc)], ["bytes", showBytes(sizes[numberOf(selected)])],
      ["kind", selected[0] === "t" ? thing.kind : ""]]);
  }
  const life = lives.find((life) => life.kind !== "scratch" && lifeKey(life) === selected);
  if (life !== undefined) facts(panel, [["alive", life.first === life.last ? `step ${life.first}` : `steps ${life.first} to ${life.last}`]]);
  lines(panel, selected[0] === "s" ? "read by" : "steps", readersOf.get(selected).map((key) => [anchor(key)]));
  lines(panel, "waits for", (waitsOf.get(selected) ?? []).map(waitParts));
}

function markRows(moved) {
  for (const [key, rows] of rowsOf) {
    rows.forEach((row) => {
      row.classList.toggle("selected", key === selected);
      row.classList.toggle("match", isMatch(key));
      row.classList.toggle("related", isRelated(key));
    });
  }
  const row = rowsOf.get(selected)?.[0];
  const frame = row?.closest(".scroll");
  // Scrolls only its own frame, not the page.
  if (moved && row !== undefined && frame !== null) {
    frame.scrollTop = row.offsetTop - frame.clientHeight / 2;
  }
}
