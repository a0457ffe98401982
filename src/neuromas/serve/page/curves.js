// The run's curves, out of the lines of metrics.jsonl.

import { Chart, Cursor } from "./chart.js";
import { byId, inOrder } from "./dom.js";

export class Curves {
  constructor() {
    this.lines = [];
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
    const marks = run.lineage.map((growth) => growth.step);
    for (const name of this.lines.flatMap((line) => Object.keys(line.nodes))) {
      if (!this.tones.has(name)) this.tones.set(name, this.tones.size);
    }
    const nodes = [...this.tones.keys()].sort(inOrder);
    const draw = (figure, value, kind) => this.charts[figure].show(
      nodes.map((name) => ({ ...this.#series(name, (line) => value(line, name), this.tones.get(name)), kind })), marks);
    for (const figure of ["gradient_norm", "entropy", "length"]) draw(figure, (line, name) => line.nodes[name]?.[figure]);
    draw("cost", (line, name) => line.validation?.silenced?.nodes[name]?.cost, "dots");
    this.charts.reward.show(this.#rewards(run), marks);
  }

  #rewards(run) {
    const reward = this.#series("reward (sampled)", (line) => line.reward, 0);
    const right = this.#series("right answers (sampled)", (line) => line.accuracy, 2);
    const same = this.lines.every((line) => line.reward === line.accuracy);
    const checked = { ...this.#series("validation accuracy (greedy)", (line) => line.validation?.accuracy, 1), kind: "dots" };
    const floor = run.results[0]?.floors.best_constant;
    const level = { name: "best constant answer", kind: "floor", points: floor === undefined ? [] : [[0, floor], [this.last, floor]] };
    return [reward, checked, ...(same ? [] : [right]), level];
  }

  #series(name, value, tone) {
    const points = this.lines.map((line) => [line.step, value(line)]).filter(([, v]) => v !== null && v !== undefined);
    return { name, tone, points };
  }
}
