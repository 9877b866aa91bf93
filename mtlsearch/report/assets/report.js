// The leaderboard and the charts of a report. All texts of the experiment's reach the page as text nodes only.
const data = JSON.parse(document.getElementById("data").textContent);

/** Columns → rows. A column is a list, {same: value}, or {of: values, index: positions}. */
function rowsOf({ length, columns }) {
  const names = Object.keys(columns);
  const read = names.map((name) => {
    const column = columns[name];
    if (Array.isArray(column)) return (i) => column[i];
    if ("same" in column) return () => column.same;
    return (i) => column.of[column.index[i]];
  });
  return Array.from({ length }, (_, i) => Object.fromEntries(names.map((name, j) => [name, read[j](i)])));
}

const tables = new Map();
function table(name) {
  if (!tables.has(name)) tables.set(name, rowsOf(data.tables[name]));
  return tables.get(name);
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function written(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(4)));
}

// ---- Charts

const LARGE = 400; // trials from which charts are drawn on a canvas
const views = new Map();

function colours() {
  const of = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dark = document.documentElement.dataset.theme === "dark";
  const [ink, soft, line, grid] = ["--ink", "--soft", "--line", "--grid"].map(of);
  return {
    background: "transparent",
    view: { stroke: line },
    axis: { labelColor: soft, titleColor: ink, gridColor: grid, domainColor: line, tickColor: line },
    legend: { labelColor: ink, titleColor: ink, orient: innerWidth < 700 ? "bottom" : "right", columns: innerWidth < 700 ? 2 : 1,
      gradientLength: innerWidth < 700 ? 160 : 120 },
    title: { color: ink, anchor: "start", fontSize: 13, limit: Math.max(240, innerWidth - 60) },
    text: { color: ink },
    range: { ramp: { scheme: "cividis", extent: dark ? [0.25, 1] : [0.9, 0] } },
  };
}

async function draw(place) {
  const { name } = place.dataset;
  const { spec, least, uses } = data.charts[name];
  const inner = make("div", { style: `min-width:${least}px` });
  const before = views.get(name);
  views.set(name, "drawing");
  const datasets = Object.fromEntries(uses.map((used) => [used, table(used).map((row) => ({ ...row }))]));
  place.replaceChildren(inner);
  const result = await window.vegaEmbed(inner, { ...spec, width: "container", datasets }, {
    actions: false,
    renderer: data.tables.trials.length > LARGE ? "canvas" : "svg",
    config: colours(),
    tooltip: { theme: "custom", disableDefaultStyle: true },
    ast: false,
  });
  const bindings = inner.querySelector(".vega-bindings");
  if (bindings) inner.prepend(bindings);
  if (before && before !== "drawing") before.finalize();
  views.set(name, result);
  place.dataset.drawn = "yes";
}

const places = [...document.querySelectorAll(".chart[data-name]")];
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting && !views.has(target.dataset.name)) draw(target);
  }
}, { rootMargin: "900px" });
places.forEach((place) => seen.observe(place));
addEventListener("beforeprint", () => places.filter((place) => !views.has(place.dataset.name)).forEach(draw));

document.getElementById("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try { localStorage.setItem("mtlsearch-theme", theme); } catch (refused) { /* then it holds for this page only */ }
  places.filter((place) => views.has(place.dataset.name)).forEach(draw);
});

// ---- Leaderboard

const board = data.board && rowsOf(data.board.rows);
const state = { by: null, down: false, open: new Set() };

function order(rows) {
  if (state.by === null) return rows;
  const sign = state.down ? -1 : 1;
  const worth = (row) => row[state.by];
  return rows.slice().sort((one, other) => {
    const [a, b] = [worth(one), worth(other)];
    if (a === null || b === null) return (a === null) - (b === null); // nothing comes last, both ways
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
  });
}

function belongs(row, wanted) {
  if (wanted === "all" || row.role === wanted) return true;
  return row.role === "trial" && row.state === wanted;
}

function chosen() {
  const words = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = document.getElementById("states").value;
  return board.filter((row) => {
    if (!belongs(row, wanted)) return false;
    const text = Object.values(row).filter((value) => value !== null).join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

function fill() {
  const rows = order(chosen());
  document.getElementById("count").textContent = `${rows.length} of ${board.length}`;
  document.querySelectorAll("#board th").forEach((head) => {
    const sorted = head.dataset.name === state.by && state.by !== null;
    if (sorted) head.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
  document.querySelector("#board tbody").replaceChildren(...rows.flatMap((row) =>
    state.open.has(row.trial) ? [line(row), detail(row)] : [line(row)]));
  if (!rows.length) {
    const empty = make("td", { class: "text empty", colspan: data.board.columns.length + 1 }, "No trial is like this.");
    document.querySelector("#board tbody").append(make("tr", {}, empty));
  }
}

function toggle(trial) {
  if (!state.open.delete(trial)) state.open.add(trial);
  fill();
  document.querySelector(`#board button[data-trial="${trial}"]`)?.focus();
}

function line(row) {
  const opened = state.open.has(row.trial);
  const button = make("button", { type: "button", class: "open", "data-trial": row.trial, "aria-expanded": opened,
    "aria-label": `trial ${row.trial}` }, opened ? "−" : "+");
  const cells = data.board.columns.map(({ name, text }) =>
    make("td", text ? { class: "text" } : {}, written(row[name])));
  return make("tr", { class: "trial", "data-trial": row.trial, onclick: () => toggle(row.trial) },
    make("td", { class: "text" }, button), ...cells);
}

function pairs(entries) {
  return make("dl", { class: "facts" }, ...entries.flatMap(([name, value]) =>
    [make("dt", {}, name), make("dd", {}, written(value))]));
}

function scores(row) {
  const tasks = data.board.scores.filter(({ names }) => names.some((name) => row[name] != null || row[`test/${name}`] != null));
  const head = ["metric", "validation", "test"].map((name, i) => make("th", i ? {} : { class: "text" }, name));
  return make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...tasks.flatMap(({ names }) =>
    names.map((name) => make("tr", {}, make("td", { class: "text" }, ...breakable(name)), make("td", {}, written(row[name] ?? null)),
      make("td", {}, written(row[`test/${name}`] ?? null)))))));
}

function spark(title, points) {
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [low, high, first, last] = [Math.min(...ys), Math.max(...ys), Math.min(...xs), Math.max(...xs)];
  const place = ([x, y]) => [4 + 142 * (last > first ? (x - first) / (last - first) : 0.5),
    48 - 42 * (high > low ? (y - low) / (high - low) : 0.5)];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 150 54");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${title}: ` + points.map(([x, y]) => `${x}: ${written(y)}`).join(", "));
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", points.map((point, i) => (i ? "L" : "M") + place(point).join(" ")).join(""));
  svg.append(path);
  for (const point of points) {
    const circle = document.createElementNS(svg.namespaceURI, "circle");
    const [x, y] = place(point);
    circle.setAttribute("cx", x);
    circle.setAttribute("cy", y);
    circle.setAttribute("r", 2);
    svg.append(circle);
  }
  return make("figure", { class: "spark" }, svg,
    make("figcaption", {}, `${title}: ${written(ys[0])} → ${written(ys[ys.length - 1])}`));
}

function detail(row) {
  const epochs = table("epochs").filter(({ trial }) => trial === row.trial);
  const sparks = [["objective", "objective"], ...data.tasks.map((name, i) => [name, `s${i}`])]
    .map(([title, column]) => [title, epochs.filter((epoch) => epoch[column] !== null).map((epoch) => [epoch.epoch, epoch[column]])])
    .filter(([, points]) => points.length)
    .map(([title, points]) => spark(title, points));
  const own = data.board.parameters.filter((name) => row[name] !== null).map((name) => [name, row[name]]);
  const model = [["parameters", row.num_parameters], ["multiply-adds a row", row.multiply_adds]].filter(([, value]) => value !== null);
  const block = (title, ...content) => make("div", {}, make("h3", {}, title), ...content);
  return make("tr", { class: "detail" }, make("td", { colspan: data.board.columns.length + 1 }, make("div", { class: "opened" },
    block(`Trial ${row.trial}: ${row.state}`, make("p", {}, row.reason || "no reason is given"), pairs(model), scores(row)),
    block("Parameters", pairs(own)),
    block("Epochs", sparks.length ? make("div", { class: "sparks" }, ...sparks) : make("p", { class: "empty" }, "It has finished no epoch.")))));
}

/** A long name may be broken behind its signs, not within a word. */
function breakable(text) {
  return text.split(/(?<=[_./ -])/).flatMap((piece) => [piece, make("wbr")]);
}

function head({ name, label, text }) {
  const sort = () => {
    const first = !text && name !== "trial" && name !== "rank"; // of numbers, the largest first
    [state.by, state.down] = state.by === name ? [name, !state.down] : [name, first];
    fill();
  };
  return make("th", { scope: "col", "data-name": name, ...(text ? { class: "text" } : {}) },
    make("button", { type: "button", onclick: sort }, ...breakable(label)));
}

if (board) {
  document.querySelector("#board thead").append(make("tr", {}, make("th", {}), ...data.board.columns.map(head)));
  document.getElementById("filter").addEventListener("input", fill);
  document.getElementById("states").addEventListener("change", fill);
  fill();
}
document.documentElement.dataset.ready = "yes";
