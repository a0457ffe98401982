// Elements and numbers. Text reaches the page through text nodes and attributes alone, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: attributes by name, `on…` as listeners, null and false left out; children are elements or text. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Names of nodes as one counts: 1.1, 1.2, 2.1, 10.1, out. */
export const inOrder = new Intl.Collator("en", { numeric: true }).compare;

export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

/** A change of accuracy, in points, with its sign. */
export const points = (share) => `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(1)}`;

export const interval = ([low, high], show = (x) => (100 * x).toFixed(1)) => `[${show(low)}, ${show(high)}]`;

/** A number as short as it can be read. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e5)) return value.toExponential(1).replace(".0e", "e");
  return String(Number(value.toPrecision(3)));
}

/** A table. heads: column titles; numeric ones begin with "#". rows: arrays of cells; the first is the row's head. */
export function table(caption, heads, rows) {
  const numeric = heads.map((head) => head.startsWith("#"));
  const cell = (tag, i, ...content) =>
    el(tag, { class: numeric[i] ? "number" : null, scope: tag === "th" ? "row" : null }, ...content);
  return el(
    "table",
    {},
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, heads.map((head, i) =>
      el("th", { scope: "col", class: numeric[i] ? "number" : null }, head.replace(/^#/, ""))))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((content, i) => cell(i ? "td" : "th", i, content))))),
  );
}

/** A table that scrolls sideways where it is too wide; to the keyboard too. */
export const wide = (made) => el("div", { class: "wide", role: "region", tabindex: "0",
  "aria-label": made.caption.textContent }, made);

/** An accuracy with its interval and the best constant answer, as a picture beside the number. */
export function dot(accuracy, [low, high], floor) {
  const x = (share) => 4 + 112 * Math.min(1, Math.max(0, share));
  return svg("svg", { class: "dot", viewBox: "0 0 120 16", width: 120, height: 16, "aria-hidden": "true" },
    svg("line", { class: "axis", x1: x(0), x2: x(1), y1: 8, y2: 8 }),
    svg("line", { class: "floor", x1: x(floor), x2: x(floor), y1: 1, y2: 15 }),
    svg("line", { class: "range", x1: x(low), x2: x(high), y1: 8, y2: 8 }),
    svg("circle", { cx: x(accuracy), cy: 8, r: 4 }));
}
