"""A training of the command line that is killed, interrupted or out of room loses nothing but the step under way."""

import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crashes import same_run
from damage import RECIPE, Ended, command
from neuromas.network.backbone import Backbone
from neuromas.run import checkpoint

pytestmark = pytest.mark.slow
STEPS, KILLS, INTERRUPTS = 12, 30, 20
_FORK = multiprocessing.get_context("fork")  # the child has everything imported, so it trains at once


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a recipe of the embedded backbone, and the run that nothing has disturbed."""
    root, tiny = tmp_path_factory.mktemp("trouble"), Backbone.load("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backbone, "load", classmethod(lambda cls, name, **how: tiny))
        (root / "r.toml").write_text(RECIPE.replace("STEPS", str(STEPS)).replace('"made"', '"tiny"'))
        assert trained(root, root / "whole").code == 0
        yield root


def trained(root: Path, out: Path) -> Ended:
    return command("train", root / "r.toml", "--out", out, *(["--resume"] if (out / "config.json").exists() else []))


class Training:
    """`neuromas train` in a process of its own, which goes on with what there is."""

    def __init__(self, root: Path, out: Path, prepare: Callable[[], object] = lambda: None) -> None:
        self._ended = _FORK.Queue()

        def target() -> None:
            prepare()
            ended = trained(root, out)
            self._ended.put((ended.code, ended.err))

        self.process: Any = _FORK.Process(target=target)
        self.process.start()

    def signal_after(self, seconds: float, number: int) -> bool:
        """Send a signal after so long; False where the training had ended before."""
        self.process.join(seconds)
        alive = self.process.is_alive()
        if alive:
            os.kill(self.process.pid, number)
        return alive

    def ended(self) -> Ended:
        self.process.join(120)
        if self.process.exitcode == 130:  # a second interrupt ends the process itself
            return Ended(130, "", "")
        code, err = self._ended.get(timeout=10)
        return Ended(code, "", err)


def done(run: Path) -> int:
    """The last step that is safe."""
    newest = checkpoint.newest(run / "checkpoints")
    return -1 if newest is None else checkpoint.step_of(newest)


def test_thirty_kills_at_random_moments_lose_the_step_under_way_alone(root: Path, tmp_path: Path) -> None:
    chance, kills, runs, out = random.Random(0), 0, 0, tmp_path / "run"
    start = time.monotonic()
    assert trained(root, out).code == 0
    whole = time.monotonic() - start
    while kills < KILLS:
        shutil.rmtree(out, ignore_errors=True)
        before, runs = -1, runs + 1
        while True:
            training = Training(root, out)
            if not training.signal_after(chance.uniform(0, 0.6 * whole), signal.SIGKILL):
                assert training.ended().code == 0
                break
            training.process.join()
            kills += 1
            assert done(out) >= before
            before = done(out)
        same_run(out, root / "whole")
    print(f"{kills} kills in {runs} runs")


def test_twenty_interrupts_at_random_moments_end_in_one_line_and_lose_nothing(root: Path, tmp_path: Path) -> None:
    chance, interrupts, told, seconds, out = random.Random(1), 0, 0, list[float](), tmp_path / "run"
    while interrupts < INTERRUPTS:
        shutil.rmtree(out, ignore_errors=True)
        while True:
            training = Training(root, out)
            after = (
                chance.uniform(0.1, 1.5) if interrupts < INTERRUPTS else 120
            )  # a slow machine gets no further in 1.5 s
            if not training.signal_after(after, signal.SIGINT):
                assert training.ended().code == 0
                break
            start = time.monotonic()
            again = interrupts % 4 == 3 and training.signal_after(chance.uniform(0.0, 0.3), signal.SIGINT)  # twice
            ended = training.ended()
            seconds.append(time.monotonic() - start)
            if ended.code == 0:
                break
            interrupts += 1
            assert ended.code == 130, ended.err
            assert "interrupted" in ended.err or again
            if f"to go on from its last checkpoint: neuromas train --resume --out {out}" in ended.err:
                assert (out / "config.json").exists()
                told += 1
            assert "Traceback" not in ended.err
        same_run(out, root / "whole")
    assert told > INTERRUPTS / 2  # the others came before the command knew its folder, or were the second
    print(f"{interrupts} interrupts, the longest took {max(seconds):.1f} s")


def small_disk(place: Path, kilobytes: int) -> bool:
    """A file system of that size at `place`, where this user may mount one."""
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
    return (
        shutil.which("mount") is not None and subprocess.run(["mount", *options], capture_output=True).returncode == 0
    )


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.85, 0.95])
def test_a_full_disk_is_told_in_one_line_and_the_run_goes_on_when_there_is_room(
    root: Path, tmp_path: Path, share: float
) -> None:
    size = sum(path.stat().st_blocks for path in (root / "whole").rglob("*")) // 2
    disk = tmp_path / "disk"
    if not small_disk(disk, round(size * share)):
        pytest.skip("this user cannot mount a small file system")
    try:
        for _ in range(2):  # and once more while it is full
            ended = Training(root, disk / "run").ended()
            assert ended.code == 2, ended.err
            assert ended.is_clear, ended.err
            assert "No space left on device" in ended.err, ended.err
        subprocess.run(["mount", "-o", f"remount,size={20 * size}k", str(disk)], check=True)
        assert Training(root, disk / "run").ended().code == 0
        same_run(disk / "run", root / "whole")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("largest", [100, 2_000, 20_000, 60_000])
def test_a_limit_of_files_is_told_in_one_line_and_the_run_goes_on_without_it(
    root: Path, tmp_path: Path, largest: int
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    out = tmp_path / "run"
    ended = Training(root, out, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, limits[1]))).ended()
    assert ended.is_clear, ended.err
    assert ended.code == 0 or "File too large" in ended.err
    assert Training(root, out).ended().code == 0
    same_run(out, root / "whole")
