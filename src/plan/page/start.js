// Assembles the page. The address can set its state: #q=TEXT searches, #select=KEY selects, #theme=dark.

function applyTheme(theme) {
  if (theme !== null) document.documentElement.dataset.theme = theme;
  readColours();
  tell(false);
}

function start() {
  const { device } = plan;
  const target = device.target;
  document.title = `${data.title}: rfgraph plan`;
  byId("title").textContent = data.title;
  byId("device").textContent = target === undefined
    ? `plan for ${device.executor}, ${device.threads} threads`
    : `plan for ${device.executor}, ${target.arch} (${target.platform})`;
  const wanted = new URLSearchParams(location.hash.slice(1));
  fillTotals();
  fillTables();
  applyTheme(wanted.get("theme"));
  startArena();
  startGraph();
  onChange(markRows);
  onChange(details);
  onChange(() => {
    const count = (letter) => [...matches].filter((key) => key[0] === letter).length;
    byId("found").textContent = query === "" ? "" : `${count("s")} steps, ${matches.size - count("s")} others`;
  });
  byId("search").addEventListener("input", (event) => search(event.target.value));
  byId("search").addEventListener("keydown", (event) => {
    const first = [...matches].find((key) => key[0] === "s") ?? [...matches][0];
    if (event.key === "Enter" && first !== undefined) select(first);
  });
  byId("theme").addEventListener("click", () => {
    const now = document.documentElement.dataset.theme;
    const dark = now === "dark" || (now === undefined && matchMedia("(prefers-color-scheme: dark)").matches);
    applyTheme(dark ? "light" : "dark");
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => applyTheme(null));
  byId("search").value = wanted.get("q") ?? "";
  search(byId("search").value);
  const key = wanted.get("select");
  select(allKeys.includes(key) ? key : null);
}
start();
