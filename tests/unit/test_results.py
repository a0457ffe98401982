"""Records of what was measured: their JSON form, and how they read."""

import json
from pathlib import Path
from typing import Any

import pytest

from neuromas.files import read_json_lines
from neuromas.results import (
    AnswerRecord,
    CellRecord,
    ComparisonRow,
    FitCost,
    MessageCost,
    NodeMetrics,
    Result,
    Silenced,
    StepMetrics,
    TopAnswer,
    ValidationMetrics,
)
from neuromas.types import Floors

KEPT = Path(__file__).parents[2] / "docs" / "results"  # files that earlier builds wrote


def a_result(**changes: Any) -> Result:
    given: dict[str, Any] = {
        "task": "sums",
        "task_version": 1,
        "split": "test",
        "seed": 0,
        "decoding": "greedy",
        "system": "run (best)",
        "n": 8,
        "seeds": 1,
        "accuracy": 0.5,
        "ci95": (0.2, 0.8),
        "parse_rate": 0.75,
        "top_answer": TopAnswer("3", 0.5),
        "calls": 3.0,
        "sequential_calls": 2.0,
        "generated_tokens": 12.5,
        "sequential_tokens": 9.0,
        "prompt_tokens": 40.0,
        "dropped_tokens": 0.0,
        "trainable_parameters": 18432,
        "floors": Floors(0.1, 0.2, 0.25, "3"),
    }
    return Result(**given | changes)


def test_a_record_writes_what_it_reads() -> None:
    lines = [json.loads(text) for text in (KEPT / "smollm2_navigate_grown" / "metrics.jsonl").open()]
    finals = json.loads((KEPT / "smollm2_navigate_grown" / "final.json").read_text())["results"]
    rows = json.loads((KEPT / "compare_tiny_compositional" / "summary.json").read_text())
    cells = [json.loads(text) for text in (KEPT / "compare_tiny_compositional" / "cells.jsonl").open()]
    answers = read_json_lines(KEPT / "compare_tiny_compositional" / "answers.jsonl.gz")[:100]
    answers = [{k: v for k, v in line.items() if k not in ("system", "task", "seed", "index")} for line in answers]
    kinds = {StepMetrics: lines, Result: finals, ComparisonRow: rows, CellRecord: cells, AnswerRecord: answers}
    for kind, records in kinds.items():
        assert len(records) > 1
        for record in records:  # as text: the keys keep their order too
            assert json.dumps(kind.from_dict(record).to_dict()) == json.dumps(record)


def test_early_files_are_read_without_the_counts_that_they_lack() -> None:
    final = json.loads((KEPT / "smollm2_navigate_single" / "final.json").read_text())
    assert {Result.from_dict(row).sequential_tokens for row in final["results"]} == {None}


def test_null_and_absent_differ_where_the_files_tell_them_apart() -> None:
    assert StepMetrics(step=0).to_dict() == {"step": 0}
    unreadable = StepMetrics(step=1, reward=0.0, equal_reward_groups=1.0, top_answer=None, top_answer_share=1.0)
    assert list(unreadable.to_dict()) == ["step", "reward", "equal_reward_groups", "top_answer", "top_answer_share"]
    assert unreadable.to_dict()["top_answer"] is None
    assert TopAnswer(None, 1.0).to_dict() == {"answer": None, "share": 1.0}
    assert Silenced().to_dict() == {}
    assert NodeMetrics(entropy=0.0).to_dict() == {"entropy": 0.0}


def test_nested_records_become_plain_json() -> None:
    cost = Silenced(n=4, all=MessageCost(0.5, 0.75), nodes={"1.1": MessageCost(0.0, 0.25)})
    checked = ValidationMetrics(accuracy=0.5, ci95=(0.2, 0.8), n=8, parse_rate=1.0, top_answer=TopAnswer("3", 0.5))
    line = StepMetrics(step=2, nodes={"out": NodeMetrics(kl=0.1)}, validation=checked).to_dict()
    assert line["nodes"] == {"out": {"kl": 0.1}} and line["validation"]["ci95"] == [0.2, 0.8]
    assert StepMetrics.from_dict(json.loads(json.dumps(line))).validation == checked
    assert cost.to_dict() == {
        "n": 4,
        "all": {"cost": 0.5, "changed": 0.75},
        "nodes": {"1.1": {"cost": 0.0, "changed": 0.25}},
    }


def test_a_result_reads_as_a_sentence_with_everything_that_keeps_it_honest() -> None:
    fit = FitCost(questions=4, calls=8, prompt_tokens=30, generated_tokens=20, seconds=1.5, reward=3.0)
    assert str(a_result(delivery="blanked", votes=3, fit=fit)) == (
        "run (best) on sums (test), greedy, messages blanked, vote of 3\n"
        "accuracy 50.0% [20.0%, 80.0%], n = 8, 1 seed, parse rate 75.0%\n"
        "per question 3 calls (2 in sequence) and 12.5 generated tokens; 18,432 trainable parameters\n"
        "floors on these 8 questions: chance 10.0%, majority of training answers 20.0%, best constant ('3') 25.0%\n"
        "fitted before on 4 train questions: 8 calls, 30 prompt and 20 generated tokens (not counted above), "
        "75.0% right"
    )
    assert "n = 8, 3 seeds" in str(a_result(seeds=3))


def test_damaged_records_are_refused_with_the_field_named() -> None:
    with pytest.raises(ValueError, match="accuracy"):
        Result.from_dict(a_result().to_dict() | {"accuracy": "high"})
    with pytest.raises(ValueError, match="step"):
        StepMetrics.from_dict({"learning_rate": 0.1})
