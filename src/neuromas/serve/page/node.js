// The panel of one node: what it reads, says, how sure it was, and what it is worth.

import { el, interval, percent, points, short, table, wide } from "./dom.js";

/** turn: what it said, null before it has spoken. worths: of `neuromas inspect`, a list. */
export function nodePanel(panel, node, turn, worths, readers) {
  const list = (ids) => (ids.length ? ids.join(", ") : null);
  const reads = list([...(node.sees_question ? ["the question"] : []), ...node.upstream]);
  panel.replaceChildren(...[
    el("h3", { id: "node-title" }, `Node ${node.id}`),
    el("p", { class: "hint" }, [
      `layer ${node.layer}`, reads && `reads ${reads}`, readers.length ? `read by ${list(readers)}` : "its message is the answer",
    ].filter(Boolean).join(" · ")),
    worths.length ? worth(node.id, worths) : null,
    ...(turn ? said(turn) : [el("p", { class: "empty" }, "Ask a question, and what it reads and says is shown here.")]),
  ].filter(Boolean));
}

/** A panel before any node is chosen. */
export function emptyPanel(panel, words) {
  panel.replaceChildren(el("h3", { id: "node-title" }, "Node"), el("p", { class: "empty" }, words));
}

function worth(id, worths) {
  const found = worths.filter((one) => one.nodes[id]);
  if (!found.length) return el("p", { class: "hint" }, "The output node: without it there is no answer, so it has no value of its own.");
  const rows = [["lost without it", "cost"], ["Shapley value", "shapley"]].map(([name, key]) => [name,
    ...found.map((one) => el("span", {}, points(one.nodes[id][key]), " ", el("small", {}, interval(one.nodes[id][`${key}_ci95`]))))]);
  return wide(table("Worth, in points of accuracy [95 %]", ["", ...found.map((one) => one.decoding)],
    [...rows, ["verdict", ...found.map((one) => one.nodes[id].verdict)]]));
}

function said(turn) {
  const message = el("section", { "aria-label": "Message" }, el("h4", {}, turn.truncated ? "Message (cut off by its limit)" : "Message"),
    el("pre", { class: "message" }, turn.text || "(empty)"));
  if (!turn.tokens) return [message];
  return [message, tokens(turn.tokens),
    el("details", { open: "" }, el("summary", {}, "Prompt"), el("pre", { tabindex: "0", "aria-label": "Prompt" }, turn.prompt))];
}

/** Each token on a ground that is the stronger the less likely it was. */
function tokens(list) {
  const visible = (text) => (text === "" ? "∎" : text.replaceAll("\n", "↵").replaceAll(" ", "␣"));
  const doubt = (logprob) => `doubt${Math.min(4, Math.floor(5 * (1 - Math.exp(logprob)) + 1e-9))}`;
  const rows = list.map(({ token, logprob, entropy }) => [
    el("code", {}, visible(token)), percent(Math.exp(logprob), 2), short(entropy)]);
  return el("section", { "aria-label": "Tokens" },
    el("h4", {}, "Tokens, darker where less likely"),
    el("p", { class: "tokens" }, list.map(({ token, logprob, entropy }) => el("span",
      { class: doubt(logprob), title: `${percent(Math.exp(logprob), 2)}, entropy ${short(entropy)} nats` }, visible(token)))),
    el("details", {}, el("summary", {}, "Probabilities"),
      wide(table("Tokens in order; ∎ ends the message", ["token", "#probability", "#entropy (nats)"], rows))));
}
