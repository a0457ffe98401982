"""Asking a system the questions of a task and counting honestly."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuromas.errors import TaskError
from neuromas.evaluate.room import check_prompts
from neuromas.evaluate.stats import wilson
from neuromas.network.forward import Network
from neuromas.results import AnswerRecord, MessageRecord, Result, Score, TopAnswer
from neuromas.tasks.base import Split, Task
from neuromas.tasks.parsing import conclusion
from neuromas.tasks.reward import graded
from neuromas.types import Grade, Question, System, Trace, messages_cut
from neuromas.workers import ALONE, Workers

# Costs of one question; results hold their means.
COSTS = ("calls", "sequential_calls", "generated_tokens", "sequential_tokens", "prompt_tokens", "dropped_tokens")


@dataclass
class Evaluation:
    """One system on one split."""

    result: Result
    records: list[AnswerRecord]  # one per question
    traces: list[Trace]
    questions: list[Question] = field(default_factory=list[Question])  # those that got a verdict


def evaluate(
    system: System,
    task: Task,
    split: Split = "test",
    limit: int | None = None,
    *,
    greedy: bool = True,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    workers: Workers = ALONE,
    **options: Any,
) -> Evaluation:
    """Ask the first `limit` questions of a split (all by default), one answer each.

    options go to `system.answer` (a network takes `blank`). progress is called with (done, all). workers: each asks its
    share; all get the same evaluation.
    """
    asked = task.questions(split)[:limit]
    if not asked:
        raise TaskError(
            f"task {task.name!r} has no {split} questions to ask (limit {limit}); raise the limit or the size"
        )

    if isinstance(system, Network):
        check_prompts(system, task, asked)

    def ask(mine: list[Question]) -> tuple[list[Trace], list[Grade]]:
        traces: list[Trace] = []
        size = len(mine) if progress is None else 64
        for start in range(0, len(mine), max(1, size)):
            traces += system.answer(mine[start : start + size], greedy=greedy, seed=seed, **options)
            if progress is not None:
                progress(len(traces), len(mine))
        return traces, graded(task, mine, [trace.answer for trace in traces], abstain=True)

    shares = workers.each(lambda: ask(list(workers.share(asked))))
    traces = [trace for share, _ in shares for trace in share]
    grades = [grade for _, share in shares for grade in share]
    judged = [(q, t, g) for q, t, g in zip(asked, traces, grades, strict=True) if not g.abstained]
    if not judged:
        raise TaskError(f"task {task.name!r}: the reward is None for all {len(asked)} replies; return some numbers")
    records, traces = [record(*one) for one in judged], [trace for _, trace, _ in judged]
    result = Result(
        **vars(summarise(records)),
        task=task.name,
        task_version=task.version,
        split=split,
        seed=seed,
        decoding=decoding_name(system, greedy),
        fit=getattr(system, "fit_cost", None),
        system=system.name,
        trainable_parameters=system.trainable_parameters,
        floors=task.floors(split, limit),
        messages_cut=messages_cut(traces),
        abstained=len(asked) - len(judged) or None,
    )
    return Evaluation(result, records, traces, [question for question, _, _ in judged])


def decoding_name(system: System, greedy: bool) -> str:
    """The way of decoding, in words; systems that always sample, or sample in part, say so themselves."""
    return getattr(system, "decoding_name", None) or (getattr(system, "greedy_name", "greedy") if greedy else "sampled")


def record(question: Question, trace: Trace, grade: Grade) -> AnswerRecord:
    """The record that is kept of one answered question."""
    return AnswerRecord(
        id=question.id,
        answer=question.answer,
        parsed=grade.parsed,
        reward=grade.reward,
        reply=trace.answer,
        ambiguous=grade.ambiguous,
        calls=len(trace.calls),
        sequential_calls=trace.sequential_calls,
        generated_tokens=trace.generated_tokens,
        sequential_tokens=trace.sequential_tokens,
        prompt_tokens=trace.prompt_tokens,
        dropped_tokens=sum(call.dropped_tokens for call in trace.calls),
        messages=[MessageRecord(c.node, c.text, c.truncated) for c in trace.calls],
    )


def summarise(records: Sequence[AnswerRecord]) -> Score:
    """The score of one system over its records, one a question."""
    n, right = len(records), sum(r.reward for r in records)
    share = lambda true: sum(map(true, records)) / n or None
    answer, count = Counter(r.parsed for r in records).most_common(1)[0]
    return Score(
        n=n,
        seeds=1,
        accuracy=right / n,
        ci95=wilson(right, n),
        parse_rate=sum(r.parsed is not None for r in records) / n,
        answers_cut=share(lambda r: bool(r.messages) and r.messages[-1].truncated),
        thoughts_cut=share(lambda r: bool(r.reply.strip()) and not conclusion(r.reply).strip()),
        ambiguous=share(lambda r: r.ambiguous),
        top_answer=TopAnswer(answer, count / n),
        **{cost: sum(getattr(r, cost) for r in records) / n for cost in COSTS},
    )
