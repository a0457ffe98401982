"""Asking a system the questions of a task and counting honestly."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from neuromas.errors import TaskError
from neuromas.evaluate.stats import wilson
from neuromas.tasks.base import Split, Task
from neuromas.types import System, Trace


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
    grades = [task.grade(q, t.answer) for q, t in zip(asked, traces, strict=True)]
    n, right = len(asked), sum(g.reward for g in grades)
    answers = Counter("(unreadable)" if g.parsed is None else g.parsed for g in grades)
    top = answers.most_common(1)[0]
    result = {
        "system": system.name,
        "task": task.name,
        "task_version": task.version,
        "split": split,
        "decoding": getattr(system, "decoding_name", None) or ("greedy" if greedy else "sampled"),
        "n": n,
        "seeds": 1,
        "seed": seed,
        "accuracy": right / n,
        "ci95": list(wilson(right, n)),
        "parse_rate": sum(g.parsed is not None for g in grades) / n,
        "top_answer": {"answer": top[0], "share": top[1] / n},
        "calls": sum(len(t.calls) for t in traces) / n,
        "sequential_calls": sum(t.sequential_calls for t in traces) / n,
        "generated_tokens": sum(t.generated_tokens for t in traces) / n,
        "prompt_tokens": sum(t.prompt_tokens for t in traces) / n,
        "trainable_parameters": system.trainable_parameters,
        "floors": asdict(task.floors(split, limit)),
    }
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
