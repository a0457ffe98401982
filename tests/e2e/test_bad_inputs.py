"""Settings, paths and model folders that cannot be used end in one line, never in a traceback."""

import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from damage import command, ways
from helpers import CHATML, byte_tokenizer, plain_model
from neuromas.config import RunConfig
from neuromas.errors import NeuromasError
from neuromas.network.backbone import Backbone

SAMPLE = 30  # every so many-th case is in `make test`


def some(cases: list[str]) -> list[Any]:
    """The cases, of which all but a few are slow."""
    slow = lambda case: pytest.param(case, marks=pytest.mark.slow)
    return [case if zlib.crc32(case.encode()) % SAMPLE == 0 else slow(case) for case in cases]


def refused(action: Callable[[], object]) -> str:
    """The message of a refusal; empty where there was none."""
    try:
        action()
    except NeuromasError as error:
        return str(error)
    return ""


# -- settings ----------------------------------------------------------------------------------------------

VALUES: list[Any] = [
    -1,
    0,
    10**12,
    1.5,
    float("nan"),
    float("inf"),
    "text",
    "",
    "\0",
    [],
    [[]],
    [-1],
    {},
    {"a": 1},
    True,
]


def settings(kind: type[BaseModel] = RunConfig, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", [*settings()], ids=".".join)
def test_every_value_of_every_setting_is_taken_or_refused_by_name(path: tuple[str, ...]) -> None:
    for value in VALUES:
        data: Any = value
        for part in reversed(path):
            data = {part: data}
        if said := refused(lambda data=data: RunConfig.make(data)):
            assert path[-1] in said or path[0] in said, (value, said)


# -- paths -------------------------------------------------------------------------------------------------

COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "train": lambda path: ["train", path],
    "train --out": lambda path: ["train", "--steps", "1", "--topology", "2", "--out", f"{path}/x", "--task", "none"],
    "train --resume": lambda path: ["train", "--resume", "--out", path],
    "train --task": lambda path: ["train", "--task", path, "--out", "new"],
    "train --backbone": lambda path: ["train", "--backbone", path, "--out", "new", "--topology", "2"],
    "train --topology": lambda path: ["train", "--topology", f"{path}.toml", "--out", "new"],
    "grow": lambda path: ["grow", path, "--topology", "3", "--out", "new"],
    "eval": lambda path: ["eval", path],
    "eval --task": lambda path: ["eval", "direct", "--task", path],
    "ask": lambda path: ["ask", path, "1+1"],
    "inspect": lambda path: ["inspect", path],
    "serve": lambda path: ["serve", path, "--port", "0"],
    "watch": lambda path: ["watch", path, "--port", "0", "--no-browser"],
    "export": lambda path: ["export", path, "--out", "new"],
    "compare": lambda path: ["compare", path, "--out", "new"],
    "compare --report": lambda path: ["compare", path, "--report"],
    "plan": lambda path: ["plan", path],
    "draw": lambda path: ["draw", f"{path}.json"],
    "draw --out": lambda path: ["draw", "2", "--out", f"{path}/x.svg"],
    "tasks": lambda path: ["tasks", path],
    "tasks --json": lambda path: ["tasks", "--json", f"{path}/x.json"],
    "backbones": lambda path: ["backbones", path],
    "env --json": lambda path: ["env", "--json", f"{path}/x.json"],
}
PATHS: dict[str, Callable[[Path], str]] = {
    "missing": lambda folder: str(folder / "missing"),
    "a folder": lambda folder: str(folder / "folder"),
    "a file": lambda folder: str(folder / "file.toml"),
    "of bytes": lambda folder: str(folder / "bytes.toml"),
    "a nested file": lambda folder: str(folder / "nested.toml"),
    "not allowed": lambda folder: "/proc/1/nothing",
    "below a file": lambda folder: str(folder / "file.toml" / "x"),
    "below a device": lambda folder: "/dev/null/x",
    "too long": lambda folder: str(folder / ("x" * 5000)),
    "with a NUL": lambda folder: "a\0b",
    "no UTF-8": lambda folder: os.fsdecode(bytes(folder) + b"/\xff"),
    "a link to itself": lambda folder: str(folder / "loop"),
    "empty": lambda folder: "",
    "of blanks": lambda folder: "  ",
    "with brackets": lambda folder: str(folder / "[/x]"),
}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.toml").write_text("")
    (tmp_path / "bytes.toml").write_bytes(bytes(range(256)))
    (tmp_path / "nested.toml").write_text("a = " + "[" * 10_000)
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


@pytest.mark.parametrize("case", some([f"{name}: {path}" for name in COMMANDS for path in PATHS]))
def test_a_path_that_cannot_be_used_ends_in_one_line(places: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, path = case.split(": ")
    if (name, path) == ("train", "a file"):
        pytest.skip("an empty recipe is one")
    ended = command(*COMMANDS[name](PATHS[path](places)))
    lines = [line for line in ended.err.splitlines() if "rror" in line]
    assert ended.is_clear or (ended.code == 2 and "Traceback" not in ended.err), ended.err
    assert lines or ended.code == 0


# -- model folders -----------------------------------------------------------------------------------------

FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
CASES = [f"{file}: {way}" for file in FILES for way in ways(Path(file))]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "made"
    plain_model().save_pretrained(folder)
    byte_tokenizer(CHATML).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("case", some(CASES))
def test_a_damaged_model_is_refused_or_computes_what_it_should(model: Path, tmp_path: Path, case: str) -> None:
    file, way = case.split(": ")
    folder = shutil.copytree(model, tmp_path / "model")
    ways(Path(file))[way](folder / file)
    loaded: list[Backbone] = []
    said = refused(lambda: loaded.append(Backbone.load(str(folder))))
    assert said or loaded[0].template.decode(loaded[0].template.encode("1+1")) == "1+1"
