// What the page answers to: links, forms, theme, print.

// Goes to a place of the page, and opens what hides it; the address of a frame in a notebook is not its own.
function go(id) {
  const target = document.getElementById(id);
  if (!target) return;
  for (let outer = target; outer; outer = outer.parentElement) {
    if (outer.tagName === "DETAILS") outer.open = true;
    if (outer.matches("details.feature")) outer.hidden = false;
  }
  if (target.matches("details.feature")) draw(target);
  target.scrollIntoView();
  const focused = target.querySelector(":scope > summary, :scope > h2") ?? target;
  focused.focus({ preventScroll: true });
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='#']");
  if (!link) return;
  event.preventDefault();
  const id = link.getAttribute("href").slice(1);
  if (location.protocol !== "about:") history.pushState(null, "", `#${id}`);
  go(id);
});
addEventListener("popstate", () => go(location.hash.slice(1)));

for (const name of ["filter", "drawing"]) {
  const form = document.getElementById(name);
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
}
document.getElementById("filter").addEventListener("input", (event) => {
  if (event.target.id !== "dataset") return filter();
  dataset = Number(event.target.value);
  fill();
  say(`numbers of ${names[dataset]}`);
});
document.getElementById("log").addEventListener("change", redraw);

function openAll(open) {
  for (const { section } of lines) if (!section.hidden) section.open = open;
}
document.getElementById("open").addEventListener("click", () => openAll(true));
document.getElementById("close").addEventListener("click", () => openAll(false));
addEventListener("beforeprint", () => {
  showMore(lines.length);
  for (const { section } of lines) if (section.open && !section.hidden) draw(section);
});

const THEMES = ["automatic", "light", "dark"];
const theme = document.getElementById("theme");

// A frame without an origin has no storage.
function remembered(value) {
  try {
    if (value === undefined) return localStorage.getItem("penstock-theme");
    localStorage.setItem("penstock-theme", value);
  } catch { /* then each page begins with the system's theme */ }
  return null;
}

function setTheme(name) {
  theme.textContent = `Theme: ${name}`;
  if (name === "automatic") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}

theme.hidden = false;
theme.addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? "automatic";
  const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
  setTheme(next);
  remembered(next);
});
setTheme(THEMES.includes(remembered()) ? remembered() : "automatic");
if (location.hash) go(location.hash.slice(1));
