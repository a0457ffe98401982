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


def test_answers_that_could_not_be_read_whole_are_told_of_every_result(final: FinalRecord, capsys) -> None:
    first, *others = final.results
    unread = replace(first, messages_cut=0.0002, answers_cut=0.25, thoughts_cut=0.004, ambiguous=0.5)
    print_final(replace(final, results=[unread, *others]))
    shown, row = " ".join(capsys.readouterr().out.split()), f"{first.checkpoint}, {first.decoding}"
    assert f"{row}: under 0.1% of the messages were cut by the token limit" in shown
    assert f"{row}: 25% of the answers were cut by the token limit" in shown
    assert f"{row}: 0.4% of the answers have nothing behind their thoughts" in shown
    assert f"{row}: 50% of the answers commit to several at once" in shown
    assert "50.0%" in unread._repr_html_() and "several at once" not in others[0]._repr_html_()
    print_final(replace(final, results=[replace(row, answers_cut=None) for row in final.results]))
    assert "several at once" not in capsys.readouterr().out


def test_a_bar_of_its_own_shows_what_is_measured_on_the_test_split(capsys) -> None:
    with TrainingView(2) as view:
        view(StepMetrics(step=2, reward=0.5))
        for number, what in enumerate(["untrained, greedy, as sent", "best, greedy, as sent"]):
            view.measures(what, number, 2)
        view.measures("", 2, 2)
    shown = capsys.readouterr().out
    assert "training" in shown and "measuring on the test split" in shown
    assert shown.count("2/2") == 2, "both are over"
