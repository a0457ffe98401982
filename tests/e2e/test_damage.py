"""A damaged run folder is carried on rightly, or refused in one line with nothing changed; never anything else."""

import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crashes import _timeless
from damage import RECIPE, Ended, cases_of, command, contents, copied, ways
from helpers import binary_backbone
from neuromas.files import read_json, read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.run import checkpoint

SAMPLE = 25  # every so many-th case is in `make test`


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run of two steps, the same after three, and what it then answers."""
    root, made = tmp_path_factory.mktemp("damage"), binary_backbone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backbone, "load", classmethod(lambda cls, name, **how: made))
        (root / "r.toml").write_text(RECIPE.replace("STEPS", "2"))
        assert command("train", root / "r.toml", "--out", root / "run").code == 0
        assert resumed(copied(root / "run", root / "whole")).code == 0
        assert asked(root / "run", root / "answer.json").code == 0
        yield root


def resumed(run: Path) -> Ended:
    return command("train", "--resume", "--steps", 3, "--out", run)


def asked(run: Path, json: Path) -> Ended:
    return command("ask", run, "(a(1+1)+b(1*0))", "--checkpoint", "last", "--json", json)


def exported(run: Path) -> Ended:
    return command("export", run, "--out", run.parent / "export", "--checkpoint", "last")


def check(root: Path, run: Path, damaged: str) -> None:
    """Ask, export and resume a damaged run. damaged: the file, as far as one alone is."""
    before = contents(run)
    answer = run.parent / "answer.json"
    done = asked(run, answer)
    assert done.is_clear, done.err
    if done.code == 0:
        calls = [read_json(file)["calls"] for file in (answer, root / "answer.json")]
        assert calls[0] == calls[1], "another answer"
    for ended in (done, exported(run)):
        assert ended.is_clear, ended.err
        assert contents(run) == before
    done = resumed(run)
    assert done.is_clear, done.err
    if done.code == 2:
        if "Is a directory" not in done.err:  # what is in the way of a file is found when that is written
            assert contents(run) == before, done.err
        return
    same_state(run, root / "whole")
    for log in ("metrics.jsonl", "samples.jsonl"):
        mine, whole = (read_json_lines(folder / log) for folder in (run, root / "whole"))
        assert mine[-1]["step"] == 3
        if log != damaged:
            assert [_timeless(line) for line in mine] == [_timeless(line) for line in whole]


def same_state(run: Path, other: Path) -> None:
    one, two = (checkpoint.newest(folder / "checkpoints") for folder in (run, other))
    assert one is not None
    assert two is not None
    assert one.name == two.name
    for file in sorted(path.relative_to(two) for path in two.rglob("*.safetensors")):
        mine, theirs = load_file(one / file), load_file(two / file)
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs), file
    assert checkpoint._state(one) == checkpoint._state(two)  # pyright: ignore[reportPrivateUsage]


def some(cases: list[str]) -> list[object]:
    """The cases, of which all but a few are slow."""
    return [
        case if zlib.crc32(case.encode()) % SAMPLE == 0 else pytest.param(case, marks=pytest.mark.slow)
        for case in cases
    ]


NODE = ("adapter_config.json", "adapter_model.safetensors")
FILES = [
    *("answers.jsonl", "config.json", "final.json", "metrics.jsonl", "samples.jsonl", "start.json", "task.json"),
    *(f"checkpoints/step-000002/{name}" for name in ("optimizer.safetensors", "state.json", "topology.json")),
    *(f"checkpoints/step-000002/nodes/{node}/{name}" for node in ("1.1", "out") for name in NODE),
]
CASES = [f"{file}: {way}" for file in FILES for way in ways(Path(file))]


@pytest.mark.parametrize("case", some(CASES))
def test_a_damaged_file_is_named_or_does_no_harm(root: Path, tmp_path: Path, case: str) -> None:
    file, way = case.split(": ")
    run = copied(root / "run", tmp_path / "run")
    ways(Path(file))[way](run / file)
    check(root, run, file)


def test_the_cases_are_those_of_a_run(root: Path) -> None:
    assert {f"{file}: {way}" for file, way in cases_of(root / "run")} == set(CASES)
    assert len(CASES) > 250


def swap(one: str, two: str) -> Callable[[Path], None]:
    def swapped(run: Path) -> None:
        (run / one).rename(run / "held")
        (run / two).rename(run / one)
        (run / "held").rename(run / two)

    return swapped


def elsewhere(name: str) -> Callable[[Path], None]:
    """The file or folder lies in another place, with a link to it."""

    def moved(run: Path) -> None:
        (run / name).rename(run.parent / "moved")
        (run / name).symlink_to(run.parent / "moved")

    return moved


def best_copied(run: Path) -> None:
    target = (run / "best").resolve()
    (run / "best").unlink()
    shutil.copytree(target, run / "best")


def instead(name: str, by: Callable[[Path], object]) -> Callable[[Path], None]:
    def replaced(run: Path) -> None:
        (run / name).unlink() if (run / name).is_symlink() or (run / name).is_file() else shutil.rmtree(run / name)
        by(run / name)

    return replaced


S1, S2 = "checkpoints/step-000001", "checkpoints/step-000002"
SHAPES: dict[str, Callable[[Path], object]] = {
    "steps exchanged": swap(S1, S2),
    "nodes exchanged": swap(f"{S2}/nodes/1.1", f"{S2}/nodes/out"),
    "a node of another step": swap(f"{S1}/nodes/1.1", f"{S2}/nodes/1.1"),
    "an optimizer of another step": swap(f"{S1}/optimizer.safetensors", f"{S2}/optimizer.safetensors"),
    "a state of another step": swap(f"{S1}/state.json", f"{S2}/state.json"),
    "logs exchanged": swap("metrics.jsonl", "samples.jsonl"),
    "settings and results exchanged": swap("config.json", "final.json"),
    "no checkpoints": lambda run: shutil.rmtree(run / "checkpoints"),
    "checkpoints a file": instead("checkpoints", Path.touch),
    "no node": lambda run: shutil.rmtree(run / S2 / "nodes/1.1"),
    "no nodes": lambda run: shutil.rmtree(run / S2 / "nodes"),
    "a node more": lambda run: shutil.copytree(run / S2 / "nodes/1.1", run / S2 / "nodes/9.9"),
    "nodes a file": instead(f"{S2}/nodes", Path.touch),
    "an empty checkpoint": instead(S2, Path.mkdir),
    "a checkpoint a file": instead(S2, Path.touch),
    "checkpoints elsewhere": elsewhere("checkpoints"),
    "the newest elsewhere": elsewhere(S2),
    "an older one elsewhere": elsewhere(S1),
    "best copied": best_copied,
    "best nowhere": instead("best", lambda path: path.symlink_to("nowhere")),
    "best a file": instead("best", Path.touch),
    "best itself": instead("best", lambda path: path.symlink_to("best")),
    "no best": lambda run: (run / "best").unlink(),
    "half a save": lambda run: (run / "checkpoints/.saving-1-ab").mkdir(),
    "a copy of a user": lambda run: shutil.copytree(run / S1, run / "checkpoints/step-000001-mine"),
    "a later step": lambda run: shutil.copytree(run / S2, run / "checkpoints/step-000009"),
    "a lock that is a folder": instead(".owner", Path.mkdir),
    "TensorBoard a file": instead("tensorboard", Path.touch),
}


@pytest.mark.parametrize("shape", some(list(SHAPES)))
def test_a_folder_of_another_shape_is_named_or_does_no_harm(root: Path, tmp_path: Path, shape: str) -> None:
    run = copied(root / "run", tmp_path / "run")
    SHAPES[shape](run)
    check(root, run, "metrics.jsonl" if "logs" in shape else "")
