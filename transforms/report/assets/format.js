"use strict";
// Numbers as text.py writes them; a test holds one against the other.

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 20 });

function number(value) {
  if (value === null || value === undefined) return "–";
  const given = Number(value);
  if (Number.isNaN(given)) return "NaN";
  if (!Number.isFinite(given)) return given > 0 ? "∞" : "-∞";
  const size = Math.abs(given);
  if (Number.isInteger(given) && size < 1e15) return grouped.format(given);
  if (size < 1e-4 || size >= 1e15) return given.toExponential(3).replace(/\.?0*e/, "e");
  return grouped.format(Number(given.toPrecision(4)));
}

function share(part, whole) {
  if (part === null || part === undefined || !whole) return "–";
  const percent = (100 * part) / whole;
  if (part && percent < 0.1) return "<0.1 %";
  if (part !== whole && percent > 99.9 && percent <= 100) return ">99.9 %";
  return `${percent.toFixed(1).replace(/\.0$/, "")} %`;
}

function shown(form, value) {
  return form === "share" ? share(value, 1) : number(value);
}
