// The page: asks what is served, draws it, and follows what changes.

import { get, Refusal, useKey } from "./api.js";
import { askForm } from "./ask.js";
import { Curves } from "./curves.js";
import { byId, el, points, short } from "./dom.js";
import { Graph } from "./graph.js";
import { emptyPanel, nodePanel } from "./node.js";
import { Samples } from "./samples.js";
import { showTables } from "./tables.js";

const OFTEN = 3000, SELDOM = 20000; // milliseconds between looks at a run that is trained, and one that is done

const graph = new Graph(byId("graph"), choose);
const curves = new Curves();
const samples = new Samples();
const turns = new Map(); // node → what it said to the last question
let run = null, asking = false, asked = false, chosen = null;

async function look() {
  try {
    const found = await get("/run");
    const [{ lines }, told] = await Promise.all([
      get(`/run/metrics?after=${curves.last}`), get(`/run/samples?after=${samples.last}`)]);
    show(found);
    curves.show(lines, found);
    samples.add(told.samples);
    recall();
    headings();
  } catch (fault) {
    if (!(fault instanceof Refusal)) throw fault;
    if (fault.status === 401) return unlock();
    byId("progress").textContent = fault.message;
  }
  setTimeout(() => (document.hidden ? document.addEventListener("visibilitychange", look, { once: true }) : look()),
    run?.finished === false ? OFTEN : SELDOM);
}

function show(found) {
  const redraw = !run || JSON.stringify(run.shape) !== JSON.stringify(found.shape);
  run = found;
  document.title = `${run.name} · neuromas`;
  byId("name").textContent = run.name;
  byId("about").textContent = [run.task, run.backbone, run.method === "neuromas" ? null : run.method,
    run.seed === null ? null : `seed ${run.seed}`].filter(Boolean).join(" · ");
  byId("progress").textContent = run.steps === null ? "" :
    [run.finished ? `trained, ${run.step} steps` : `step ${Math.max(0, run.step)} of ${run.steps}`,
      run.answering === null || run.answering === run.step ? null : `the network of step ${run.answering} answers`]
      .filter(Boolean).join(" · ");
  byId("network").hidden = !run.shape && !run.model;
  if (redraw) {
    graph.draw(run.shape);
    emptyPanel(byId("node"), "Choose a node to see what it reads and says.");
    chosen = null;
  }
  const [worth] = run.worths;
  for (const [id, node] of Object.entries(worth?.nodes ?? {})) graph.note(id, `${points(-node.cost)} points without it`);
  showTables(run);
  if (!run.model || asking) return;
  asking = true;
  askForm(run.model, run.examples, { begin, writes, said, answers, end });
}

/** Until something is asked: what the nodes said at the last validation. */
function recall() {
  const sample = samples.validated;
  byId("recalled").hidden = asked || !sample || !run.shape;
  if (byId("recalled").hidden) return;
  byId("recalled").textContent = `Messages of the validation at step ${sample.step}.`;
  graph.begin(sample.question);
  turns.clear();
  for (const turn of sample.turns.filter(({ node }) => graph.nodes.has(node))) {
    turns.set(turn.node, turn);
    graph.done(turn.node, turn.node === run.shape.output ? sample.answer || turn.text : turn.text, turn.truncated);
  }
  if (chosen) choose(chosen);
}

function begin(question) {
  asked = true;
  byId("recalled").hidden = true;
  byId("grade").textContent = "";
  turns.clear();
  graph.begin(question);
  byId("answer").textContent = "";
  if (chosen) choose(chosen);
}

function writes(node, text) {
  graph.ensure(node);
  graph.writes(node, text);
}

function said(turn) {
  turns.set(turn.node, turn);
  graph.ensure(turn.node);
  graph.done(turn.node, turn.node === run.shape?.output ? byId("answer").textContent || turn.text : turn.text, turn.truncated);
  if (turn.node === chosen) choose(chosen);
}

function answers(text) {
  byId("answer").textContent = text;
  if (!run.shape) return;
  const turn = turns.get(run.shape.output); // the last of the text may come after its turn
  if (turn) graph.done(turn.node, text, turn.truncated);
  else graph.writes(run.shape.output, text);
}

/** example: the one that was asked, or null. Its right answer is known, and its task grades. */
async function end(example) {
  graph.end();
  const answer = byId("answer").textContent;
  if (!example || !answer) return;
  const place = `/run/grade?example=${example.number}&answer=${encodeURIComponent(answer)}`;
  const grade = await get(place).catch((error) => ({ failed: error.message }));
  byId("grade").textContent = [`Right answer: ${example.answer}`, verdict(grade)].join(" · ");
}

/** What the page says of a grade, or of why there is none. */
function verdict({ reward, parsed, ambiguous, failed }) {
  if (failed) return `not graded: ${failed}`;
  if (reward === null) return "the reward gives no verdict";
  if (reward === 1) return "graded right";
  if (reward !== 0) return `graded ${short(reward)}`;
  if (ambiguous) return "graded wrong: it commits to several answers at once";
  return parsed === null ? "graded wrong: no answer can be read in it" : "graded wrong";
}

/** Show a node in the panel. */
function choose(id) {
  chosen = id;
  graph.select(id);
  const node = graph.nodes.get(id).node;
  const readers = (run.shape?.nodes ?? []).filter((other) => other.upstream.includes(id)).map((other) => other.id);
  nodePanel(byId("node"), node, turns.get(id) ?? null, run.worths, readers);
  samples.select(id);
  curves.select(id);
}

/** Links to the sections that there are. */
function headings() {
  const shown = [...document.querySelectorAll("main > section:not([hidden])")];
  const links = byId("sections");
  if (links.children.length === shown.length) return;
  links.replaceChildren(...shown.map((section) => el("a", { href: `#${section.id}` }, section.dataset.link ?? section.querySelector("h2").textContent)));
}

function unlock() {
  const box = byId("unlock");
  byId("unlock-error").textContent = box.dataset.tried ? "That key is wrong." : "";
  box.hidden = false;
  box.onsubmit = (event) => {
    event.preventDefault();
    useKey(byId("key").value);
    box.dataset.tried = "yes";
    box.hidden = true;
    look();
  };
}

look();
