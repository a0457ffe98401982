"""What the terminal says after training."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from neuromas.cli.training import TrainingView, print_final
from neuromas.results import StepMetrics
from neuromas.run.final import FinalRecord

GROWN = Path(__file__).parents[2] / "docs/results/smollm2_navigate_grown/final.json"


@pytest.fixture
def final() -> FinalRecord:
    """A published run whose best checkpoint is one of three nodes and whose last is one of five."""
    return FinalRecord.from_dict(json.loads(GROWN.read_text(encoding="utf-8")))


def test_a_grown_run_whose_best_checkpoint_is_the_smaller_network_says_so(final: FinalRecord, capsys) -> None:
    print_final(final)
    assert "best: a network from before the last growth" in " ".join(capsys.readouterr().out.split())
    print_final(replace(final, results=[replace(row, trainable_parameters=5) for row in final.results]))
    assert "before the last growth" not in capsys.readouterr().out


def test_a_bar_of_its_own_shows_what_is_measured_on_the_test_split(capsys) -> None:
    with TrainingView(2) as view:
        view(StepMetrics(step=2, reward=0.5))
        for number, what in enumerate(["untrained, greedy, as sent", "best, greedy, as sent"]):
            view.measures(what, number, 2)
        view.measures("", 2, 2)
    shown = capsys.readouterr().out
    assert "training" in shown and "measuring on the test split" in shown
    assert shown.count("2/2") == 2, "both are over"
