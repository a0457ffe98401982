"""The tool that compares the numbers of two checkouts: what it pairs, what it finds, what it leaves out."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from helpers import tool

same_numbers = tool("same_numbers")


def write_run(folder: Path, lines: list[dict[str, Any]], **settings: Any) -> None:
    """A run folder with a setting that only this version has."""
    train = {"learning_rate": 1e-3, folder.name: True}
    config = {"method": "neuromas", "topology": "2", "seed": 0, "adapter": {"rank": 8}, "stages": [], "train": train}
    config |= settings
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def lines(reward: float = 0.5, seconds: float = 1.0) -> list[dict[str, Any]]:
    nodes = {"1.1": {"entropy": math.nan}}
    return [{"step": 0, "n": 8}, {"step": 1, "reward": reward, "nodes": nodes, "seconds": {"sample": seconds}}]


def differences(before: Path, after: Path) -> list[str | None]:
    return [row.difference for row in same_numbers.compare_job("demo", before, after)]


def test_runs_are_paired_by_their_settings_whatever_their_folders_are_called(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / f"before/runs/s{seed}", lines(0.1 * seed), seed=seed)
        write_run(tmp_path / f"after/cells/{1 - seed}/x", lines(0.1 * seed, seconds=9.0), seed=seed, new_setting=1)
    assert differences(tmp_path / "before", tmp_path / "after") == [None, None]


def test_the_first_difference_names_step_field_and_both_values(tmp_path: Path) -> None:
    write_run(tmp_path / "before/a", lines(0.5))
    write_run(tmp_path / "after/a", lines(0.5000000000000001))
    assert differences(tmp_path / "before", tmp_path / "after") == ["step 1: reward was 0.5, is 0.5000000000000001"]


def test_a_run_that_one_side_lacks_and_missing_lines_are_differences(tmp_path: Path) -> None:
    write_run(tmp_path / "before/a", lines())
    write_run(tmp_path / "before/b", lines(), topology="2-2")
    write_run(tmp_path / "after/a", lines()[:1])
    assert differences(tmp_path / "before", tmp_path / "after") == [
        "2 lines, then 1",
        "no such run in the second checkout",
    ]


def test_runs_of_the_same_settings_and_other_numbers_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a", lines())
    write_run(tmp_path / "b", lines(0.7))
    with pytest.raises(same_numbers.JobFailed, match="rank 8, rate 0.001, seed 0"):
        same_numbers.runs_of(tmp_path)


def test_summaries_are_compared_without_their_seconds(tmp_path: Path) -> None:
    for name, seconds, accuracy in (("a", 1.0, 0.5), ("b", 2.0, 0.5), ("c", 1.0, 0.25)):
        (tmp_path / name).mkdir()
        record = {"trained": {"by_seed": [0.5, accuracy]}, "seconds": seconds}
        (tmp_path / name / "summary.json").write_text(json.dumps(record))
    assert differences(tmp_path / "a", tmp_path / "b") == [None]
    assert differences(tmp_path / "a", tmp_path / "c") == ["trained/by_seed[1] was 0.5, is 0.25"]


def test_a_shrunk_recipe_is_smaller_and_ends_by_its_steps_alone() -> None:
    recipe = "[train]\nsteps = 105 # all\nstop_after_seconds = 600\nquestions = 8\n[malt]\nsearch = 25\nsft = 4\n"
    assert same_numbers.shrunk(recipe, 10) == "[train]\nsteps = 10 # all\nquestions = 8\n[malt]\nsearch = 2\nsft = 1\n"


def test_what_cannot_run_gives_exit_code_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    (tmp_path / "src/neuromas").mkdir(parents=True)
    (tmp_path / "src/neuromas/__init__.py").touch()
    (tmp_path / "src/neuromas/cli.py").write_text("def main(args): raise SystemExit('no such command')")
    command = ["same_numbers.py", str(tmp_path), "--out", str(tmp_path / "out"), "--jobs", "demo", "grown"]
    monkeypatch.setattr("sys.argv", command)
    assert same_numbers.main() == 2
    out = capsys.readouterr().out
    assert "'no such command'" in out
    assert "tiny_compositional_growth.toml" in out


def test_a_job_whose_results_stand_is_not_run_again(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "src/neuromas").mkdir(parents=True)
    (checkout / "src/neuromas/__init__.py").touch()
    results = tmp_path / f"out/checkout-{same_numbers.sources_hash(checkout)}/demo_3_40_512"
    results.mkdir(parents=True)
    assert same_numbers.run_job("demo", checkout, tmp_path / "out", same_numbers.Sizes()) == results
    (checkout / "src/neuromas/cli.py").write_text("raise SystemExit('was run')")
    with pytest.raises(same_numbers.JobFailed, match="was run"):
        same_numbers.run_job("demo", checkout, tmp_path / "out", same_numbers.Sizes())
