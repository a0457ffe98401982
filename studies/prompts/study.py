"""Measures what words are worth in the prompts of untrained networks, on real backbones and validation questions.

usage: python -m studies.prompts.study OUT --backbone NAME=WHERE ... [--wordings NAME ...] [--topologies SPEC ...]

A study that is started again goes on where it stopped. WHERE is a folder with a Hugging Face model, a hub id, or a
built-in backbone. A line of OUT/prompts.jsonl for each wording of wordings.toml, backbone, task and topology: greedy
accuracy, the same with every message blanked, and the share of messages that hold something new and true.
"""

import ast
import itertools
import operator
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from neuromas.evaluate.run import evaluate
from neuromas.files import append_json_line, write_json_lines, write_text
from neuromas.network.adapters import AdapterBank
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits, Network
from neuromas.network.generate import Completion, generate
from neuromas.network.packed import Group
from neuromas.network.sampling import Decoding
from neuromas.network.wording import Words
from neuromas.prompt_config import PromptConfig
from neuromas.recipe import read_toml
from neuromas.tasks import load_task
from neuromas.tasks.base import Task
from neuromas.types import Question, Trace
from studies.shared import arguments, is_done

N = 48
LIMITS = Limits(message_tokens=16, answer_tokens=8, batch_rows=2 * N)
WORDINGS = read_toml(Path(__file__).with_name("wordings.toml"), "wordings")
TOPOLOGY = "1-1"
DIGITS = {"min_digits": 1, "max_digits": 1}
GYM = {
    "chain_sum": ("reasoning-gym/chain_sum", {"min_terms": 4, "max_terms": 4, **DIGITS}),
    "basic_arithmetic": ("reasoning-gym/basic_arithmetic", {"min_terms": 3, "max_terms": 3, **DIGITS}),
}
TASKS = ("steps", *GYM)
_OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_EXPRESSION = re.compile(r"[-(\d][-+*/()\d ]*[\d)]")
_NUMBER = re.compile(r"(?<![\d.)])-?\d+(?:\.\d+)?|\d+(?:\.\d+)?")


class Bare:
    """Samples greedily from the bare backbone, as an untrained network does. What all prompts begin with is read once,
    and a prompt that was answered before is not asked again."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._known: dict[tuple[tuple[int, ...], int], Completion] = {}

    def generate(
        self,
        bank: AdapterBank,
        groups: Sequence[Group],
        keys: Sequence[int],
        max_tokens: int,
        how: Decoding | Sequence[Decoding],
    ) -> list[Completion]:
        """The completions of all rows, in order; the `Engine` protocol."""
        prompts = [(*group.prefix_ids, *own) for group in groups for own in group.own_ids]
        new = [prompt for prompt in dict.fromkeys(prompts) if (prompt, max_tokens) not in self._known]
        if new:
            alike = len(list(itertools.takewhile(lambda ids: len(set(ids)) == 1, zip(*new, strict=False))))
            group = Group(0, list(new[0][:alike]), [list(prompt[alike:]) for prompt in new])
            made = generate(self.backbone, None, [group], [0] * len(new), max_tokens, Decoding(greedy=True))
            self._known |= zip([(prompt, max_tokens) for prompt in new], made, strict=True)
        return [self._known[prompt, max_tokens] for prompt in prompts]

    def close(self) -> None: ...


def task_of(name: str, out: Path) -> Task:
    """One of the three tasks; the rows of `steps` are written beside the results."""
    if name != "steps":
        gym, options = GYM[name]
        return load_task(gym, train_size=500, validation_size=N, test_size=200, **options)
    digits = range(1, 10)
    rows = [
        {"question": f"What is ({a} {sign} {b}) * {c}?", "answer": str((a + b if sign == "+" else a - b) * c)}
        for a, sign, b, c in itertools.product(digits, "+-", digits, digits)
    ]
    write_json_lines(out / "steps.jsonl", rows)
    settings = 'data = "steps.jsonl"\ngrader = "number"\ninstruction = "Answer with only the number."\n'
    write_text(out / "steps.toml", settings + "max_answer_tokens = 8\n")
    return load_task(str(out / "steps.toml"))


def values(question: str) -> set[float]:
    """The values of all sub-expressions of a question's expression, the whole one included; numbers are none."""
    found = max(_EXPRESSION.findall(question), key=len)
    out: set[float] = set()

    def value(node: ast.expr) -> float:
        if isinstance(node, ast.Constant):
            return float(str(node.value))
        if isinstance(node, ast.UnaryOp):
            return -value(node.operand)
        assert isinstance(node, ast.BinOp), question
        result = _OPERATORS[type(node.op)](value(node.left), value(node.right))
        out.add(result)
        return result

    value(ast.parse(found.strip(), mode="eval").body)
    return out


def numbers(text: str) -> set[float]:
    return set(map(float, _NUMBER.findall(text)))


def is_new_and_true(question: str, message: str) -> bool:
    """True if a message holds the value of a sub-expression that does not stand in the question."""
    return bool((numbers(message) & values(question)) - numbers(question))


def measure(
    engine: Bare, task: Task, questions: Sequence[Question], topology: str, words: PromptConfig, blank: bool
) -> dict[str, Any]:
    """The measures of one untrained network."""

    start, style = time.process_time(), engine.backbone.template.style
    made = Network.create(topology, engine.backbone, rank=1, limits=LIMITS, words=Words.of(words, style))
    made.engine = engine
    sent = evaluate(made, task, "validation", N)
    hidden = made.topology.nodes[:-1]
    blanked = evaluate(made, task, "validation", N, blank=hidden).result.accuracy if blank else None
    said = list(_said(questions, sent.traces))
    result = sent.result
    return {
        "n": result.n,
        "accuracy": result.accuracy,
        "blanked": blanked,
        "new_and_true": sum(is_new_and_true(q.text, text) for q, text in said) / len(said),
        "messages_cut": result.messages_cut,
        "parse_rate": result.parse_rate,
        "best_constant": result.floors.best_constant,
        "prompt_tokens": result.prompt_tokens,
        "generated_tokens": result.generated_tokens,
        "examples": [
            [question.text, [call.text for call in trace.calls], question.answer]
            for question, trace in list(zip(questions, sent.traces, strict=True))[:3]
        ],
        "cpu_seconds": round(time.process_time() - start, 1),
    }


def _said(questions: Sequence[Question], traces: Sequence[Trace]) -> Iterator[tuple[Question, str]]:
    for question, trace in zip(questions, traces, strict=True):
        yield from ((question, call.text) for call in trace.messages)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--backbone", nargs="+", required=True, metavar="NAME=WHERE")
    parser.add_argument("--wordings", nargs="+", choices=WORDINGS, default=list(WORDINGS))
    parser.add_argument("--topologies", nargs="+", default=[TOPOLOGY])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--no-blanked", dest="blanked", action="store_false", help="leave out what blanking costs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "prompts.jsonl"
    where = dict(entry.split("=", 1) for entry in args.backbone)
    engines: dict[str, Bare] = {}
    tasks = {name: task_of(name, args.out) for name in args.tasks}
    for wording, name, task, topology in itertools.product(args.wordings, where, tasks, args.topologies):
        cell = {"wording": wording, "backbone": name, "task": task, "topology": topology}
        if is_done(file, cell):
            continue
        if name not in engines:
            engines[name] = Bare(Backbone.load(where[name], device="cpu", dtype="bfloat16"))
        questions = tasks[task].questions("validation")[:N]
        words = PromptConfig(**WORDINGS[wording])
        append_json_line(file, cell | measure(engines[name], tasks[task], questions, topology, words, args.blanked))


if __name__ == "__main__":
    main()
