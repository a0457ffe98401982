"""The study of node dropout: its report says what its lines say."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helpers import tool
from neuromas.files import read_json_lines

PUBLISHED = Path(__file__).parents[2] / "docs/results/dropout_tiny"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    return tool("dropout_study")


def test_the_published_report_is_made_of_the_published_lines(study: ModuleType) -> None:
    lines = read_json_lines(PUBLISHED / "dropout.jsonl")
    assert study.report(lines) == (PUBLISHED / "report.md").read_text(encoding="utf-8")


def test_the_worst_silenced_node_is_the_worst_of_each_run(study: ModuleType) -> None:
    def line(seed: int, *silenced: float) -> dict[str, Any]:
        found = {"whole": 1.0} | {f"1.{n}": value for n, value in enumerate(silenced)}
        same = {"floors": {"chance": 0.1, "best_constant": 0.2}, "parse_rate": 1.0, "calls": 3, "trainable": 5}
        return {"dropout": 0.1, "seed": seed, "n": 8, "greedy": found, "sampled": found, **same}

    text = study.report([line(1, 1.0, 0.5), line(0, 0.25, 0.75)])
    assert "| greedy | 0.1 | 2 | 100.0 (100 100) | 62.5 (50 75) | 37.5 (25 50) |" in text
