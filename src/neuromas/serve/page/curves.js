// The run's curves, out of the lines of metrics.jsonl.

import { Chart, Cursor } from "./chart.js";
import { byId, inOrder } from "./dom.js";
import { mean, smooth } from "./scales.js";

const MANY = 6; // nodes, above which curves begin as means of layers

export class Curves {
  constructor() {
    this.lines = [];
    this.chosen = null;
    [this.nodes, this.smoothing] = [byId("curve-nodes"), byId("curve-smoothing")];
    for (const select of [this.nodes, this.smoothing]) select.addEventListener("change", () => this.#draw());
    this.tones = new Map(); // a node keeps its colour in all charts, and when the network grows
    const cursor = (this.cursor = new Cursor());
    this.charts = {
      reward: new Chart("Reward and accuracy", "", cursor, { range: [0, 1] }),
      gradient_norm: new Chart("Gradient norm", "of each node, before clipping", cursor, { log: true }),
      entropy: new Chart("Entropy", "nats, mean over a node's tokens", cursor),
      length: new Chart("Length", "tokens of a node's message", cursor),
      cost: new Chart("Cost of silencing", "accuracy lost without a node's message", cursor),
    };
    byId("charts").replaceChildren(...Object.values(this.charts).map((chart) => chart.element));
  }

  get last() {
    return this.lines.at(-1)?.step ?? -1;
  }

  /** lines: further ones. run: for floors and growth. */
  show(lines, run) {
    this.lines.push(...lines);
    byId("curves").hidden = this.lines.length < 2;
    this.cursor.last = Math.max(1, this.last);
    this.run = run;
    for (const name of this.lines.flatMap((line) => Object.keys(line.nodes))) {
      if (!this.tones.has(name)) this.tones.set(name, this.tones.size);
    }
    if (!this.nodes.value) this.nodes.value = this.tones.size > MANY ? "layers" : "each";
    this.#draw();
  }

  /** Tell of a node by itself, where the others are means of layers. */
  select(id) {
    this.chosen = id;
    if (this.run) this.#draw();
  }

  #draw() {
    const marks = this.run.lineage.map((growth) => growth.step);
    const names = [...this.tones.keys()].sort(inOrder);
    const draw = (figure, value, kind) => this.charts[figure].show(
      this.#grouped(names.map((name) => ({ ...this.#series(name, (line) => value(line, name), this.tones.get(name)), kind }))), marks);
    for (const figure of ["gradient_norm", "entropy", "length"]) draw(figure, (line, name) => line.nodes[name]?.[figure]);
    draw("cost", (line, name) => line.validation?.silenced?.nodes[name]?.cost, "dots");
    this.charts.reward.show(this.#rewards(this.run), marks);
  }

  /** The curves of nodes as they are to be seen: each, or means of layers before the nodes' own. */
  #grouped(curves) {
    if (this.nodes.value === "each") return curves.flatMap((curve) => this.#smooth(curve));
    const layer = new Map((this.run.shape?.nodes ?? []).map((node) => [node.id, node.layer]));
    const groups = new Map();
    for (const curve of curves.filter((one) => one.points.length)) {
      const key = curve.name === this.run.shape?.output ? curve.name : `layer ${layer.get(curve.name) ?? curve.name.split(".")[0]}`;
      groups.set(key, [...(groups.get(key) ?? []), curve]);
    }
    const shown = [...groups].flatMap(([key, members], tone) => [
      ...members.map((one) => ({ ...one, tone, kind: "faint", points: this.#smoothed(one.points) })),
      { ...members[0], tone, name: members.length > 1 ? `${key} (mean of ${members.length})` : key, points: this.#smoothed(mean(members.map((one) => one.points))) }]);
    const chosen = curves.find((one) => one.name === this.chosen && one.points.length);
    return chosen ? [...shown, { ...chosen, name: `node ${chosen.name}`, tone: groups.size, points: this.#smoothed(chosen.points) }] : shown;
  }

  #smoothed(points) {
    return smooth(points, Number(this.smoothing.value));
  }

  /** A curve, smoothed, and what was measured behind it. */
  #smooth(curve) {
    if (Number(this.smoothing.value) === 1 || curve.kind) return [curve];
    return [{ ...curve, kind: "faint" }, { ...curve, points: this.#smoothed(curve.points) }];
  }

  #rewards(run) {
    const reward = this.#series("reward (sampled)", (line) => line.reward, 0);
    const right = this.#series("right answers (sampled)", (line) => line.accuracy, 2);
    const same = this.lines.every((line) => line.reward === line.accuracy);
    const checked = { ...this.#series("validation accuracy (greedy)", (line) => line.validation?.accuracy, 1), kind: "dots" };
    const floor = run.results[0]?.floors.best_constant;
    const level = { name: "best constant answer", kind: "floor", points: floor === undefined ? [] : [[0, floor], [this.last, floor]] };
    return [...this.#smooth(reward), checked, ...(same ? [] : this.#smooth(right)), level];
  }

  #series(name, value, tone) {
    const points = this.lines.map((line) => [line.step, value(line)]).filter(([, v]) => v !== null && v !== undefined);
    return { name, tone, points };
  }
}
