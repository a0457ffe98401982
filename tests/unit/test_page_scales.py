"""The arithmetic of the page's charts and edges, by node where it is installed."""

import json
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from neuromas import serve

SCALES = Path(serve.__file__).parent / "page" / "scales.js"


@pytest.fixture(scope="module")
def scales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    module = tmp_path_factory.mktemp("page") / "scales.mjs"
    module.write_bytes(SCALES.read_bytes())
    return module


def value(scales: Path, expression: str) -> Any:
    """What an expression over the functions of scales.js gives."""
    code = f"import * as s from {json.dumps(scales.as_uri())}; console.log(JSON.stringify({expression}))"
    done = subprocess.run(["node", "--input-type=module", "-e", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "low, high", [(-0.03, 0), (0, 0), (0, 1), (-0.125, 0.125), (-5, -5), (0, 1e-7), (0, 123456), (-0.5, 0.1)]
)
def test_a_linear_axis_holds_its_values_and_ends_at_ticks(scales: Path, low: float, high: float) -> None:
    axis = value(scales, f"s.linear({low}, {high})")
    assert axis["low"] <= low + 1e-12 and high <= axis["high"] + 1e-12 and axis["low"] < axis["high"]
    assert (axis["ticks"][0], axis["ticks"][-1]) == (axis["low"], axis["high"]) and 2 <= len(axis["ticks"]) <= 7
    gaps = [b - a for a, b in pairwise(axis["ticks"])]
    assert max(gaps) == pytest.approx(min(gaps))


@pytest.mark.parametrize("values", [[1], [0, 0.3, 7], [0, 0, 1e-3], [1e-12, 50], [100, 1000]])
def test_a_logarithmic_axis_holds_its_positive_values(scales: Path, values: list[float]) -> None:
    axis = value(scales, f"s.logarithmic({values}, 1e-5)")
    counted = [v for v in values if v >= max(values) * 1e-5]
    assert 10 ** axis["low"] <= min(counted) and max(counted) <= 10 ** axis["high"] and axis["low"] < axis["high"]
    assert all(tick > 0 for tick in axis["ticks"])


@pytest.mark.parametrize("last", [1, 3, 7, 10, 24, 60, 999])
def test_steps_are_whole_and_even(scales: Path, last: int) -> None:
    steps = value(scales, f"s.stops({last}, 6)")
    assert all(step == int(step) <= last for step in steps) and len(steps) >= 2
    assert len({b - a for a, b in pairwise(steps)}) == 1


def test_curves_are_smoothed_and_averaged(scales: Path) -> None:
    points = [[1, 2], [2, 4], [5, 9]]
    assert value(scales, f"s.smooth({points}, 1)") == points
    assert value(scales, f"s.smooth({points}, 2)") == [[1, 2], [2, 3], [5, 6.5]]
    assert value(scales, f"s.mean([{points}, [[2, 6], [3, 1]]])") == [[1, 2], [2, 5], [3, 1], [5, 9]]


def test_edges_past_layers_have_lanes(scales: Path) -> None:
    nodes = [("1.1", 1, []), ("2.1", 2, ["1.1"]), ("3.1", 3, ["1.1", "2.1"]), ("out", 4, ["1.1", "3.1"])]
    shape = json.dumps([{"id": i, "layer": layer, "upstream": up} for i, layer, up in nodes])
    assert value(scales, f"s.lanes({shape}, 4).list") == [{"layer": 2, "key": "1.1"}, {"layer": 3, "key": "1.1"}]
    wide = [{"id": f"1.{k}", "layer": 1, "upstream": []} for k in range(9)]
    wide += [{"id": "2.1", "layer": 2, "upstream": []}, {"id": "out", "layer": 3, "upstream": [n["id"] for n in wide]}]
    assert value(scales, f"s.lanes({json.dumps(wide)}, 4).list") == [{"layer": 2, "key": "layer 1"}]


@pytest.mark.parametrize("down", ["false", "true"])
def test_a_path_goes_through_its_points(scales: Path, down: str) -> None:
    drawn = value(scales, f"s.path([[0, 5], [10, 1], [20, 1], [30, 5]], {down})")
    assert drawn.startswith("M0 5C") and " 10 1L20 1C" in drawn and drawn.endswith(" 30 5")
