// The network as a graph: nodes are buttons in columns (on narrow screens rows), one for each layer; edges lie behind.

import { el, svg } from "./dom.js";
import { lanes, path } from "./scales.js";

const QUESTION = "\u0000question"; // no node can be called so
const MANY = 12; // nodes, above which boxes are small
const LANES = 4; // of single senders in a layer, at the most

/** choose(id) is called when a node is clicked. */
export class Graph {
  constructor(place, choose) {
    this.choose = choose;
    this.edges = [];
    this.lines = svg("svg", { class: "edges", "aria-hidden": "true" });
    this.layers = el("div", { class: "layers" });
    this.box = el("div", { class: "canvas" }, this.lines, this.layers);
    place.replaceChildren(this.box);
    place.addEventListener("keydown", (event) => this.#walk(event));
    new ResizeObserver(() => this.#route()).observe(this.layers);
  }

  /** Draw a topology; null: nodes are drawn when they first speak. */
  draw(shape) {
    this.nodes = new Map();
    this.shape = shape;
    this.chosen = null;
    const source = el("div", { class: "source" }, el("span", { class: "id" }, "question"), el("p", { class: "text" }));
    this.nodes.set(QUESTION, source);
    this.layers.replaceChildren(el("div", { class: "layer" }, source));
    this.lanes = new Map();
    const { list, laneOf } = lanes(shape?.nodes ?? [], LANES);
    this.laneOf = laneOf;
    for (const { layer, key } of list) this.#lane(layer, key);
    for (const node of shape?.nodes ?? []) this.#add(node);
    this.box.classList.toggle("many", this.nodes.size > MANY);
    this.#connect();
  }

  /** Forget what was said; a new question is asked. */
  begin(question) {
    if (!this.shape) this.draw(null);
    for (const node of this.nodes.values()) node.classList.remove("writing", "done", "cut");
    for (const node of this.nodes.values()) node.querySelector(".text").textContent = "";
    for (const edge of this.edges) edge.path.classList.remove("sent");
    this.#show(QUESTION, question, "done");
  }

  /** Of a system without a topology: the id is that of its next call. */
  ensure(id) {
    if (this.nodes.has(id)) return;
    const before = [...this.nodes.keys()].at(-1);
    const layer = this.layers.children.length;
    this.#add({ id, layer, upstream: before === QUESTION ? [] : [before], sees_question: true });
    this.#connect();
  }

  writes(id, text) {
    this.#show(id, text, "writing");
  }

  done(id, text, cut) {
    this.#show(id, text, "done");
    this.nodes.get(id).classList.toggle("cut", cut);
  }

  end() {
    for (const node of this.nodes.values()) node.classList.remove("writing");
  }

  select(id) {
    this.chosen = id;
    for (const [name, node] of this.nodes) if (name !== QUESTION) node.setAttribute("aria-pressed", name === id);
    this.lines.classList.toggle("some", id !== null);
    for (const edge of this.edges) {
      const near = edge.from === id || edge.to === id;
      edge.path.classList.toggle("near", near);
      if (near) this.lines.append(edge.path); // above the others
    }
  }

  /** A few words under a node's message, e.g. what it is worth. */
  note(id, words) {
    const node = this.nodes.get(id);
    if (node) node.querySelector(".note").textContent = words;
  }

  #add(node) {
    const asks = node.sees_question && node.layer > 1;
    const button = el("button", { type: "button", class: "node", "data-id": node.id, "aria-pressed": "false",
      onclick: () => this.choose(node.id) },
      el("span", { class: "id" }, node.id),
      asks ? el("span", { class: "reads", title: "reads the question too" }, "Q",
        el("span", { class: "hidden" }, " reads the question too")) : null,
      el("p", { class: "text" }), el("span", { class: "note" }));
    this.nodes.set(node.id, button);
    button.node = node;
    this.#layer(node.layer).append(button);
  }

  #layer(number) {
    while (this.layers.children.length <= number) this.layers.append(el("div", { class: "layer" }));
    return this.layers.children[number];
  }

  /** Room in a layer for edges that pass it. */
  #lane(layer, key) {
    const place = this.#layer(layer);
    const made = el("div", { class: "lane" });
    made.style.setProperty("--lane", place.children.length);
    this.lanes.set(`${layer} ${key}`, made);
    place.append(made);
    place.style.setProperty("--lanes", place.children.length);
  }

  #connect() {
    this.edges = [];
    for (const [to, { node }] of this.nodes) {
      if (!node) continue;
      const from = node.sees_question && node.layer === 1 ? [QUESTION, ...node.upstream] : node.upstream;
      for (const sender of from) this.edges.push({ from: sender, to, path: svg("path", {}) });
    }
    this.lines.replaceChildren(...this.edges.map((edge) => edge.path));
    this.#route();
  }

  #show(id, text, state) {
    const node = this.nodes.get(id);
    node.querySelector(".text").textContent = text;
    node.classList.toggle("writing", state === "writing");
    node.classList.toggle("done", state === "done");
    for (const edge of this.edges) if (edge.from === id) edge.path.classList.toggle("sent", state === "done");
  }

  /** Lay the edges from where senders stand to where readers stand. */
  #route() {
    const frame = this.box.getBoundingClientRect();
    if (!frame.width) return;
    const down = getComputedStyle(this.layers).flexDirection === "column";
    this.lines.setAttribute("width", this.layers.scrollWidth);
    this.lines.setAttribute("height", this.layers.scrollHeight);
    const layer = (id) => this.nodes.get(id).node?.layer ?? 0;
    const middle = (box, end) => {
      const point = down ? [box.x + box.width / 2, end ? box.bottom : box.y] : [end ? box.right : box.x, box.y + box.height / 2];
      return [point[0] - frame.x, point[1] - frame.y];
    };
    for (const { from, to, path: line } of this.edges) {
      const [a, b] = [from, to].map((id) => this.nodes.get(id).getBoundingClientRect());
      const passed = [];
      for (let at = layer(from) + 1; at < layer(to); at++) {
        const lane = this.lanes.get(`${at} ${this.laneOf(from)}`)?.getBoundingClientRect();
        if (lane) passed.push(middle(lane, 0), middle(lane, 1));
      }
      line.setAttribute("d", path([middle(a, 1), ...passed, middle(b, 0)], down));
      line.classList.toggle("past", passed.length > 0);
    }
  }

  /** Arrow keys go along layers and across them, as they are laid out. */
  #walk(event) {
    const at = event.target.closest?.(".node");
    const down = getComputedStyle(this.layers).flexDirection === "column";
    const [forth, back, next, previous] = down
      ? ["ArrowDown", "ArrowUp", "ArrowRight", "ArrowLeft"] : ["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"];
    const across = { [forth]: 1, [back]: -1 }[event.key] ?? 0;
    const along = { [next]: 1, [previous]: -1 }[event.key] ?? 0;
    if (!at || !(across || along)) return;
    const row = [...at.parentElement.querySelectorAll(".node")];
    const place = row.indexOf(at);
    const other = this.layers.children[at.node.layer + across]?.querySelectorAll(".node");
    const found = along ? row[place + along] : other?.[Math.min(place, other.length - 1)];
    if (found?.node) {
      event.preventDefault();
      found.focus();
    }
  }
}
