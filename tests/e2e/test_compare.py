"""A comparison killed at any time ends as one that was not: same answers, same figures, same report."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from crashes import Run
from helpers import binary_backbone
from neuromas.compare import run as running
from neuromas.compare import work
from neuromas.compare.spec import Spec
from neuromas.errors import ConfigError
from neuromas.evaluate.report import write_report
from neuromas.files import read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.run import checkpoint
from neuromas.tasks.compositional import Compositional

FILES = (
    "cells.jsonl",
    "answers.jsonl",
    "results.json",
    "summary.json",
    "report.md",
    "report.html",
    "accuracy_cost.png",
)


def data(**changes: Any) -> dict[str, Any]:
    """A comparison of seconds, with chunks that are not whole and all kinds of rows."""
    return {
        "seeds": [3, 4],
        "learning_rates": [3e-2, 1e-2],
        "tasks": [
            {
                "name": "compositional", "questions": 70,
                "options": {"depth": 2, "modulus": 2, "train_size": 64, "validation_size": 8, "test_size": 90},
            }
        ],
        "adapter": {"rank": 2},
        "sampling": {"message_tokens": 3, "answer_tokens": 2, "batch_rows": 64},
        "train": {
            "steps": 4, "questions": 4, "rollouts": 4, "warmup": 2, "validate_every": 2, "validation_questions": 8,
        },
        "systems": {
            "direct": {},
            "network": {"topology": "1"},
            "gptswarm": {"options": {"agents": 2, "iterations": 2}},
            "moa": {"options": {"agents": 2}},
        },
        **changes,
    }  # fmt: skip


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """The backbone of every job of this process and of those forked from it."""
    backbone = binary_backbone()
    monkeypatch.setattr(work, "_backbone", lambda config: backbone)
    monkeypatch.setattr(work, "_ready", {})
    return backbone


def compared(out: Path, **changes: Any) -> None:
    running.run(Spec.make(data(**changes)), out)
    write_report(out)


def same(one: Path, two: Path) -> None:
    for name in FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes(), f"{name} differs"
    assert not [*one.rglob(".saving-*"), *one.rglob("*.tmp")], "a half-written file was left behind"


@pytest.mark.slow
def test_a_comparison_killed_three_times_ends_as_one_that_was_not(toy: Backbone, tmp_path: Path) -> None:
    seconds = Run(lambda: compared(tmp_path / "calm")).seconds()
    chance = random.Random(1)
    for _ in range(3):
        ended = Run(lambda: compared(tmp_path / "killed")).kill_after(chance.uniform(0.08, 0.28) * seconds)
        assert not ended, "the comparison was over before the kill"
    compared(tmp_path / "killed")
    same(tmp_path / "killed", tmp_path / "calm")


def test_nothing_is_done_again_and_a_training_goes_on_from_its_checkpoint(
    toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    jobs: list[Any] = []
    real = {"prepare": work.prepare, "answer": work.answer}

    def watched(name: str, limit: int) -> Any:
        def do(job: Any) -> Any:
            if len(jobs) == limit:
                raise Stop
            found = real[name](job)
            jobs.append((name, job.folder if name == "prepare" else (*job.cell.key, job.number)))
            return found

        return do

    for limit in (5, 14, 1000):
        for name in real:
            monkeypatch.setattr(running, name, watched(name, limit))
        if limit < 1000:
            with pytest.raises(Stop):
                compared(tmp_path)
        else:
            compared(tmp_path)
    assert len(jobs) == len(set(jobs)), "no job was done twice"
    trained = [done for name, done in jobs if name == "prepare"]
    assert len(trained) == 3 * (2 + 1) + 2, "three networks: two rates and one more seed; one swarm with two seeds"
    before = (tmp_path / "answers.jsonl").read_bytes()
    compared(tmp_path)
    assert len(jobs) == len(set(jobs))
    assert (tmp_path / "answers.jsonl").read_bytes() == before


def test_a_training_killed_within_goes_on_from_its_checkpoint(toy: Backbone, tmp_path: Path) -> None:
    only = {"systems": {"network": {"topology": "1", "controls": []}}, "learning_rates": [3e-2], "seeds": [3]}
    run = tmp_path / "killed" / "runs" / "network" / "compositional" / "lr0.03_s3"
    Run(lambda: compared(tmp_path / "killed", **only)).kill_when(run / "checkpoints" / "step-000002")
    assert checkpoint.newest(run / "checkpoints") is not None
    assert not (run / "done.json").exists()
    first = read_json_lines(run / "metrics.jsonl")[1]["seconds"]
    compared(tmp_path / "killed", **only)
    assert read_json_lines(run / "metrics.jsonl")[1]["seconds"] == first, "step 1 was not trained again"
    compared(tmp_path / "calm", **only)
    same(tmp_path / "killed", tmp_path / "calm")


def test_rows_have_the_calls_parameters_and_samples_that_they_are_matched_for(toy: Backbone, tmp_path: Path) -> None:
    compared(tmp_path)
    table = {row["system"]: row for row in json.loads((tmp_path / "summary.json").read_text())}
    network, single = table["network"], table["single-r4"]
    vote, pad, blanked = table["single-r4, vote of 2"], table["scratchpad-2-r4"], table["network, blanked"]
    assert {row["trainable_parameters"] for row in (network, single, vote, pad, blanked)} == {
        network["trainable_parameters"]
    }
    assert [row["calls"] for row in (network, vote, pad, blanked)] == [2, 2, 2, 2]
    assert {row["samples"] for row in (network, single, vote, pad, blanked)} == {4 * 4 * 4}
    assert (network["sequential_calls"], vote["sequential_calls"], single["calls"]) == (2, 1, 1)
    assert blanked["delivery"] == "blanked"
    assert [row["seeds"] for row in (table["direct"], table["moa"], network)] == [1, 2, 2]
    assert set(network["validation_by_rate"]) == {"0.03", "0.01"}
    best = max(network["validation_by_rate"].values())
    assert network["validation_by_rate"][f"{network['learning_rate']:g}"] == best
    for rate, score in network["validation_by_rate"].items():  # what the measured checkpoint, the best, had
        steps = read_json_lines(tmp_path / "runs" / "network" / "compositional" / f"lr{rate}_s3" / "metrics.jsonl")
        assert score == max(step["validation"]["accuracy"] for step in steps if step.get("validation"))
    results = json.loads((tmp_path / "results.json").read_text())
    of_cell = lambda record: (record["system"], record["task"], record["seed"])
    assert [*map(of_cell, results)] == [*map(of_cell, read_json_lines(tmp_path / "cells.jsonl"))]
    needed = {"accuracy", "ci95", "n", "seeds", "calls", "generated_tokens", "trainable_parameters", "task", "split"}
    needed |= {"parse_rate", "floors", "system", "seed", "sequential_tokens"}
    assert all(needed <= r.keys() for r in results)


def test_a_network_that_grows_is_a_row(toy: Backbone, tmp_path: Path) -> None:
    grown = {"topology": "1", "stages": [{"steps": 2}, {"topology": "2", "init": "zero"}], "controls": []}
    compared(tmp_path, systems={"grown": grown}, learning_rates=[1e-2], seeds=[3])
    (row,) = json.loads((tmp_path / "summary.json").read_text())
    metrics = read_json_lines(next(tmp_path.rglob("metrics.jsonl")))
    assert [line["stage"] for line in metrics if line["step"]] == [0, 0, 1, 1]
    assert row["calls"] in (2, 3), "the state that is best on validation may be one before it grew"
    assert row["samples"] == 4 * 4 * 4


@pytest.mark.slow
def test_systems_and_seeds_can_be_added_later_without_doing_the_old_again(toy: Backbone, tmp_path: Path) -> None:
    few: dict[str, Any] = {"direct": {}, "moa": {"options": {"agents": 2}}}
    more = {"network": {"topology": "1", "controls": []}, **few}
    compared(tmp_path / "grown", systems=few, seeds=[3])
    old = [line["reply"] for line in read_json_lines(tmp_path / "grown" / "answers.jsonl")]
    compared(tmp_path / "grown", systems=more)
    compared(tmp_path / "whole", systems=more)
    kept = read_json_lines(tmp_path / "grown" / "answers.jsonl")
    assert [line["reply"] for line in kept if line["system"] in few and line["seed"] == 3] == old
    same(tmp_path / "grown", tmp_path / "whole")


def test_logit_is_left_out_where_answers_cannot_be_listed_and_refused_where_none_can(
    toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = data()["tasks"]
    open_ended = task | {"label": "open", "options": task["options"] | {"seed": 1}}
    monkeypatch.setattr(Compositional, "choices", lambda self, q: None if self.seed == 1 else ("0", "1"))
    systems: dict[str, Any] = {"direct": {}, "logit": {}}
    compared(tmp_path / "both", systems=systems, tasks=[task, open_ended])
    table = json.loads((tmp_path / "both" / "summary.json").read_text())
    assert [(row["task"], row["system"]) for row in table] == [
        ("compositional", "direct"), ("compositional", "logit"), ("open", "direct"),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="systems.logit scores possible answers, and no task here lists them; leave"):
        compared(tmp_path / "none", systems=systems, tasks=[open_ended])


def test_malt_and_collm_are_trained_compared_and_resumed_as_networks_are(toy: Backbone, tmp_path: Path) -> None:
    malt = {"search": 2, "sft": 1, "branching": 2, "batch": 4}
    only: dict[str, Any] = {
        "systems": {
            "malt": {"kind": "malt", "options": malt, "votes": [3]},
            "collm": {"kind": "collm-cc", "options": {"actors": 2}},
        },
        "learning_rates": [3e-2], "seeds": [3], "unequal_samples": True,
    }  # fmt: skip
    run = tmp_path / "killed" / "runs" / "malt" / "compositional" / "lr0.03_s3"
    Run(lambda: compared(tmp_path / "killed", **only)).kill_when(run / "checkpoints" / "step-000003")
    compared(tmp_path / "killed", **only)
    compared(tmp_path / "calm", **only)
    same(tmp_path / "killed", tmp_path / "calm")
    malt_row, vote, collm = json.loads((tmp_path / "calm" / "summary.json").read_text())
    assert [row["system"] for row in (malt_row, vote, collm)] == ["malt", "malt, vote of 3", "collm"]
    assert [row["calls"] for row in (malt_row, vote, collm)] == [3, 9, 2]
    assert malt_row["samples"] == 2 * 4 * (2 + 4 + 8) // 3
    assert collm["samples"] == 4 * 4 * 4
    assert "WARNING: the trained systems drew different numbers" in (tmp_path / "calm" / "report.html").read_text()


def test_a_diverged_training_is_told_and_does_not_end_the_comparison(
    toy: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crashes import spoil

    spoil(monkeypatch, 3)
    compared(tmp_path, systems={"network": {"topology": "1", "controls": []}})
    (row,) = json.loads((tmp_path / "summary.json").read_text())
    assert "failed-step-3.json" in row["notes"][0]
    assert set(row["validation_by_rate"].values()) == {0.0}


SLOW = """
title = "Killed ten times"
seeds = [0, 1]
learning_rates = [1e-3, 2e-3]
[[tasks]]
name = "compositional"
options = {depth = 2, train_size = 500, validation_size = 32}
questions = 150
[adapter]
rank = 2
[sampling]
message_tokens = 8
[train]
steps = 6
questions = 4
rollouts = 4
validate_every = 2
validation_questions = 32
[systems.direct]
[systems.self-check]
[systems.gptswarm]
options = {agents = 3, iterations = 4}
[systems.network]
topology = "2"
"""


def progress(out: Path) -> int:
    """Lines that a comparison has written: of answers and of trainings' metrics."""
    files = [out / "answers.jsonl", *out.glob("runs/*/*/*/metrics.jsonl")]
    return sum(file.read_bytes().count(b"\n") for file in files if file.exists())


@pytest.mark.slow
def test_a_comparison_of_two_workers_whose_parent_is_killed_ten_times_ends_as_one_that_was_not(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(SLOW)
    code = "import sys; from neuromas.cli import main; main(sys.argv[1:])"
    command = lambda out: [sys.executable, "-c", code, "compare", str(tmp_path / "spec.toml"), "--out", str(out)]
    subprocess.run(command(tmp_path / "calm"), check=True, stdout=subprocess.DEVNULL)
    chance, whole = random.Random(0), progress(tmp_path / "calm")
    seen: list[int] = []
    for share in sorted(chance.uniform(0.0, 0.8) for _ in range(10)):
        process = subprocess.Popen(command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while progress(tmp_path / "killed") < share * whole:
            assert process.poll() is None, "the comparison ended by itself"
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)  # the parent only: its workers must notice, and end
        assert process.wait() == -signal.SIGKILL, "the comparison was over before the kill"
        seen.append(progress(tmp_path / "killed"))
    assert len(set(seen)) > 5, "the kills fell on different moments"
    assert not (tmp_path / "killed" / "report.html").exists()
    subprocess.run(command(tmp_path / "killed"), check=True, stdout=subprocess.DEVNULL)
    same(tmp_path / "killed", tmp_path / "calm")


DIES = """
import os
from pathlib import Path
from neuromas import register
from neuromas.tasks.compositional import Compositional
class Fatal(Compositional):
    name = "fatal"
    def grade(self, question, text):
        score(question, text)
        return super().grade(question, text)
def score(question, reply):
    if not Path("mended").exists():
        os._exit(0)
    return 0.5
register("fatal", Fatal)
if __name__ == "__main__":
    from neuromas.cli import main
    main()
"""
ROWS = "".join(json.dumps({"question": f"{n} + 1", "answer": str(n + 1)}) + "\n" for n in range(30))
OWN = """
data = "rows.jsonl"
grader = "fatal.py:score"
validation_size = 4
test_size = 8
"""


@pytest.mark.slow
@pytest.mark.parametrize("task, said", [("own.toml", "ended its process (exit status 0)"), ("fatal", "a worker's")])
def test_a_grader_that_ends_its_process_is_cut_in_one_line_by_workers_too(tmp_path: Path, task: str, said: str) -> None:
    spec = "seeds = [0]\n[backbone]\nname = 'tiny'\n[[tasks]]\nname = 'TASK'\nquestions = 8\n[systems.direct]\n"
    for name, text in {"fatal.py": DIES, "rows.jsonl": ROWS, "own.toml": OWN}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "spec.toml").write_text(spec.replace("TASK", task))

    def compare() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "fatal.py", "compare", "spec.toml", "--out", "out", "--workers", "2"]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=200)

    ended = compare()
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert f"{said}" in ended.stderr
    assert "the reward of question" in ended.stderr
    (tmp_path / "mended").touch()
    assert (ended := compare()).returncode == 0, ended.stderr
