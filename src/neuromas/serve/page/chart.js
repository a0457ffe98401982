// Line charts with one cursor for all of them: by pointer, touch, or arrow keys. The legend tells the figures at it.

import { el, short, svg } from "./dom.js";
import { bounds, linear, logarithmic, stops, upTo } from "./scales.js";

const HEIGHT = 190, LEFT = 46, RIGHT = 10, TOP = 8, BOTTOM = 24;
const COLOURS = 8;
const LISTED = 8; // entries of a legend that are seen without scrolling, at the least
const DEPTH = 1e-5; // of a logarithmic y: the lowest value shown, as a share of the highest

/** The step that all charts point at (null: the last one), and the last step that they show. */
export class Cursor extends EventTarget {
  step = null;
  last = 1;

  move(step) {
    this.step = step;
    this.dispatchEvent(new Event("move"));
  }
}

export class Chart {
  /** range: [low, high] of y, or null for that of the data. log: a logarithmic y; what is far below the most lies on its ground, and zeros are left out. */
  constructor(title, unit, cursor, { range = null, log = false } = {}) {
    Object.assign(this, { title, unit, cursor, range, log, series: [], marks: [] });
    this.legend = el("ul", { class: "legend" });
    this.picture = svg("svg", { height: HEIGHT, "aria-hidden": "true" });
    this.slider = el("div", { class: "plot", tabindex: "0", role: "slider", "aria-label": title, "aria-orientation": "horizontal" },
      this.picture);
    this.element = el("figure", { class: "chart" },
      el("figcaption", {}, el("b", {}, title), unit ? ` ${unit}` : "", el("span", { class: "at" })), this.slider, this.legend);
    cursor.addEventListener("move", () => this.#point());
    for (const name of ["pointermove", "pointerdown"]) this.slider.addEventListener(name, (event) => this.#hover(event));
    this.slider.addEventListener("pointerleave", () => cursor.move(null));
    this.slider.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#draw()).observe(this.slider);
  }

  /**
   * series: [{name, tone, points: [[step, value], …], kind}]; tone: number of its colour; kind "floor" is a level, "dots"
   * shows each point, "faint" is drawn behind the others and not told. marks: steps.
   */
  show(series, marks) {
    const [faint, told] = [true, false].map((wanted) => series.filter((one) => one.points.length && (one.kind === "faint") === wanted));
    [this.faint, this.series] = [faint, told];
    this.marks = marks;
    this.element.hidden = !this.series.length;
    this.#draw();
  }

  #draw() {
    const width = this.slider.clientWidth;
    if (!width || !this.series.length) return;
    this.steps = [...new Set(this.series.flatMap((one) => one.points.map(([step]) => step)))].sort((a, b) => a - b);
    const last = this.cursor.last;
    this.x = (step) => LEFT + ((width - LEFT - RIGHT) * step) / last;
    const ticks = this.#scale();
    this.picture.setAttribute("width", width);
    this.line = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM });
    this.dots = svg("g", {});
    this.picture.replaceChildren(
      ...ticks.map((value) => svg("g", { class: "tick" },
        svg("line", { x1: LEFT, x2: width - RIGHT, y1: this.y(value), y2: this.y(value) }),
        svg("text", { x: LEFT - 6, y: this.y(value) + 4, "text-anchor": "end" }, short(value)))),
      ...stops(last, width < 420 ? 4 : 6).map((step) =>
        svg("text", { class: "step", x: this.x(step), y: HEIGHT - 6, "text-anchor": "middle" }, String(step))),
      ...this.marks.map((step) => svg("line", { class: "grown", x1: this.x(step), x2: this.x(step), y1: TOP, y2: HEIGHT - BOTTOM })),
      ...[...this.faint, ...this.series].map((one) => this.#curve(one)), this.line, this.dots);
    this.legend.replaceChildren(...this.series.map((one) => el("li", { class: look(one) },
      svg("svg", { width: 18, height: 8, "aria-hidden": "true" }, svg("line", { x1: 0, x2: 18, y1: 4, y2: 4 })),
      one.name, " ", el("output", {}))));
    if (this.series.length > LISTED) this.legend.setAttribute("tabindex", "0"); // it scrolls
    else this.legend.removeAttribute("tabindex");
    this.slider.setAttribute("aria-valuemin", this.steps[0]);
    this.slider.setAttribute("aria-valuemax", this.steps.at(-1));
    this.#point();
  }

  #curve(one) {
    const shown = one.points.map(([step, value]) => [step, value, !this.positive || value > 0]); // a logarithm has no zero
    const path = shown.map(([step, value, seen], i) =>
      seen ? `${shown[i - 1]?.[2] ? "L" : "M"}${this.x(step).toFixed(1)} ${this.y(value).toFixed(1)}` : "").join("");
    const dots = one.kind === "dots" || one.points.length === 1
      ? shown.filter(([, , seen]) => seen).map(([step, value]) => svg("circle", { cx: this.x(step), cy: this.y(value), r: 2.5 })) : [];
    return svg("g", { class: look(one) }, svg("path", { d: path }), dots);
  }

  /** Sets `y`; the values at which lines are drawn. */
  #scale() {
    const values = [...this.faint, ...this.series].flatMap((one) => one.points.map(([, value]) => value));
    const down = HEIGHT - BOTTOM, tall = down - TOP;
    let [least, most] = this.range ?? bounds(values);
    this.positive = this.log && most > 0;
    if (!this.range) least = Math.min(0, least);
    const { low, high, ticks } = this.positive ? logarithmic(values, DEPTH) : linear(least, most);
    const height = (value) => (this.positive ? Math.max(0, Math.log10(value) - low) : value - low);
    this.y = (value) => down - (tall * height(value)) / (high - low);
    return ticks;
  }

  /** Tell the figures at the cursor: at the last step up to it that has some. */
  #point() {
    if (!this.line || !this.series.length) return;
    const step = this.cursor.step ?? this.steps.at(-1);
    const items = this.series.map((one) => one.kind === "floor" ? one.points[0] : upTo(one.points, step));
    const told = this.series.map((one, i) => `${one.name} ${short(items[i]?.[1])}`);
    [...this.legend.children].forEach((item, i) => (item.querySelector("output").textContent = short(items[i]?.[1])));
    this.element.querySelector(".at").textContent = `step ${step}`;
    this.slider.setAttribute("aria-valuenow", step);
    this.slider.setAttribute("aria-valuetext", `step ${step}: ${told.join(", ")}`);
    for (const end of ["x1", "x2"]) this.line.setAttribute(end, this.x(step));
    this.line.classList.toggle("on", this.cursor.step !== null);
    this.dots.replaceChildren(...(this.cursor.step === null ? [] : items.flatMap((item, i) =>
      item && this.series[i].kind !== "floor" && (!this.positive || item[1] > 0)
        ? [svg("circle", { class: look(this.series[i]), cx: this.x(item[0]), cy: this.y(item[1]), r: 3.5 })] : [])));
  }

  #hover(event) {
    if (!this.x || !this.series.length) return;
    const at = event.clientX - this.slider.getBoundingClientRect().x;
    const near = (a, b) => (Math.abs(this.x(a) - at) <= Math.abs(this.x(b) - at) ? a : b);
    this.cursor.move(this.steps.reduce(near));
  }

  #key(event) {
    const at = this.steps.indexOf(this.cursor.step ?? this.steps.at(-1));
    const far = Math.max(1, Math.round(this.steps.length / 10));
    const move = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -far, PageUp: far,
      Home: -this.steps.length, End: this.steps.length }[event.key];
    if (event.key === "Escape") this.cursor.move(null);
    if (!move) return;
    event.preventDefault();
    this.cursor.move(this.steps[Math.min(this.steps.length - 1, Math.max(0, at + move))]);
  }
}

const look = ({ kind, tone }) => (kind === "floor" ? "series level"
  : `series c${tone % COLOURS} d${Math.floor(tone / COLOURS) % 3}${kind === "faint" ? " faint" : ""}`);
