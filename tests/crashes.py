"""Killing training runs, at a moment or at a write, and comparing what they leave."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from neuromas import files
from neuromas.config import RunConfig
from neuromas.files import read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.run import checkpoint, folder, loop, method
from neuromas.run.owner import is_run

_FORK = multiprocessing.get_context("fork")  # the child has everything imported, so it trains at once


class Run:
    """A training run in a process of its own."""

    def __init__(self, target: Callable[[], Any]) -> None:
        self.process = _FORK.Process(target=target)
        self.process.start()

    def kill_after(self, seconds: float) -> bool:
        """kill -9 after so long; whether the run had ended before."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.is_alive():
            time.sleep(0.005)
        self.process.kill()
        self.process.join()
        assert self.process.exitcode in (0, -signal.SIGKILL), f"the run failed by itself: {self.process.exitcode}"
        return self.process.exitcode == 0

    def kill_when(self, file: Path) -> None:
        """kill -9 as soon as `file` is there."""
        while not file.exists():
            assert self.process.is_alive(), f"the run ended before {file.name} was there"
            time.sleep(0.001)
        self.process.kill()
        self.process.join()

    def seconds(self) -> float:
        """How long the run takes."""
        start = time.monotonic()
        self.process.join()
        return time.monotonic() - start


def started(config: RunConfig, out: Path, backbone: Backbone) -> Run:
    return Run(lambda: loop.train(config, out, backbone=backbone, resume=is_run(out)))


def _counted(die_at: int, only_links: bool, done: Any) -> None:
    """From here on this process dies before its `die_at`-th change on disk (0: never); counts them in `done`."""

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            done.value += 1
            if done.value == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    Path.symlink_to = watched(Path.symlink_to)
    if not only_links:
        os.replace, os.fsync, shutil.rmtree = watched(os.replace), watched(os.fsync), watched(shutil.rmtree)
        checkpoint.save_file = watched(checkpoint.save_file)
        folder.append_json_line = watched(files.append_json_line)


def crash_at(what: str, n: int, config: RunConfig, out: Path, backbone: Backbone) -> None:
    """Run until just before the n-th change on disk ("symlink": only marks of the best checkpoint count)."""
    done = _FORK.Value("i", 0)

    def target() -> None:
        _counted(n, what == "symlink", done)
        loop.train(config, out, backbone=backbone)

    run = Run(target)
    run.process.join()
    assert run.process.exitcode == -signal.SIGKILL, f"the run was over after {done.value} changes"


def crash_points(config: RunConfig, out: Path, backbone: Backbone) -> int:
    """How many changes on disk a whole run makes."""
    done = _FORK.Value("i", 0)

    def target() -> None:
        _counted(0, False, done)
        loop.train(config, out, backbone=backbone)

    run = Run(target)
    run.process.join()
    assert run.process.exitcode == 0
    return done.value


def same_run(one: Path, two: Path) -> None:
    """Fails unless two runs hold the same numbers: adapters, optimizer, progress, metrics and samples."""
    a, b = (checkpoint.newest(run / "checkpoints") for run in (one, two))
    assert a is not None
    assert b is not None
    assert a.name == b.name
    for file in sorted(p.relative_to(b) for p in b.rglob("*.safetensors")):
        mine, other = load_file(a / file), load_file(b / file)
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[k], other[k]) for k in other), f"{file} differs"
    assert checkpoint._state(a) == checkpoint._state(b)
    for file in ("metrics.jsonl", "samples.jsonl"):
        assert [_timeless(r) for r in read_json_lines(one / file)] == [
            _timeless(r) for r in read_json_lines(two / file)
        ]
    best = [(run / "best").resolve().name if (run / "best").exists() else None for run in (one, two)]
    assert best[0] == best[1]
    assert not [*one.rglob(".saving-*")], "a half-written checkpoint was left behind"


def _timeless(record: Any) -> Any:
    if isinstance(record, dict):
        return {k: _timeless(v) for k, v in record.items() if k != "seconds"}
    return [_timeless(v) for v in record] if isinstance(record, list) else record


def spoil(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Put a NaN into a weight just before `step`."""
    real = method.train_step

    def spoiled(network: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs["step"] == step:
            with torch.no_grad():
                network.adapters.stacks()[-1][0, 0, 0] = float("nan")
        return real(network, *args, **kwargs)

    monkeypatch.setattr(method, "train_step", spoiled)
