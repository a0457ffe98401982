"""The studies run, in sizes of a second: each writes lines of the same keys as the published ones."""

import re
from pathlib import Path

import pytest

from helpers import tool
from neuromas import Grade, Question
from neuromas.files import read_json_lines
from neuromas.network.backbone import Backbone
from studies.capacity import study as capacity
from studies.credit import study as credit
from studies.dropout import study as dropout
from studies.forms import reward as forms
from studies.growth import study as growth
from studies.growth import ways

RESULTS = Path(__file__).parents[2] / "docs/results"
shrunk = tool("same_numbers").shrunk


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.load("tiny", device="cpu", dtype="float32")


def small(recipe: Path, folder: Path) -> Path:
    """A copy of a recipe that trains one step on two questions."""
    text = shrunk(recipe.read_text(encoding="utf-8"), 1000)
    text = re.sub(r"(?m)^(validation_questions|silence_questions) = .*\n", "", text)
    text = re.sub(r"(?m)^(questions|rollouts) = \d+", r"\1 = 2", text)
    text = text.replace("[train]\n", "[train]\nvalidation_questions = 2\nsilence_questions = 0\n")
    path = folder / recipe.name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "reply, read",
    [
        ("Fifteen.", "fifteen"),
        ("(8 + 4) * 6 = 12 * 6, so seventy two", "seventy-two"),
        ("six, no: sixty-six", "sixty-six"),
        ("one hundred fifteen", "hundred-fifteen"),
        ("72", None),
    ],
)
def test_numbers_in_words_are_read_whole(reply: str, read: str | None) -> None:
    assert forms.score(Question("id", "text", "fifteen"), reply) == Grade(float(read == "fifteen"), read)


@pytest.mark.slow
def test_growth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: Backbone) -> None:
    monkeypatch.setattr(ways, "RECIPES", {part: small(recipe, tmp_path) for part, recipe in ways.RECIPES.items()})
    monkeypatch.setattr(growth, "TEST", 2)
    monkeypatch.setattr(growth, "INITS", ("fade",))
    monkeypatch.setattr(growth, "TARGETS", ("3",))
    growth.keep(tmp_path, [0], backbone)
    growth.compare("sizes", [[("scratch", 3)]], tmp_path, [0], backbone)
    for name in ("keep", "sizes"):
        (line,) = read_json_lines(tmp_path / f"{name}.jsonl")
        assert line.keys() == read_json_lines(RESULTS / f"growth_tiny/{name}.jsonl")[-1].keys()


@pytest.mark.slow
def test_dropout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: Backbone) -> None:
    monkeypatch.setattr(dropout, "RECIPE", small(dropout.RECIPE, tmp_path))
    monkeypatch.setattr(dropout, "N", 2)
    line = dropout.measure(tmp_path, 0.1, 0, backbone)
    assert line.keys() == read_json_lines(RESULTS / "dropout_tiny/dropout.jsonl")[0].keys()


@pytest.mark.slow
def test_credit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credit, "RECIPE", small(credit.RECIPE, tmp_path))
    monkeypatch.setattr(credit, "KINDS", {"leave_one_out": {"estimator": "leave_one_out", "rollouts": 2}})
    monkeypatch.setattr(credit, "TRAINED", (0,))
    monkeypatch.setattr(credit, "VALIDATION", 2)
    credit.measure_variance(tmp_path / "variance.jsonl", draws=2)
    credit.run_once(tmp_path / "learning.jsonl", "leave_one_out", 1e-3, 0)
    for name in ("variance", "learning"):
        (line,) = read_json_lines(tmp_path / f"{name}.jsonl")
        assert line.keys() == read_json_lines(RESULTS / f"credit_tiny_compositional/{name}.jsonl")[0].keys()


@pytest.mark.parametrize("method", ["joint", "supervised"])
def test_capacity(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: Backbone) -> None:
    monkeypatch.setattr(capacity, "RECIPE", small(capacity.RECIPE, tmp_path))
    monkeypatch.setattr(capacity, "SUPERVISED", capacity.SUPERVISED | {"train.steps": 1, "train.questions": 2})
    monkeypatch.setattr(capacity, "TEST", 2)
    monkeypatch.setattr(capacity, "VALIDATION", 2)
    line = capacity.point(tmp_path, method, capacity.SHAPES[method][-1], 1e-3, 0, backbone)
    published = read_json_lines(RESULTS / "capacity_tiny/points.jsonl")
    assert line.keys() == published[0].keys()
