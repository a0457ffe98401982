"""`neuromas train --workers`: the run of workers without Ray, also when workers are killed; and what it refuses."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crashes import same_run
from helpers import run_config
from neuromas import cli
from neuromas.config import RunConfig
from neuromas.errors import CheckpointError, ClusterError
from neuromas.files import read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.run import checkpoint
from neuromas.run.loop import train
from neuromas.scale.cluster import check_room
from neuromas.scale.train import ClusterConfig
from neuromas.scale.train import train as train_over_ray
from parallel import together

pytest.importorskip("ray")

RECIPE = """
topology = "2"
seed = 3
[task]
name = "compositional"
options = {{depth = 2, modulus = 2, train_size = 64, validation_size = 16, test_size = 16}}
[adapter]
rank = 2
[sampling]
message_tokens = 3
answer_tokens = 3
[train]
steps = {steps}
questions = 4
rollouts = 4
validate_every = 3
validation_questions = 8
"""


def recipe(folder: Path, steps: int) -> Path:
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(steps=steps))
    return path


def started(path: Path, out: Path, *options: str) -> "subprocess.Popen[bytes]":
    """`neuromas train` with two workers, in a process of its own."""
    code = "from neuromas.cli import main; main()"
    command = [sys.executable, "-c", code, "train", str(path), "--out", str(out), "--workers", "2", *options]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


def workers_of(process: "subprocess.Popen[bytes]") -> list[int]:
    """The workers among the processes below `process`: those that Ray has named so."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (ValueError, OSError):  # no process, or gone
            continue

    def below(pid: int) -> bool:
        return pid == process.pid or (pid in parents and below(parents[pid]))

    def title(pid: int) -> bytes:
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return b""

    return sorted(pid for pid in parents if below(pid) and b"RayTrainWorker" in title(pid))


def wait_for(what: Callable[[], Any], process: "subprocess.Popen[bytes]", seconds: float = 600) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def newest_step(out: Path) -> int:
    newest = checkpoint.newest(out / "checkpoints")
    return -1 if newest is None else int(newest.name.split("-")[1])


def undisturbed(path: Path, out: Path) -> Path:
    """The same run by two workers without Ray."""
    config, backbone = RunConfig.load(path), Backbone.load("tiny")
    together(2, lambda workers: train(config, out, backbone=backbone, workers=workers) and None)
    rewards = {line["reward"] for line in read_json_lines(out / "metrics.jsonl") if line["step"]}
    assert len(rewards) > 1, "without different rewards nothing is trained, and the tests say nothing"
    return out


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    path, out = recipe(tmp_path, steps=6), tmp_path / "run"
    process = started(path, out)
    wait_for(lambda: newest_step(out) >= 2, process)
    os.kill(workers_of(process)[1], signal.SIGKILL)
    assert newest_step(out) < 6, "killed too late to tell"
    assert process.wait(300) == 0
    same_run(out, undisturbed(path, tmp_path / "whole"))
    assert (out / "final.json").exists()
    assert not list(out.glob(".ray-*"))


@pytest.mark.slow
def test_ten_kills_of_workers_at_random_moments_change_nothing(tmp_path: Path) -> None:
    """Any worker, at any moment: every third kill while they come up or soon after, the others some steps later."""
    kills, steps = 10, 80
    path, out, draw = recipe(tmp_path, steps), tmp_path / "run", random.Random(0)
    process = started(path, out, "--restarts", str(kills))
    killed: list[int] = []
    for kill in range(kills):
        workers = wait_for(lambda: len(alive := set(workers_of(process)) - set(killed)) == 2 and alive, process)
        if kill % 3:
            then = newest_step(out) + draw.randint(1, 4)
            wait_for(lambda then=then: newest_step(out) >= then, process)
        time.sleep(draw.uniform(0, 0.5 if kill % 3 else 20))
        victim = draw.choice(sorted(workers))
        print(f"kill {kill + 1}: worker {victim}, newest checkpoint of step {newest_step(out)}", flush=True)
        assert newest_step(out) < steps, "killed too late to tell; raise the number of steps"
        os.kill(victim, signal.SIGKILL)
        killed.extend(workers)  # the other one is replaced too
    assert process.wait(1800) == 0
    same_run(out, undisturbed(path, tmp_path / "whole"))


# -- comparisons ------------------------------------------------------------------------------------------

SPEC = """
seeds = [3]
learning_rates = [3e-2]
[[tasks]]
name = "compositional"
questions = 70
options = {depth = 3, modulus = 2, train_size = 64, validation_size = 8, test_size = 90}
[adapter]
rank = 2
[sampling]
message_tokens = 3
answer_tokens = 2
[train]
steps = 2
questions = 4
rollouts = 4
validation_questions = 8
[systems.direct]
[systems.network]
topology = "1"
controls = []
"""


@pytest.mark.slow
def test_a_comparison_by_ray_tasks_gives_the_bytes_of_one_without(tmp_path: Path) -> None:
    """Two chunks of questions to each system, and a training before some of them."""
    (tmp_path / "spec.toml").write_text(SPEC)
    for out, *options in (("ray", "--address", "local"), ("plain",)):
        workers = "2" if options else "1"
        cli.main(["compare", str(tmp_path / "spec.toml"), "--out", str(tmp_path / out), "--workers", workers, *options])
    for name in ("answers.jsonl", "cells.jsonl", "summary.json"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name


# -- what is refused, before Ray starts or as soon as it can be known ---------------------------------------


def test_a_run_is_not_written_over_nor_continued_under_other_settings(tmp_path: Path, capsys) -> None:
    train(run_config(train__steps=1), tmp_path / "run", backbone=Backbone.load("tiny"))
    with pytest.raises(CheckpointError, match="already holds a run"):
        train_over_ray(run_config(train__steps=2), tmp_path / "run", ClusterConfig(2))
    with pytest.raises(CheckpointError, match="seed was 3, is 4"):
        train_over_ray(run_config(seed=4), tmp_path / "run", ClusterConfig(2), resume=True)


def test_more_workers_than_questions_are_refused_in_words(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", str(recipe(tmp_path, 2)), "--out", str(tmp_path / "run"), "--workers", "5"])
    assert "train.questions is 4" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


class SmallCluster:
    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 4.0, "memory": 1e9}


def test_a_cluster_that_is_too_small_is_refused_instead_of_waited_for() -> None:
    check_room(SmallCluster(), workers=2, threads=2, gpus=0)
    with pytest.raises(ClusterError, match="3 workers need 6 CPUs together, and the cluster has 4"):
        check_room(SmallCluster(), workers=3, threads=2, gpus=0)
    with pytest.raises(ClusterError, match="2 workers need 2 GPUs together, and the cluster has 0"):
        check_room(SmallCluster(), workers=2, threads=2, gpus=2)
