"""Small parts by which things are shown: characters, notebooks, bars, curves."""

import json
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from neuromas.cli.show import percent, sparkline
from neuromas.evaluate.figure import accuracy_cost_figure, save_figure
from neuromas.markup import html_grid, html_table, svg
from neuromas.network.textgrid import Grid
from neuromas.progress import progress_bar
from neuromas.results import ComparisonRow, StepMetrics, ValidationMetrics
from neuromas.run.folder import flat
from neuromas.run.plots import smooth


def drawn(*lines: tuple[str, int, int, int]) -> str:
    """A sheet with horizontal ("h", from, to, row) and vertical ("v", column, from, to) lines."""
    grid = Grid()
    for kind, *at in lines:
        (grid.horizontal if kind == "h" else grid.vertical)(*at)
    return str(grid)


@pytest.mark.parametrize(
    "lines, picture",
    [
        ([("h", 0, 2, 1), ("v", 1, 0, 2)], " │\n─│─\n │"),
        ([("h", 0, 2, 1), ("v", 1, 0, 1)], " │\n─┴─"),
        ([("h", 0, 2, 1), ("v", 1, 1, 2)], "─┬─\n │"),
        ([("h", 0, 2, 1), ("v", 1, 0, 1), ("v", 1, 1, 2)], " │\n─┼─\n │"),
        ([("h", 0, 1, 0), ("v", 1, 0, 1)], "─┐\n │"),
    ],
    ids=["they cross", "one ends on it", "one starts on it", "two meet on it", "a corner"],
)
def test_lines_that_cross_are_broken_and_lines_that_meet_are_joined(lines: list[Any], picture: str) -> None:
    assert drawn(*lines).removeprefix("\n") == picture


def test_a_box_frames_its_lines_and_the_margin_is_cut() -> None:
    grid = Grid()
    grid.box(4, 0, 5, ["a", "bcd"])
    assert str(grid) == "┌───┐\n│ a │\n│bcd│\n└───┘"


def test_html_shows_hostile_text_as_text() -> None:
    hostile = "<b onclick='x()'>&"
    for page in (html_table(hostile, [(hostile, hostile)]), html_grid(hostile, [hostile], [[hostile]])):
        assert "<b" not in page and "onclick='" not in page
        assert page.count("&lt;b onclick=&#x27;x()&#x27;&gt;&amp;") == 3
    assert html_grid("t", ["a", "b"], [["1", "2"]]).count("<tr>") == 2


PUBLISHED = Path(__file__).parents[2] / "docs/results/compare_tiny_compositional/summary.json"


@pytest.mark.parametrize("alike", [False, True], ids=["as published", "all in one place"])
def test_no_number_of_a_comparisons_plot_lies_on_another(alike: bool) -> None:
    rows = [ComparisonRow.from_dict(row) for row in json.loads(PUBLISHED.read_text())]
    if alike:
        rows = [
            replace(row, **{name: getattr(rows[0], name) for name in ("generated_tokens", "accuracy", "ci95")})
            for row in rows
        ]
    figure = accuracy_cost_figure(rows)
    figure.draw_without_rendering()
    numbers = figure.axes[0].texts
    assert [number.get_text() for number in numbers] == [str(place + 1) for place in range(len(rows))]
    boxes = [Text.get_window_extent(number) for number in numbers]
    assert [(i + 1, j + 1) for (i, a), (j, b) in combinations(enumerate(boxes), 2) if a.overlaps(b)] == []
    assert all(figure.axes[0].bbox.contains(*box.get_points().mean(axis=0)) for box in boxes)


def test_a_figure_is_saved_whole_with_the_look_of_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = Figure()
    axes = figure.subplots()
    assert svg(figure).startswith("<svg") and svg(figure).rstrip().endswith("</svg>")
    path = save_figure(figure, tmp_path / "curve.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert not axes.spines["top"].get_visible() and axes.spines["left"].get_visible()
    before = path.read_bytes()
    monkeypatch.setattr(figure, "savefig", lambda file, **_: file.write_text("half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_figure(figure, path)
    assert path.read_bytes() == before


def test_smoothing_is_a_mean_from_the_first_value_on() -> None:
    assert smooth([]) == []
    assert smooth([0.5, 0.5, 0.5]) == pytest.approx([0.5, 0.5, 0.5])
    assert smooth([0.0, 1.0], weight=0.5) == pytest.approx([0.0, 1 / 1.5])


def test_curves_and_intervals_in_a_line() -> None:
    assert sparkline([0.0, 0.5, 1.0, 2.0, -1.0]) == " ▄██ "
    assert len(sparkline([1.0] * 500, width=40)) == 40
    assert percent(0.5, (0.25, 0.75)) == "50.0% [25.0, 75.0]"
    assert percent(0.5, (0.25, 0.75), digits=0) == "50.0% [25, 75]"


def test_numbers_of_a_nested_record_go_by_their_path() -> None:
    line = {"step": 3, "reward": 0.5, "top_answer": "7", "nodes": {"1.1": {"entropy": 0.25}}, "checked": True}
    assert {"step": 3, "reward": 0.5, "nodes/1.1/entropy": 0.25}.items() <= flat(line).items()
    assert "top_answer" not in flat(line)


VALIDATION = ValidationMetrics(accuracy=0.75, ci95=(0.5, 0.9), n=8, parse_rate=1.0, top_answer=None)


class Handle:
    shown: list[str]

    def __init__(self) -> None:
        self.shown = []

    def update(self, html: str) -> None:
        self.shown.append(html)


JUPYTER = type("ZMQInteractiveShell", (), {})


@pytest.fixture(params=[JUPYTER, type("Shell", (JUPYTER,), {})], ids=["Jupyter", "Colab"])
def notebook(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Handle:
    """A notebook's shell, as far as the bar looks at it."""
    handle, python, display = Handle(), ModuleType("IPython"), ModuleType("IPython.display")
    python.get_ipython = request.param  # type: ignore[attr-defined]
    display.HTML = str  # type: ignore[attr-defined]
    display.display = lambda _, display_id: handle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return handle


def test_a_notebook_shows_a_bar_that_moves(notebook: Handle) -> None:
    with progress_bar(4) as update:
        update(StepMetrics(step=1, reward=0.5))
        update(StepMetrics(step=4, reward=1.0, validation=VALIDATION))
    assert ['value="1"' in notebook.shown[0], 'value="4"' in notebook.shown[1]] == [True, True]
    assert notebook.shown[0].endswith("1 of 4 steps reward 0.50")
    assert notebook.shown[1].endswith("4 of 4 steps reward 1.00 validation 75.0%")


def test_a_bar_that_is_switched_off_shows_nothing(notebook: Handle, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(4, show=False) as update:
        update(StepMetrics(step=1, reward=0.5))
    assert notebook.shown == []
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar_when_asked_to(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(4, show=True) as update:
        update(StepMetrics(step=4, reward=0.5))
    assert "4/4" in capsys.readouterr().err
