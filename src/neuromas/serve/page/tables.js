// What is known of the run besides its lines: worth of nodes, growth, test figures, a comparison.

import { byId, dot, el, interval, percent, points, short, table, wide } from "./dom.js";

export function showTables(run) {
  worths(run.worths);
  lineage(run.lineage);
  results(run.results, run.warnings);
  comparison(run.comparison);
}

function worths(found) {
  byId("worth").hidden = !found.length;
  byId("worth-tables").replaceChildren(...found.map((one) => wide(table(
    `${one.decoding}: ${percent(one.accuracy)} of ${one.n} ${one.split} questions right, ${percent(one.nobody)} without any message`,
    ["node", "#points lost without it [95 %]", "#Shapley value [95 %]", "verdict"],
    Object.entries(one.nodes).map(([id, node]) => [id, `${points(node.cost)} ${interval(node.cost_ci95)}`,
      `${points(node.shapley)} ${interval(node.shapley_ci95)}`, node.verdict])))));
}

function lineage(grown) {
  byId("growth").hidden = !grown.length;
  byId("lineage").replaceChildren(...grown.map((growth) => el("li", {},
    el("b", {}, `after step ${growth.step}: `), growth.operators.join(", "),
    ` · new: ${growth.new.join(", ") || "edges only"} · begun by ${growth.init}`,
    growth.run ? ` · out of ${growth.run}${growth.checkpoint ? `, ${growth.checkpoint}` : ""}` : "")));
}

function results(found, warnings) {
  byId("results").hidden = !found.length;
  byId("warnings").replaceChildren(...warnings.map((text) => el("li", {}, text)));
  if (!found.length) return;
  const floor = found[0].floors.best_constant;
  const rows = found.map((one) => [one.checkpoint, one.decoding + (one.votes ? `, ${one.votes} votes` : ""), one.delivery ?? "as sent",
    percent(one.accuracy), interval(one.ci95), dot(one.accuracy, one.ci95, one.floors.best_constant), percent(one.parse_rate),
    short(one.calls), short(one.generated_tokens)]);
  byId("result-table").replaceChildren(wide(table(`${found[0].n} test questions; the best constant answer gets ${percent(floor)} (dashed)`,
    ["checkpoint", "decoding", "messages", "#accuracy", "#95 %", "0 to 100 %", "#readable", "#calls", "#tokens"], rows)), ...unread(found, (one) => `${one.checkpoint}, ${one.decoding}`));
}

/** What became of the answers that could not be read whole, a line a row; nothing where all could be. */
function unread(rows, name) {
  const told = (row) => [[row.messages_cut, "of the messages were cut by the token limit"],
    [row.answers_cut, "of the answers were cut by the token limit"], [row.thoughts_cut, "have nothing behind their thoughts"],
    [row.ambiguous, "commit to several answers at once"]].filter(([share]) => share).map(([share, fate]) => `${share < .0005 ? "under 0.1 %" : percent(share)} ${fate}`);
  return rows.filter((row) => told(row).length).map((row) => el("p", { class: "hint" }, `${name(row)}: ${told(row).join(", ")}`));
}

function comparison(found) {
  byId("comparison").hidden = !found;
  if (!found) return;
  const tasks = [...new Set(found.rows.map((row) => row.task))];
  byId("comparison-table").replaceChildren(el("p", { class: "hint" }, found.title), ...tasks.flatMap((task) => {
    const rows = found.rows.filter((row) => row.task === task).sort((a, b) => b.accuracy - a.accuracy);
    return [wide(table(`${task}: ${rows[0].n} questions; the best constant answer gets ${percent(rows[0].floors.best_constant)} (dashed)`,
      ["system", "#accuracy", "#95 %", "0 to 100 %", "#seeds", "#to reference", "#p (Holm)", "#calls", "#trainable"],
      rows.map((row) => [row.system + (row.reference ? " (reference)" : ""), percent(row.accuracy), interval(row.ci95),
        dot(row.accuracy, row.ci95, row.floors.best_constant), String(row.seeds),
        row.versus_reference ? points(row.versus_reference.difference) : "–",
        row.versus_reference?.p_holm?.toPrecision(2) ?? "–",
        short(row.calls), row.trainable_parameters.toLocaleString("en")]))), ...unread(rows, (row) => row.system)];
  }));
}
