"""The benchmarks: the floor counts what cannot be avoided, and a small workload runs and prints one line of JSON."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import floor, launch, report
from benchmarks.accuracy import summary
from benchmarks.latency import latencies
from benchmarks.subnormal import steps
from benchmarks.sweep import memory
from benchmarks.work import NodeWork, Work
from benchmarks.workloads import SPECS, write
from neuromas.config import RunConfig
from neuromas.network.cpu import flushing
from neuromas.network.packed import PackedPass


def a_work() -> Work:
    """Two nodes, one question, two rollouts: prefixes of 3 and 4, messages of 1 and 2 before the second node."""
    nodes = [
        NodeWork("1.1", 1, 5, [[1, 2, 3]], [[], []]),
        NodeWork("out", 2, 6, [[1, 2, 3, 4]], [[7], [7, 8]]),
    ]
    return Work("w", "", "tiny", "float32", "1", 2, 8, ["q_proj"], {}, nodes)


def test_the_floor_counts_shared_prompts_once_and_the_head_at_sampled_tokens_only() -> None:
    work = a_work()
    assert (work.rows, work.prompt_tokens, work.sampled_tokens) == (4, 3 + 4 + 1 + 2, 2 * 5 + 2 * 6)
    decoder, head = floor.Shape(10, 20, 3), floor.Shape(100, 10, 1, head=True)
    assert floor.decoder_tokens(work) == 10 + 22 - 4  # nothing is read after a row's last token
    assert floor.rollout_flops(work, [decoder, head]) == 2 * 10 * 20 * 3 * 28 + 2 * 100 * 10 * 22
    assert floor.update_flops(work, [decoder, head]) == 2 * floor.rollout_flops(work, [decoder, head])
    assert (
        floor.rollout_seconds(work, [(decoder, 2.0), (head, 4.0)]) == 2 * 10 * 20 * 3 * 28 / 2 + 2 * 100 * 10 * 22 / 4
    )


def test_prompts_are_the_shared_prefix_and_what_each_rollout_adds() -> None:
    assert a_work().prompts(a_work().nodes[1]) == [[1, 2, 3, 4, 7], [1, 2, 3, 4, 7, 8]]


def test_a_work_survives_its_file(tmp_path: Path) -> None:
    a_work().save(tmp_path / "work.json")
    assert Work.load(tmp_path / "work.json") == a_work()


SLOWLY = pytest.mark.slow  # each starts a process that imports torch anew


@pytest.mark.parametrize(
    ("item", "layer_only"),
    [
        pytest.param("neuromas", True, marks=SLOWLY),
        pytest.param("peft mixed", False, marks=SLOWLY),
        pytest.param("neuromas", False, marks=SLOWLY),
        pytest.param("peft nodes", True, marks=SLOWLY),
        pytest.param("floor", True, marks=SLOWLY),
    ],
)
def test_an_item_runs_a_small_workload_and_prints_its_figures(item: str, layer_only: bool, tmp_path: Path) -> None:
    small = {"questions": 1, "rollouts": 2, "tokens": 3, "answer_tokens": None if layer_only else 2}
    work = write(replace(SPECS["W-tiny"], layer_only=layer_only, **small), "float32")
    work.save(tmp_path / "work.json")
    line = launch.measure(launch.ITEMS[item], tmp_path / "work.json", 1, ["--repeats", "2", "--warmup", "0"])
    assert len(line["rollout_repeats"]) == len(line["update_repeats"]) == 2
    assert line["generated_tokens_per_second"] == work.sampled_tokens / line["rollout_seconds"]
    assert line["trained_sequences_per_second"] == work.rows / line["update_seconds"]
    assert line["peak_bytes"] > 50e6


def test_what_cannot_run_is_skipped_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMAS_PEERS", str(tmp_path))
    assert "install_peers" in launch.measure(launch.ITEMS["trl"], tmp_path / "work.json", 1, [])["skipped"]
    failed = launch.run([sys.executable, "-c", "raise SystemExit('no such thing')"], 1)
    assert failed == {"skipped": "failed with exit status 1: no such thing"}


def test_ratios_are_to_the_floor_and_to_this_project() -> None:
    floors = {"item": "floor", "rollout_seconds": 1.0, "update_seconds": 2.0, "peak_bytes": 1}
    ours = report.with_ratios(
        {"item": "neuromas", "rollout_seconds": 2.0, "update_seconds": 3.0, "peak_bytes": 10}, [floors]
    )
    assert (ours["rollout_to_floor"], ours["update_to_floor"]) == (2.0, 1.5)
    theirs = {"item": "peft nodes", "rollout_seconds": 8.0, "update_seconds": 12.0, "peak_bytes": 30}
    theirs = report.with_ratios(theirs, [floors, ours])
    assert (theirs["step_to_neuromas"], theirs["peak_to_neuromas"]) == (4.0, 3.0)
    assert json.loads(json.dumps(theirs)) == theirs


def test_attention_is_counted_by_the_keys_that_each_token_sees() -> None:
    nodes = [NodeWork("1.1", 1, 3, [[0] * 5], [[], [0] * 2])]
    work = Work("w", "", "", "float32", "layer", 2, 8, [], {}, nodes)
    prefix = 1 + 2 + 3 + 4 + 5
    rows = (2 * 5 + 1 + 2) + (4 * 5 + 1 + 2 + 3 + 4)  # two and four tokens that are read after the prefix
    assert floor.attention_flops(work, layers=7, heads=3, channels=2) == 4 * 7 * 3 * 2 * (prefix + rows)


def test_an_update_with_long_prompts_is_compared_with_two_floors_that_hold_attention() -> None:
    floors = {"item": "floor", "rollout_seconds": 1.0, "update_seconds": 2.0, "peak_bytes": 1}
    floors |= {"update_gflop": 10.0, "update_attention_gflop": 5.0, "update_kernel_seconds": 2.0}
    ours = {"item": "neuromas", "rollout_seconds": 2.0, "update_seconds": 6.0, "peak_bytes": 10}
    ours = report.with_ratios(ours, [floors])
    assert (ours["update_to_floor_with_attention"], ours["update_to_floor_with_kernel"]) == (2.0, 1.5)


def test_memory_per_node_is_the_slope() -> None:
    held = lambda n: {"peak_bytes": 100 + 7 * n, "resident_bytes": 50 + 5 * n, "parameters_per_node": 3}
    found = memory([{"item": "neuromas", "x": n, **held(n)} for n in (1, 2, 4, 8)])
    assert (found["held_bytes_per_node"], found["peak_bytes_per_node"], found["state_bytes_per_node"]) == (5, 7, 48)


def test_seconds_to_accuracy_are_those_of_the_best_rate_that_every_seed_reaches() -> None:
    run = lambda rate, seed, *points: [
        {"side": "neuromas", "rate": rate, "seed": seed, "seconds": s, "accuracy": a} for s, a in points
    ]
    lines = run(1.0, 0, (1, 0.2), (2, 0.9), (3, 0.9)) + run(1.0, 1, (1, 0.2), (9, 0.1))
    lines += run(0.5, 0, (4, 0.8)) + run(0.5, 1, (6, 0.9))
    assert summary("neuromas", lines, 0.8) == {
        "side": "neuromas", "target": 0.8, "best_rate": 0.5, "seconds_to_target": 5.0
    }  # fmt: skip
    assert summary("neuromas", lines, 0.95)["seconds_to_target"] is None


def test_help_of_every_command_names_its_options() -> None:
    for module in ("benchmarks", "benchmarks.sweep", "benchmarks.accuracy"):
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True, cwd=launch.ROOT
        )
        assert "--threads" in done.stdout


def test_both_kinds_of_a_step_are_timed_and_only_one_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    flushes: list[bool] = []
    attend = PackedPass.attend

    def spy(*args: Any) -> Any:
        flushes.append(flushing())
        return attend(*args)

    monkeypatch.setattr(PackedPass, "attend", spy)
    tiny = {"name": "compositional", "options": {"depth": 2, "train_size": 16}}
    config = RunConfig.model_validate({"task": tiny, "train": {"questions": 1, "rollouts": 2}})
    (pair,) = steps(config, "2", warm=1, pairs=1)
    assert min(pair.values()) > 0
    first = flushes.index(False)
    assert all(flushes[:first]) and not any(flushes[first:])


def test_latency_counts_calls_in_a_row_and_times_every_question_of_every_shape() -> None:
    tiny = {"name": "compositional", "options": {"depth": 2, "train_size": 16, "validation_size": 8}}
    flat, chain = latencies(RunConfig.model_validate({"task": tiny}), ["2", "1-1+skip"], 3)
    assert flat["calls"] == chain["calls"] == 3
    assert (flat["sequential_calls"], chain["sequential_calls"]) == (2, 3)
    assert all(len(line["seconds"]) == 3 and min(line["seconds"]) > 0 for line in (flat, chain))
