// The page's own script: filters, pictures, tables. Nothing is loaded from anywhere.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const { cube, queries, queues, specs } = data;
const at = Object.fromEntries(cube.dimensions.map((name, index) => [name, index]));
const $ = (id) => document.getElementById(id);
const MOST = 12;
const ROWS = 100;
const REST = "(others)";
const NONE = "not known";

for (const group of cube.groups) {
  let bucket = 0;
  group.b = group.b.map((step) => (bucket += step));
}

const last = cube.origin + cube.count * cube.width;
const state = { from: cube.origin, to: last, cause: "", process: "", dimension: "process" };
const views = {};

// --- counting ---------------------------------------------------------------------------------

const number = (value) => value.toLocaleString("en-US");
const seconds = (ms) => (ms - data.zero) / 1000;
const shortSeconds = (ms) => `${ms < data.zero ? "" : "+"}${Number(seconds(ms).toFixed(3))} s`;
const clock = (ms) => new Date(ms).toISOString().slice(11, cube.width < 1000 ? 23 : 19);
const causeOf = (group) => `${group.d[at.kind]}: ${group.d[at.cause] ?? "no cause given"}`;
const named = (value) => (value === null || value === "" ? NONE : String(value));

function wanted(group) {
  return (
    (!state.cause || causeOf(group) === state.cause) &&
    (!state.process || named(group.d[at.process]) === state.process)
  );
}

// A bucket counts when its middle is in the chosen time.
function inRange(bucket) {
  const middle = cube.origin + (bucket + 0.5) * cube.width;
  return middle >= state.from && middle <= state.to;
}

// Adds up events by a key; returns a Map from key to {events, kinds, causes, first, last, group}.
function tally(keyOf, limited) {
  const found = new Map();
  for (const group of cube.groups) {
    if (!wanted(group)) continue;
    const key = keyOf(group);
    group.b.forEach((bucket, i) => {
      if (limited && !inRange(bucket)) return;
      let entry = found.get(key);
      if (!entry) {
        entry = { key, events: 0, kinds: {}, causes: {}, first: bucket, last: bucket, group };
        found.set(key, entry);
      }
      entry.events += group.n[i];
      const kind = group.d[at.kind];
      entry.kinds[kind] = (entry.kinds[kind] ?? 0) + group.n[i];
      const cause = causeOf(group);
      entry.causes[cause] = (entry.causes[cause] ?? 0) + group.n[i];
      entry.first = Math.min(entry.first, bucket);
      entry.last = Math.max(entry.last, bucket);
    });
  }
  return [...found.values()].sort((a, b) => b.events - a.events || (a.key < b.key ? -1 : 1));
}

function bars(labelOf, order) {
  const sums = new Map();
  for (const group of cube.groups) {
    if (!wanted(group)) continue;
    const label = labelOf(group);
    const kind = group.d[at.kind];
    group.b.forEach((bucket, i) => {
      const key = `${label}\n${kind}\n${bucket}`;
      const row = sums.get(key);
      if (row) row.events += group.n[i];
      else sums.set(key, { label, kind, bucket, events: group.n[i] });
    });
  }
  const tops = new Map();
  const ordered = [...sums.values()].sort((a, b) => (a.kind < b.kind ? -1 : 1));
  return ordered.map((row) => {
    const place = `${row.label}\n${row.bucket}`;
    const low = tops.get(place) ?? 0;
    const high = low + row.events;
    tops.set(place, high);
    const start = cube.origin + row.bucket * cube.width;
    const when = `${clock(start)} UTC (${shortSeconds(start)})`;
    const end = start + cube.width;
    return { ...row, low, high, start, end, when, order: order?.get(row.label) ?? 0 };
  });
}

// --- rows of each picture ---------------------------------------------------------------------

const rows = {
  overview: () => bars(() => ""),
  causes() {
    const first = tally(causeOf, false).slice(0, MOST - 1).map((entry) => entry.key);
    const order = new Map(first.map((label, i) => [label, i]));
    order.set(REST, MOST);
    return bars((group) => (order.has(causeOf(group)) ? causeOf(group) : REST), order);
  },
  ranking() {
    const index = at[state.dimension];
    const shown = [];
    tally((group) => named(group.d[index]), true).slice(0, MOST).forEach((entry, order) => {
      for (const [kind, events] of Object.entries(entry.kinds)) {
        shown.push({ value: entry.key, kind, events, order });
      }
    });
    return shown;
  },
  queues() {
    return queues.flatMap((listener, order) =>
      listener.points.map((point) => {
        const ms = cube.origin + point[0] * cube.width;
        const when = `${clock(ms)} UTC (${shortSeconds(ms)})`;
        const [, waiting, backlog, syn_queue] = point;
        return { label: listener.label, order, at: ms, when, waiting, backlog, syn_queue };
      }),
    );
  },
};

function fillWho() {
  const body = document.querySelector("#who tbody");
  const parts = ["process", "pid", "container", "port", "namespace", "device"];
  const found = tally((group) => parts.map((name) => group.d[at[name]] ?? "").join("\n"), true);
  body.replaceChildren();
  for (const entry of found.slice(0, ROWS)) {
    const line = body.insertRow();
    const put = (shown, sort) => {
      const cell = line.insertCell();
      cell.textContent = shown;
      if (sort !== undefined) {
        cell.className = "number";
        cell.dataset.sort = sort;
      }
    };
    for (const name of parts) {
      const value = entry.group.d[at[name]];
      put(value ?? "-", name === "pid" || name === "port" ? (Number(value) || 0) : undefined);
    }
    put(number(entry.events), entry.events);
    put(Object.entries(entry.causes).sort((a, b) => b[1] - a[1])[0][0]);
    const since = cube.origin + entry.first * cube.width;
    const until = cube.origin + (entry.last + 1) * cube.width;
    put(shortSeconds(since), since);
    put(shortSeconds(until), until);
  }
  resort($("who"));
}

// --- pictures ---------------------------------------------------------------------------------

const style = () => getComputedStyle(document.documentElement);
const color = (name) => style().getPropertyValue(`--${name}`).trim();

function themed(value) {
  if (typeof value === "string") return /^kind-\d$/.test(value) ? color(value) : value;
  if (Array.isArray(value)) return value.map(themed);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, themed(inner)]));
  }
  return value;
}

function config() {
  const text = { labelColor: color("soft"), titleColor: color("soft"), labelFontSize: 12 };
  const lines = { gridColor: color("line"), domainColor: color("line"), tickColor: color("line") };
  return {
    background: null,
    font: style().fontFamily,
    axis: { ...text, ...lines, titleFontWeight: "normal" },
    axisX: { grid: false },
    header: { labelColor: color("ink"), labelFontSize: 13, labelLimit: 0 },
    view: { stroke: color("line") },
  };
}

async function draw(name) {
  const place = $(name);
  if (!place) return;
  const width = place.clientWidth;
  const spec = themed(specs[name]);
  spec.datasets = { rows: rows[name]() };
  if (spec.spec) {
    spec.spec.width = Math.max(width - 56, 120);
    spec.config = { header: { labelLimit: width - 20 } };
  } else {
    spec.width = width;
    spec.autosize = { type: "fit-x", contains: "padding" };
    if (name === "ranking") spec.encoding.y.axis.labelLimit = Math.min(width * 0.4, 320);
  }
  views[name]?.finalize();
  place.replaceChildren();
  const made = await vegaEmbed(place, spec, {
    actions: false,
    ast: true,
    config: config(),
    defaultStyle: false,
    hover: true,
    logLevel: 1,
    loader: { load: () => Promise.reject(new Error("nothing is loaded")) },
    renderer: "svg",
    tooltip: { disableDefaultStyle: true },
  });
  const view = made.view;
  views[name] = made;
  place.dataset.width = width;
  if ("ticks" in spec || spec.params?.some((param) => param.name === "ticks")) {
    view.signal("ticks", Math.max(3, Math.floor(width / 130)));
  }
  if (name === "overview") {
    view.addSignalListener("brush", (_, value) => brushed(value.start));
  }
  await update(name);
}

async function update(name) {
  const view = views[name]?.view;
  if (!view) return;
  if (name === "causes" || name === "queues") {
    view.signal("shown_from", state.from).signal("shown_to", state.to);
  }
  const shown = rows[name]();
  if (name === "ranking") view.height(22 * Math.max(new Set(shown.map((row) => row.value)).size, 1));
  await view.data("rows", shown).runAsync();
  $(name).dataset.drawn = String(Number($(name).dataset.drawn ?? 0) + 1);
}

// --- filters ----------------------------------------------------------------------------------

let fromBrush = false;

function brushed(range) {
  fromBrush = true;
  state.from = range ? Math.max(Math.min(...range), cube.origin) : cube.origin;
  state.to = range ? Math.min(Math.max(...range), last) : last;
  $("from").value = Number(seconds(state.from).toFixed(3));
  $("to").value = Number(seconds(state.to).toFixed(3));
  changed();
  fromBrush = false;
}

// Shows the chosen time in the overview when it was chosen by the fields.
function showBrush() {
  const view = views.overview?.view;
  if (!view || fromBrush) return;
  const whole = state.from <= cube.origin && state.to >= last;
  const scale = view.scale("x");
  view.signal("brush_x", whole ? [] : [scale(state.from), scale(state.to)]).runAsync();
}

let waiting = 0;

function changed() {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(apply);
}

function apply() {
  const shown = tally(() => "", true).reduce((sum, entry) => sum + entry.events, 0);
  const all = cube.groups.reduce((sum, group) => sum + group.n.reduce((a, b) => a + b, 0), 0);
  const span = `${shortSeconds(state.from)} to ${shortSeconds(state.to)}`;
  $("matching").value = `${number(shown)} of ${number(all)} events, ${span}`;
  $("query-ranking").textContent = queries[`ranking:${state.dimension}`];
  fillWho();
  for (const name of ["causes", "ranking", "queues"]) update(name);
}

function readFields() {
  const read = (id, fallback) => {
    const value = $(id).valueAsNumber;
    return Number.isNaN(value) ? fallback : data.zero + value * 1000;
  };
  state.from = Math.max(read("from", cube.origin), cube.origin);
  state.to = Math.min(read("to", last), last);
  if (state.to <= state.from) state.to = last;
  state.cause = $("cause").value;
  state.process = $("process").value;
}

function setUpFilters() {
  const form = $("filters");
  const options = (id, all, keys) => {
    $(id).replaceChildren(new Option(all, ""), ...keys.map((key) => new Option(key, key)));
  };
  options("cause", "all causes", tally(causeOf, false).slice(0, ROWS).map((e) => e.key));
  const process = (group) => named(group.d[at.process]);
  options("process", "all processes", tally(process, false).slice(0, ROWS).map((e) => e.key));
  for (const [id, ms] of [["from", cube.origin], ["to", last]]) {
    $(id).defaultValue = Number(seconds(ms).toFixed(3));
    $(id).min = Number(seconds(cube.origin).toFixed(3));
    $(id).max = Number(seconds(last).toFixed(3));
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => {
    readFields();
    showBrush();
    update("overview");
    changed();
  });
  form.addEventListener("reset", () => setTimeout(() => {
    readFields();
    showBrush();
    update("overview");
    changed();
  }));
  $("dimensions").addEventListener("change", (event) => {
    state.dimension = event.target.value;
    changed();
  });
}

// --- tables and buttons -----------------------------------------------------------------------

function resort(table) {
  const head = table?.querySelector("th[aria-sort]");
  if (head) sortBy(table, head, head.getAttribute("aria-sort") === "ascending");
}

function sortBy(table, head, ascending) {
  const column = [...head.parentNode.children].indexOf(head);
  const key = (row) => {
    const cell = row.cells[column];
    return cell.dataset.sort !== undefined ? Number(cell.dataset.sort) : cell.textContent;
  };
  const body = table.tBodies[0];
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    const less = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(y);
    return ascending ? less : -less;
  };
  body.append(...[...body.rows].sort(compare));
}

document.addEventListener("click", (event) => {
  const sorter = event.target.closest("button.sort");
  if (sorter) {
    const head = sorter.closest("th");
    const ascending = head.getAttribute("aria-sort") === "descending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    sortBy(head.closest("table"), head, ascending);
  }
  const copier = event.target.closest("button[data-copy]");
  if (copier) copy(copier);
});

async function copy(button) {
  const source = $(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    const range = document.createRange();
    range.selectNodeContents(source);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

// --- start ------------------------------------------------------------------------------------

const redraw = () => Promise.all(Object.keys(specs).map(draw));
let resizing = 0;
addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => {
    const moved = Object.keys(specs).some((n) => $(n) && Number($(n).dataset.width) !== $(n).clientWidth);
    if (moved) redraw().then(showBrush);
  }, 150);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw().then(showBrush));

setUpFilters();
await redraw();
apply();
document.documentElement.dataset.ready = "yes";
