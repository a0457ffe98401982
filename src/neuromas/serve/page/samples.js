// What nodes said at each validation: of the same questions every time, or of the training step's own.

import { byId, el, inOrder, short, table, wide } from "./dom.js";

const TRAINING = "rollouts of training";

export class Samples {
  constructor() {
    this.list = [];
    this.of = byId("sample-of");
    this.node = byId("sample-node");
    for (const select of [this.of, this.node]) select.addEventListener("change", () => this.#table());
  }

  get last() {
    return this.list.at(-1)?.step ?? -1;
  }

  /** The first question of the last validation, as it was answered; undefined before one was. */
  get validated() {
    const step = this.list.findLast((s) => s.split === "validation")?.step;
    return this.list.find((s) => s.split === "validation" && s.step === step);
  }

  add(samples) {
    if (!samples.length) return;
    this.list.push(...samples);
    byId("samples").hidden = false;
    const questions = this.list.filter((s) => s.split === "validation").map((s) => s.question);
    const training = this.list.some((s) => s.split === "train") ? [TRAINING] : [];
    choices(this.of, [...new Set(questions), ...training]);
    choices(this.node, nodesOf(this.list), "all nodes");
    this.#table();
  }

  /** Tell of one node, where it is known. */
  select(node) {
    if (![...this.node.options].some((option) => option.value === node)) return;
    this.node.value = node;
    this.#table();
  }

  #table() {
    const training = this.of.value === TRAINING;
    const shown = this.list.filter((s) => (training ? s.split === "train" : s.split === "validation" && s.question === this.of.value));
    const nodes = this.node.value ? [this.node.value] : nodesOf(shown);
    const heads = ["#step", ...(training ? ["question"] : []), ...nodes.map((id) => `node ${id}`), "answer", "#reward"];
    const rows = shown.map((s) => [String(s.step), ...(training ? [s.question] : []),
      ...nodes.map((id) => says(s.turns.filter((turn) => turn.node === id))), el("code", {}, s.answer), short(s.reward)]);
    const caption = training ? "Rollouts of training, sampled; the question changes" : "Greedy, one question over training time";
    byId("sample-table").replaceChildren(wide(table(caption, heads, rows)));
  }
}

/** Who speaks in samples. */
const nodesOf = (samples) => [...new Set(samples.flatMap((s) => s.turns.map((turn) => turn.node)))].sort(inOrder);

/** Messages as code, with a mark where the limit cut them off. */
function says(turns) {
  return turns.length ? turns.map((turn) => el("code", {}, turn.text || "(empty)", turn.truncated ? " ✂" : "")) : "–";
}

/** Fill a choice, keeping what is chosen. */
function choices(select, values, all = null) {
  const chosen = select.value;
  const options = values.map((value) => el("option", { value }, value));
  select.replaceChildren(...(all ? [el("option", { value: "" }, all)] : []), ...options);
  if ([...select.options].some((option) => option.value === chosen)) select.value = chosen;
}
