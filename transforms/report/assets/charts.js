// Charts as SVG. Texts of the data become text nodes, never markup.

const SVG = document.getElementById("marks").namespaceURI;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawing(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const WIDTH = 420;
const HEIGHT = 150;
const BASE = HEIGHT - 18;

// Heights between 0 and 1; logarithmic ones begin a decade below the least that is not zero.
function heights(series, logarithmic) {
  const all = series.flatMap((one) => one ?? []).filter((value) => value > 0);
  const most = Math.max(...all, 0) || 1;
  const least = Math.min(...all, most) / 10;
  const place = (value) =>
    value <= 0 ? 0 : logarithmic ? Math.log(value / least) / Math.log(most / least) : value / most;
  return series.map((one) => one && one.map(place));
}

function shares(series) {
  return series.map((one) => {
    const whole = one ? one.reduce((sum, value) => sum + (value ?? 0), 0) : 0;
    return one && one.map((value) => (value ?? 0) / (whole || 1));
  });
}

function steps(places) {
  const width = WIDTH / places.length;
  const path = places.map((place, index) => `V${(BASE - (BASE - 6) * place).toFixed(1)}H${((index + 1) * width).toFixed(1)}`);
  return `M0 ${BASE}${path.join("")}V${BASE}`;
}

// Bars for one dataset, outlines over each other for several.
function histogram(label, [low, high, series], logarithmic, names) {
  const several = series.filter(Boolean).length > 1;
  const places = heights(several ? shares(series) : series, logarithmic);
  const chart = drawing("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, role: "img",
    "aria-label": `${label}${logarithmic ? ", logarithmic counts" : ""}: ${summary(low, high, series, names)}`,
  });
  chart.append(drawing("path", { class: "axis", d: `M0 ${BASE}H${WIDTH}` }));
  places.forEach((one, index) => {
    if (one) chart.append(drawing("path", { class: `s${index} ${several ? "line" : "block"}`, d: steps(one) }));
  });
  chart.append(drawing("text", { x: 0, y: HEIGHT - 3 }, number(low)));
  chart.append(drawing("text", { x: WIDTH, y: HEIGHT - 3, "text-anchor": "end" }, number(high)));
  return chart;
}

function summary(low, high, series, names) {
  return series.map((one, index) => {
    if (!one) return `${names[index]} has none`;
    const most = one.indexOf(Math.max(...one));
    const at = low + ((high - low) * (most + 0.5)) / one.length;
    return `${names[index]} has most values near ${number(at)}`;
  }).join("; ");
}

function histogramTable(label, [low, high, series], names) {
  const bins = series.find(Boolean).length;
  const rows = Array.from({ length: bins }, (_, bin) => {
    const from = low + ((high - low) * bin) / bins;
    const to = low + ((high - low) * (bin + 1)) / bins;
    return [`${number(from)} to ${number(to)}`, ...series.map((one) => number(one && one[bin]))];
  });
  return table(label, ["Values", ...names], rows);
}

// A table: first cells are headers of rows, others are numbers.
function table(label, heads, rows) {
  const made = element("table", {}, element("caption", {}, label));
  const head = element("tr");
  heads.forEach((text, index) => head.append(element("th", { scope: "col", class: index ? "n value" : "value" }, text)));
  made.append(element("thead", {}, head));
  const body = element("tbody");
  for (const row of rows) {
    const line = element("tr");
    row.forEach((cell, index) => line.append(
      index ? element("td", { class: "n value" }, cell) : element("th", { scope: "row", class: "value" }, cell),
    ));
    body.append(line);
  }
  made.append(body);
  return made;
}

// Horizontal bars beside labels and counts: one bar for each dataset.
function ranks(label, [labels, series], wholes, names) {
  const parts = series.map((one, index) => one && one.map((count) => count === null ? null : count / (wholes[index] || 1)));
  const most = Math.max(...parts.flatMap((one) => one ?? []).filter((value) => value !== null), 0) || 1;
  const made = table(label, ["Value", ...names], labels.map((text, place) => [
    text, ...series.map((one, index) => one && one[place] !== null ? `${number(one[place])} (${share(one[place], wholes[index])})` : "–"),
  ]));
  made.classList.add("ranks");
  made.tHead.rows[0].append(element("th", { scope: "col" }, "Shares"));
  [...made.tBodies[0].rows].forEach((row, place) => {
    const chart = drawing("svg", { viewBox: `0 0 120 ${6 * parts.length + 6}`, width: 120, height: 6 * parts.length + 6, "aria-hidden": "true" });
    parts.forEach((one, index) => {
      const width = one && one[place] ? Math.max(1, (118 * one[place]) / most) : 0;
      chart.append(drawing("rect", { class: `s${index} block`, x: 0, y: 4 + 6 * index, width, height: 5 }));
    });
    row.append(element("td", {}, chart));
  });
  return made;
}

function lineChart([label, times, values]) {
  const known = values.map(Number).filter(Number.isFinite);
  const low = Math.min(...known);
  const span = Math.max(...known) - low || 1;
  const points = values.map((value, index) => [4 + (232 * index) / (values.length - 1 || 1), 44 - (40 * (Number(value) - low)) / span])
    .filter(([, y]) => Number.isFinite(y)).map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`);
  const text = `${label}: ${values.length} points from ${times[0]} to ${times.at(-1)}, between ${number(low)} and ${number(low + span)}, last ${number(values.at(-1))}`;
  return drawing("svg", { viewBox: "0 0 240 48", width: 240, height: 48, role: "img", "aria-label": text },
    drawing("polyline", { class: "s0 line", points: points.join(" ") }));
}
