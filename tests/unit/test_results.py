"""Records of what was measured: their JSON form, and how they read."""

import json
from pathlib import Path
from typing import Any

import pytest

from neuromas.files import read_json_lines
from neuromas.results import (
    CellAnswer,
    CellRecord,
    CellResult,
    ComparisonRow,
    FitCost,
    MessageCost,
    NodeMetrics,
    Result,
    Score,
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
    kinds = {StepMetrics: lines, Result: finals, ComparisonRow: rows, CellRecord: cells, CellAnswer: answers}
    for kind, records in kinds.items():
        assert len(records) > 1
        for record in records:  # as text: the keys keep their order too
            assert json.dumps(kind.from_dict(record).to_dict()) == json.dumps(record)


def a_cell(**changes: Any) -> dict[str, Any]:
    """A line of cells.jsonl as it stands before the system has said anything of itself."""
    return {
        "comparison": "Sums",
        "system": "network",
        "task": "sums",
        "seed": 1,
        "split": "test",
        "task_version": 1,
        "n": 8,
        "floors": vars(Floors(0.1, 0.2, 0.25, "3")),
        "backbone": "tiny",
        "about": "trained network 2",
        "control_for": [],
        "reference": True,
        "delivery": "as sent",
        "samples": 640,
        "matched_samples": True,
        "learning_rate": 0.001,
        "validation_by_rate": {"0.001": 0.5},
        "note": "",
        **changes,
    }


def test_a_cell_and_its_answers_have_one_key() -> None:
    cell = CellRecord.from_dict(a_cell())
    of_answer = {"system": "network", "task": "sums", "seed": 1, "index": 3, "id": "q", "answer": "3", "parsed": None}
    counts = dict.fromkeys(("calls", "sequential_calls", "generated_tokens", "sequential_tokens", "prompt_tokens"), 1)
    line = of_answer | {"reward": 0.0, "reply": "", **counts, "dropped_tokens": 0, "messages": None}
    assert CellAnswer.from_dict(line).key == cell.key == ("network", "sums", 1)
    assert list(CellAnswer.from_dict(line).to_dict())[:5] == ["system", "task", "seed", "index", "id"]


def test_a_planned_cell_takes_from_another_what_only_the_system_knows() -> None:
    cost = FitCost(questions=2, calls=4, prompt_tokens=9, generated_tokens=5, reward=1.0)
    answered = CellRecord.from_dict(a_cell()).of_system(
        CellRecord.from_dict(a_cell(note="an old one", decoding="sampled", trainable_parameters=7, fit=cost.to_dict()))
    )
    assert answered.to_dict() == a_cell(decoding="sampled", trainable_parameters=7, fit=cost.to_dict())
    assert CellRecord.from_dict(a_cell()).to_dict() == a_cell(), "what is not known yet is not written"


def test_the_result_of_a_cell_is_the_cell_and_then_its_score() -> None:
    score = {name: value for name, value in vars(a_result()).items() if name in Score.__dataclass_fields__}
    record = CellRecord.from_dict(a_cell(decoding="greedy", trainable_parameters=7))
    written = CellResult(**vars(record) | score).to_dict()
    assert list(written)[: len(record.to_dict())] == list(record.to_dict())
    assert (written["accuracy"], written["top_answer"]) == (0.5, {"answer": "3", "share": 0.5})


@pytest.mark.parametrize(
    "changes, named", [({"n": "many"}, "n"), ({"control_for": "x"}, "control_for"), ({"floors": {}}, "floors.chance")]
)
def test_a_damaged_record_is_refused_by_the_field(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        CellRecord.from_dict(a_cell(**changes))


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
