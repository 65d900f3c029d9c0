// Layout of a layered drawing: ranks from top to bottom, an order within each rank with few edge crossings
// (barycentres, after Sugiyama, Tagawa and Toda, 1981), and x positions as close to the neighbours as the order allows.

/** Edges over more ranks than this are drawn straight: reserving room in every rank would cost more than it shows. */
const LONGEST = 24;

/** Ranks of all nodes: each below its sources, inputs just above their first reader. */
function ranksOf(keys, edges) {
  const sources = new Map(keys.map((key) => [key, []]));
  const readers = new Map(keys.map((key) => [key, []]));
  for (const [from, to] of edges) {
    sources.get(to).push(from);
    readers.get(from).push(to);
  }
  const ranks = new Map();
  for (const key of keys) ranks.set(key, 1 + Math.max(-1, ...sources.get(key).map((from) => ranks.get(from))));
  // A node without sources among the steps moves down to its readers.
  for (const key of [...keys].reverse()) {
    const free = sources.get(key).every((from) => from[0] === "i");
    if (free && readers.get(key).length > 0) {
      ranks.set(key, Math.min(...readers.get(key).map((to) => ranks.get(to))) - 1);
    }
  }
  const least = Math.min(...ranks.values());
  for (const key of keys) ranks.set(key, ranks.get(key) - least);
  return ranks;
}

/** The positions nearest to `wanted`, weighted, that keep the order and the distances (isotonic regression). */
function spread(wanted, weights, widths, gap) {
  const offsets = [];
  let offset = 0;
  widths.forEach((width, i) => {
    if (i > 0) offset += (widths[i - 1] + width) / 2 + gap;
    offsets.push(offset);
  });
  const pools = [];
  wanted.forEach((x, i) => {
    pools.push({ sum: (x - offsets[i]) * weights[i], weight: weights[i], count: 1 });
    while (pools.length > 1) {
      const [before, last] = pools.slice(-2);
      if (before.sum / before.weight <= last.sum / last.weight) break;
      pools.splice(-2, 2, {
        sum: before.sum + last.sum, weight: before.weight + last.weight, count: before.count + last.count,
      });
    }
  });
  const flat = pools.flatMap(({ sum, weight, count }) => Array(count).fill(sum / weight));
  return flat.map((x, i) => x + offsets[i]);
}

/** Lays out nodes (in an order with readers after their sources) and edges; returns positions and edge points. */
function layered(nodes, edges, size) {
  const ranks = ranksOf(nodes, edges);
  const rows = [];
  const cells = new Map();
  const add = (rank, key, width) => {
    const cell = { key, rank, width, up: [], down: [], x: 0 };
    while (rows.length <= rank) rows.push([]);
    rows[rank].push(cell);
    return cell;
  };
  for (const key of nodes) cells.set(key, add(ranks.get(key), key, size.width));
  const routes = edges.map(([from, to]) => {
    const [first, last] = [cells.get(from), cells.get(to)];
    const route = [first];
    if (last.rank - first.rank <= LONGEST) {
      for (let rank = first.rank + 1; rank < last.rank; rank += 1) route.push(add(rank, null, size.channel));
      route.push(last);
      route.slice(1).forEach((cell, i) => {
        route[i].down.push(cell);
        cell.up.push(route[i]);
      });
    } else {
      route.push(last);
    }
    return { from, to, route };
  });
  orderRows(rows);
  placeRows(rows, size.gap);
  rows.forEach((row, rank) => row.forEach((cell) => { cell.y = rank * (size.height + size.between); }));
  return { cells, routes, rows };
}

/** Orders each row by the mean position of its neighbours in the adjacent row, alternating down and up. */
function orderRows(rows) {
  const renumber = (row) => row.forEach((cell, i) => { cell.at = i; });
  rows.forEach(renumber);
  const mean = (cells, otherwise) =>
    cells.length === 0 ? otherwise : cells.reduce((sum, cell) => sum + cell.at, 0) / cells.length;
  for (let pass = 0; pass < 8; pass += 1) {
    const side = pass % 2 === 0 ? "up" : "down";
    for (const row of pass % 2 === 0 ? rows : [...rows].reverse()) {
      row.forEach((cell) => { cell.wish = mean(cell[side], cell.at); });
      row.sort((a, b) => a.wish - b.wish || a.at - b.at);
      renumber(row);
    }
  }
}

/** Moves each row's cells to the mean x of their neighbours, as far as their order allows. Long edges weigh more, so
 * that they run straight. */
function placeRows(rows, gap) {
  const isEdge = (cell) => cell.key === null;
  const settle = (row, sides) => {
    const wanted = row.map((cell) => {
      const near = sides.flatMap((side) => cell[side]);
      const pull = (other) => (isEdge(cell) && isEdge(other) ? 8 : 1);
      const sum = near.reduce((sum, other) => sum + pull(other), 0);
      return near.length === 0 ? cell.x : near.reduce((mean, other) => mean + (other.x * pull(other)) / sum, 0);
    });
    const weights = row.map((cell) => (isEdge(cell) ? 6 : 1));
    spread(wanted, weights, row.map((cell) => cell.width), gap).forEach((x, i) => { row[i].x = x; });
  };
  rows.forEach((row) => settle(row, []));
  for (let pass = 0; pass < 24; pass += 1) {
    if (pass % 2 === 0) rows.forEach((row) => settle(row, pass < 8 ? ["up"] : ["up", "down"]));
    else [...rows].reverse().forEach((row) => settle(row, pass < 8 ? ["down"] : ["up", "down"]));
  }
}
