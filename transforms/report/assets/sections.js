// The section of a feature: drawn when it is open and near, and again when counts change their scale.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = new Map(data.features.map((feature) => [feature.id, feature]));
const names = data.datasets;
const drawn = new Map();

function isLogarithmic() {
  return document.getElementById("log").checked;
}

function scrolled(label, ...children) {
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, ...children);
}

function help(key) {
  return element("a", { class: "help", href: `#g-${key}`, "aria-label": `What is ${data.labels[key]}?` }, "?");
}

function numbersTable(feature) {
  const rows = [];
  data.metrics.forEach(([key, label, form], index) => {
    const values = feature.m.map((one) => (one ? one[index] : null));
    if (values.some((value) => value !== null)) rows.push([key, label, ...values.map((value) => shown(form, value))]);
  });
  const made = table(`Numbers of ${feature.n}`, ["Number", ...names], rows.map(([, ...cells]) => cells));
  [...made.tBodies[0].rows].forEach((row, index) => row.cells[0].append(" ", help(rows[index][0])));
  const others = new Map();
  (feature.x ?? []).forEach((one, index) => one.forEach(([name, value]) => {
    if (!others.has(name)) others.set(name, names.map(() => "–"));
    others.get(name)[index] = typeof value === "number" ? number(value) : value;
  }));
  for (const [name, values] of others) made.tBodies[0].append(...table("", [""], [[name, ...values]]).tBodies[0].rows);
  return made;
}

function quantilesTable(feature) {
  const shares = data.shares[feature.q.find(Boolean)[0]];
  const columns = feature.q.map((one) => (one && data.shares[one[0]] === shares ? one.slice(1) : null));
  return table("Quantiles", ["Share", ...names], shares.map((part, index) => [
    share(part, 1), ...columns.map((one) => number(one && one[index])),
  ]));
}

function distancesTable(feature) {
  return table("Distances", ["Measure", "Value", "Threshold"], feature.d.map(([kind, measure, value, threshold]) => [
    `${kind}: ${data.labels[measure] ?? measure}`, number(value), number(threshold),
  ]));
}

function chartPart(feature, [key, ...bins]) {
  const label = `${data.labels[key]} of ${feature.n}`;
  const part = element("div", {}, element("h4", {}, data.labels[key], " ", help(key)), histogram(label, bins, isLogarithmic(), names));
  const numbers = element("details", {}, element("summary", {}, "Counts"));
  numbers.addEventListener("toggle", () => {
    if (numbers.open && numbers.children.length === 1) numbers.append(scrolled(`Counts, ${label}`, histogramTable(label, bins, names)));
  });
  part.append(numbers);
  return part;
}

function metric(feature, key) {
  const index = data.metrics.findIndex(([name]) => name === key);
  return feature.m.map((one) => (one && index >= 0 ? one[index] : null));
}

function rankPart(feature, [key, ...counts]) {
  const title = key === "top" ? "Frequent values" : data.labels[key];
  const wholes = metric(feature, key === "together" ? "missing" : "values");
  return element("div", {}, element("h4", {}, title, " ", help(key)),
    scrolled(`${title} of ${feature.n}`, ranks(`${title} of ${feature.n}`, counts, wholes, names)));
}

function linesPart(feature) {
  const list = element("ul", { class: "lines" });
  for (const [label, times, values] of feature.h) {
    list.append(element("li", {}, element("p", { class: "value" }, `${label}: `, element("strong", {}, number(values.at(-1)))),
      lineChart([label, data.times[times], values])));
  }
  return element("div", {}, element("h4", {}, "History"), list);
}

function partsOf(feature) {
  const parts = element("div", { class: "parts" });
  parts.append(scrolled(`Numbers of ${feature.n}`, numbersTable(feature)));
  for (const chart of feature.c ?? []) parts.append(chartPart(feature, chart));
  if (feature.q) parts.append(scrolled(`Quantiles of ${feature.n}`, quantilesTable(feature)));
  for (const rank of feature.r ?? []) parts.append(rankPart(feature, rank));
  if (feature.d) parts.append(scrolled(`Distances of ${feature.n}`, distancesTable(feature)));
  if (feature.h) parts.append(linesPart(feature));
  return parts;
}

function draw(section) {
  if (drawn.has(section)) return;
  drawn.set(section, partsOf(byId.get(section.id)));
  section.append(drawn.get(section));
}

// In place, so that the page does not move under the reader.
function redraw() {
  for (const [section, before] of drawn) {
    const parts = partsOf(byId.get(section.id));
    before.replaceWith(parts);
    drawn.set(section, parts);
  }
}

// What is opened while it is far away is drawn when it comes near.
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting && entry.target.open) draw(entry.target);
}, { rootMargin: "600px" });

for (const section of document.querySelectorAll("details.feature")) near.observe(section);
document.getElementById("details").addEventListener("toggle", (event) => {
  const section = event.target;
  if (!section.matches("details.feature") || !section.open) return;
  near.unobserve(section);
  near.observe(section);
}, true);
