// The table of features: sorted by any column, filtered by text, type and alerts, with the numbers of any dataset.

const body = document.querySelector("#table tbody");
const lines = data.features.map((feature, index) => ({
  feature, row: body.rows[index], section: document.getElementById(feature.id), index, isFound: true,
}));
// Laying out thousands of rows takes seconds: so many are shown at a time, and more when one gets there.
const STEP = 200;
let limit = STEP;
let ordered = lines;
const more = document.getElementById("more");
const collator = new Intl.Collator("en", { numeric: true });
const order = { key: null, down: false };
let dataset = 0;

function sortValue(line, key) {
  if (key === "n") return line.feature.n;
  if (key === "t") return line.feature.t.join(", ");
  if (key === "a") return line.feature.a;
  const value = metric(line.feature, key)[dataset];
  return value === null ? null : Number(value);
}

// What has no value comes last, whichever way it is sorted; equal ones stay in the order of the data.
function compare(one, other) {
  if (one.value === null || other.value === null) {
    return (one.value === null) - (other.value === null) || one.line.index - other.line.index;
  }
  const sign = typeof one.value === "string" ? collator.compare(one.value, other.value) : one.value - other.value;
  return (order.down ? -sign : sign) || one.line.index - other.line.index;
}

function sort(key, head) {
  order.down = order.key === key && !order.down;
  order.key = key;
  for (const other of document.querySelectorAll("#table th[aria-sort]")) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
  const keyed = lines.map((line) => ({ line, value: sortValue(line, key) })).sort(compare);
  ordered = keyed.map(({ line }) => line);
  body.replaceChildren(...ordered.map(({ row }) => row));
  show();
  say(`sorted by ${head.querySelector("button").textContent}, ${order.down ? "descending" : "ascending"}`);
}

function show() {
  let found = 0;
  for (const line of ordered) line.row.hidden = !line.isFound || ++found > limit;
  const rest = found - limit;
  more.hidden = rest <= 0;
  more.textContent = `Show ${number(Math.min(rest, STEP))} more of ${number(rest)} rows`;
}

function showMore(rows = STEP) {
  limit += rows;
  show();
}

function say(more = "") {
  const found = lines.filter((line) => line.isFound).length;
  const all = number(lines.length);
  const count = found === lines.length ? `${all} features` : `${number(found)} of ${all} features`;
  document.getElementById("found").textContent = more ? `${count}, ${more}` : count;
}

function filter() {
  const wanted = document.getElementById("search").value.trim().toLowerCase();
  const type = document.getElementById("type").value;
  const alerted = document.getElementById("alerted").checked;
  for (const line of lines) {
    const feature = line.feature;
    line.isFound = feature.n.toLowerCase().includes(wanted) && (!type || feature.t.includes(type)) && (!alerted || feature.a > 0);
    line.section.hidden = !line.isFound;
  }
  limit = STEP;
  show();
  say();
}

function sparkPath(counts) {
  const top = Math.max(...counts, 0) || 1;
  const path = counts.map((count, index) => `V${20 - (count > 0 ? Math.max(1, Math.round((20 * count) / top)) : 0)}H${index + 1}`);
  return `M0 20${path.join("")}V20Z`;
}

function spark(feature) {
  const chart = (feature.c ?? []).find(([key]) => key === "histogram");
  const top = (feature.r ?? []).find(([key]) => key === "top");
  const counts = chart?.[3][dataset] ?? top?.[2][dataset]?.map((count) => count ?? 0);
  if (!counts) return "";
  return drawing("svg", { viewBox: `0 0 ${counts.length} 20`, preserveAspectRatio: "none", role: "img", "aria-label": chart ? "histogram" : "frequent values" },
    drawing("path", { d: sparkPath(counts) }));
}

function topValue(feature) {
  const top = (feature.r ?? []).find(([key]) => key === "top");
  const counts = top?.[2][dataset];
  const whole = metric(feature, "values")[dataset];
  if (!counts || !whole) return "";
  const place = counts.reduce((best, count, index) => (count !== null && (best < 0 || count > counts[best]) ? index : best), -1);
  return place < 0 ? "" : `${top[1][place]} (${share(counts[place], whole)})`;
}

function fill() {
  const forms = new Map(data.metrics.map(([key, , form]) => [key, form]));
  for (const { feature, row } of lines) {
    row.cells[3].replaceChildren(spark(feature));
    data.columns.forEach((key, index) => {
      row.cells[4 + index].textContent = shown(forms.get(key), metric(feature, key)[dataset]);
    });
    row.cells[4 + data.columns.length].textContent = topValue(feature);
  }
  document.getElementById("shown").textContent = names[dataset];
}

for (const head of document.querySelectorAll("#table th[aria-sort]")) {
  const label = head.querySelector(".sort");
  const button = element("button", { type: "button" }, label.textContent);
  label.replaceWith(button);
  button.addEventListener("click", () => sort(head.dataset.key, head));
}

more.addEventListener("click", () => showMore());
new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) showMore();
}, { root: more.parentElement, rootMargin: "200px" }).observe(more);
show();
