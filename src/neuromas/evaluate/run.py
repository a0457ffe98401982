"""Asking a system the questions of a task and counting honestly."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from neuromas.errors import TaskError
from neuromas.evaluate.stats import wilson
from neuromas.tasks.base import Split, Task
from neuromas.types import Grade, System, Trace


@dataclass
class Evaluation:
    """One system on one split."""

    result: dict[str, Any]  # the figures, ready for JSON; means are per question
    records: list[dict[str, Any]]  # one per question: id, answer, parsed, reward, messages
    traces: list[Trace]


def evaluate(
    system: System,
    task: Task,
    split: Split = "test",
    limit: int | None = None,
    *,
    greedy: bool = True,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Evaluation:
    """Ask the first `limit` questions of a split (all by default), one answer each.

    options go to `system.answer` (a network takes `blank`). progress is called with (done, all).
    """
    asked = task.questions(split)[:limit]
    if not asked:
        raise TaskError(
            f"task {task.name!r} has no {split} questions to ask (limit {limit}); raise the limit or the size"
        )
    traces: list[Trace] = []
    size = len(asked) if progress is None else 64
    for start in range(0, len(asked), max(1, size)):
        traces += system.answer(asked[start : start + size], greedy=greedy, seed=seed, **options)
        if progress is not None:
            progress(len(traces), len(asked))
    grades = task.grade_many(asked, [trace.answer for trace in traces])
    result: dict[str, Any] = {"task": task.name, "task_version": task.version, "split": split, "seed": seed}
    result |= {"decoding": _decoding(system, greedy)}
    if (cost := getattr(system, "fit_cost", None)) is not None:
        result["fit"] = asdict(cost)
    result |= summarise(system, traces, grades) | {"floors": asdict(task.floors(split, limit))}
    records = [
        {
            "id": q.id,
            "answer": q.answer,
            "parsed": g.parsed,
            "reward": g.reward,
            "reply": t.answer,
            "messages": [{"node": c.node, "text": c.text, "truncated": c.truncated} for c in t.calls],
        }
        for q, t, g in zip(asked, traces, grades, strict=True)
    ]
    return Evaluation(result, records, traces)


def _decoding(system: System, greedy: bool) -> str:
    """How answers were decoded, in words; systems that always sample, or sample in part, say so themselves."""
    return getattr(system, "decoding_name", None) or (getattr(system, "greedy_name", "greedy") if greedy else "sampled")


def summarise(system: System, traces: list[Trace], grades: list[Grade]) -> dict[str, Any]:
    """The figures of one system over its graded traces; tokens and calls are means per question."""
    n, right = len(grades), sum(g.reward for g in grades)
    answer, count = Counter(g.parsed for g in grades).most_common(1)[0]
    mean = lambda values: sum(values) / n
    return {
        "system": system.name,
        "n": n,
        "seeds": 1,
        "accuracy": right / n,
        "ci95": list(wilson(right, n)),
        "parse_rate": mean(g.parsed is not None for g in grades),
        "top_answer": {"answer": answer, "share": count / n},
        "calls": mean(len(t.calls) for t in traces),
        "sequential_calls": mean(t.sequential_calls for t in traces),
        "generated_tokens": mean(t.generated_tokens for t in traces),
        "prompt_tokens": mean(t.prompt_tokens for t in traces),
        "dropped_tokens": mean(c.dropped_tokens for t in traces for c in t.calls),
        "trainable_parameters": system.trainable_parameters,
    }
