// The form: a question goes in, the server's stream comes out as calls of `hear`.

import { stream } from "./api.js";
import { byId } from "./dom.js";

/** hear: {begin(question), writes(node, text), said(turn), answers(text), end(example)}. examples: questions of the task, in turn. */
export function askForm(model, examples, hear) {
  const [form, field, error] = [byId("ask"), byId("question"), byId("ask-error")];
  let under_way = null;
  byId("ask-task").textContent = examples[0]?.instruction ? `The answering node is told: ${examples[0].instruction.trim()}` : "";

  const busy = (on) => {
    byId("send").disabled = on;
    byId("stop").hidden = !on;
  };

  async function ask() {
    const question = field.value;
    if (under_way || !question.trim()) return field.focus();
    under_way = new AbortController();
    error.textContent = "";
    busy(true);
    hear.begin(question);
    try {
      await stream(body(model, question), under_way.signal, listener(hear));
    } catch (fault) {
      if (fault.name !== "AbortError") error.textContent = `That did not work: ${fault.message}`;
    }
    under_way = null;
    busy(false);
    const example = examples.findIndex((one) => one.text === question);
    hear.end(example < 0 ? null : { ...examples[example], number: example });
  }

  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  byId("stop").addEventListener("click", () => under_way?.abort());
  let next = 0;
  byId("example").hidden = !examples.length;
  byId("example").addEventListener("click", () => {
    field.value = examples[next++ % examples.length].text;
    field.focus();
  });
}

function body(model, question) {
  const seed = byId("seed").value;
  return {
    model,
    messages: [{ role: "user", content: question }],
    temperature: Number(byId("temperature").value || 0),
    ...(seed === "" ? {} : { seed: Number(seed) }),
  };
}

/** From the server's chunks to whole texts. */
function listener(hear) {
  const texts = new Map();
  let answer = "";
  return (chunk) => {
    const { node, delta, turn } = chunk.neuromas;
    if (delta) {
      texts.set(node, (texts.get(node) ?? "") + delta);
      hear.writes(node, texts.get(node));
    }
    if (turn) hear.said(turn);
    for (const choice of chunk.choices) {
      if (!choice.delta.content) continue;
      answer += choice.delta.content;
      hear.answers(answer);
    }
  };
}
