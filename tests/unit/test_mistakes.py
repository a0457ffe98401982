"""Mistakes end in one line that names them, and nonsense is refused before anything runs."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
import torch
from pydantic import Field
from pydantic.fields import FieldInfo
from safetensors import SafetensorError

from neuromas import cli
from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.network.loading import pick_device
from neuromas.run.stages import growth_remarks

INF = float("inf")


def config(**changes: Any) -> RunConfig:
    """The settings with dotted names changed, __ for the dot."""
    data: dict[str, Any] = {}
    for name, value in changes.items():
        *path, leaf = name.split("__")
        place = data
        for part in path:
            place = place.setdefault(part, {})
        place[leaf] = value
    return RunConfig.make(data)


@pytest.mark.parametrize(
    "change, named",
    [
        ({"train__learning_rate": INF}, "train.learning_rate is inf"),
        ({"train__learning_rate": float("nan")}, "train.learning_rate is nan"),
        ({"sampling__temperature": INF}, "sampling.temperature is inf"),
        ({"adapter__alpha": INF}, "adapter.alpha is inf"),
        ({"train__weight_decay": INF}, "train.weight_decay is inf"),
        ({"train__kl": INF}, "train.kl is inf"),
        ({"train__clip": INF}, "train.clip is inf"),
        ({"train__entropy": INF}, "train.entropy is inf"),
        ({"train__ratio_cap": INF}, "train.ratio_cap is inf"),
        ({"train__stop_after_seconds": INF}, "train.stop_after_seconds is inf"),
        ({"train__betas": [0.9, 1.5]}, r"train.betas.1 is 1.5"),
        ({"train__betas": [1.5, 2]}, r"train.betas.0 is 1.5"),
        ({"train__betas": [1, 0.9]}, r"train.betas.0 is 1"),
        ({"train__questions": 10**9}, "train.questions is 1000000000"),
        ({"train__rollouts": 10**9}, "train.rollouts is 1000000000"),
        ({"adapter__rank": 10**6}, "adapter.rank is 1000000"),
        ({"adapter__targets": []}, r"adapter.targets is \[\]"),
        ({"method": [1]}, r"method is .\[1\]"),
        ({"method": None}, "method is .None"),
        ({"topology": ""}, "topology is empty"),
        ({"topology": "  "}, "topology is empty"),
        ({"malt__search": 3}, r"\[malt\] has settings of method 'malt'"),
        ({"collm__actors": 2}, r"\[collm\] has settings of method 'collm"),
        ({"seed": -1}, "seed is -1"),
        ({"sampling__engine": "vllm", "sampling__temperature": 0.004}, "sampling.temperature is 0.004, which vLLM"),
        ({"vllm__context": 100}, r"\[vllm\] has settings"),
    ],
)
def test_nonsense_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        config(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"train__steps": 2},
        {"train__warmup": 10, "train__steps": 10},
        {"sampling__engine": "vllm", "sampling__temperature": 0.01},
        {"sampling__temperature": 0.004},
    ],
)
def test_what_makes_sense_is_taken(change: dict[str, Any]) -> None:
    config(**change)


def test_a_warmup_that_never_ends_is_remarked_on() -> None:  # it can be meant: a run may be given more steps later
    (remark,) = config(train__warmup=20, train__steps=10, train__learning_rate=0.01).remarks()
    assert "the learning rate ends at 0.005, below train.learning_rate; lower train.warmup" in remark
    assert config(train__warmup=10, train__steps=10).remarks() == config(train__steps=1).remarks() == []


@pytest.mark.parametrize(("anneal", "steps", "told"), [(20, 20, 1), (16, 20, 1), (15, 20, 0), (0, 1, 0)])
def test_a_stage_that_ends_when_its_new_nodes_have_opened_is_remarked_on(anneal: int, steps: int, told: int) -> None:
    grown = {"topology": "2", "anneal": anneal}
    for last in (grown, grown | {"steps": steps}):
        remarks = growth_remarks(config(stages=[{"topology": "1", "steps": 7}, last], train__steps=7 + steps))
        assert len(remarks) == told
        assert all(f"stages[1].anneal is {anneal} and the stage lasts {steps} steps" in remark for remark in remarks)
    copies = {"topology": "2", "init": "copy"}
    assert growth_remarks(config(stages=[{"topology": "1", "steps": 7}, copies], train__steps=8)) == []
    until = {"topology": "1", "promote": 0.5}  # nobody knows how long the last stage will be
    assert growth_remarks(config(stages=[until, grown], train__steps=7 + steps)) == []
    assert growth_remarks(config(stages=[{"topology": "1", "steps": 7}, grown], train__steps=7)) == []  # never begins


OUT_OF_RANGE = {
    "train": "threads -1, test_limit 0, workers 0, restarts -1, seed -1, steps 0, learning_rate inf, from -1",
    "eval X": "limit -1, limit 0, votes 0, seed -1, threads 0",
    "ask X Q": "seed -1, threads -1",
    "inspect X": "limit -1, orders 0, exact -1, seed -1, threads 0",
    "harness X --tasks a": "limit 0, limit -1, seed -1, threads -1",
    "serve X": "port 99999, port -1, seconds nan, seconds inf, batch_rows -1, queue 0, body_bytes 0, threads 0",
    "watch X": "port 65536, port -1",
    "plan X": "flops inf, flops 0, bandwidth -1, bandwidth nan, prompt_tokens 0, threads -1",
    "demo": "seeds 0, steps 0, test 0, workers 0",
    "compare X": "workers 0, threads 0",
    "grow X --topology 2 --out Y": "steps 0, anneal -1, freeze -1, old_scale nan, old_scale -1, learning_rate inf",
}


@pytest.mark.parametrize(("command", "option"), [(c, o) for c, all in OUT_OF_RANGE.items() for o in all.split(", ")])
def test_a_number_out_of_its_range_is_one_line(command: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, value = option.split()
    with pytest.raises(SystemExit, match="2"):
        cli.main([*command.split(), f"--{name.replace('_', '-')}", value])
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(rf"error: .*{name.replace('_', '[-_]')}\S* is {value}", line), line


def unlimited(kind: Any) -> bool:
    """True for the type of a number that may be any, such as -1 or nan."""
    if get_origin(kind) is Annotated:
        return unlimited(get_args(kind)[0]) and not any(isinstance(said, FieldInfo) for said in kind.__metadata__)
    return kind in (int, float) or any(map(unlimited, get_args(kind)))


def test_every_number_of_every_command_has_a_range() -> None:
    for command in cli.COMMANDS:
        kinds = get_type_hints(cli.function_of(command), include_extras=True)
        assert [name for name, kind in kinds.items() if unlimited(kind)] == [], command
    assert unlimited(int | None) and not unlimited(Annotated[int, Field(ge=0)] | None)


@pytest.mark.parametrize(
    "change, meant",
    [
        ({"train__learning_rte": 1}, "train.learning_rate"),
        ({"train__rolouts": 4}, "train.rollouts"),
        ({"tran": {}}, "train"),
        ({"learning_rate": 1e-3}, "train.learning_rate"),
        ({"train__temperature": 1.0}, "sampling.temperature"),
        ({"adapter__learning_rate": 1.0}, "train.learning_rate"),
        ({"topolgy": "2"}, "topology"),
        ({"sampling__message_token": 3}, "sampling.message_tokens"),
    ],
)
def test_a_wrong_name_of_a_setting_is_told_what_was_meant(change: dict[str, Any], meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"no such setting; did you mean {meant}\?"):
        config(**change)


RECIPES = {
    "utf-16": ('topology = "2"\n'.encode("utf-16"), "is not UTF-8 .* save it in that encoding"),
    "latin-1": ('[task]\nname = "Gr\u00f6\u00dfe"\n'.encode("latin-1"), "is not UTF-8"),
    "half": (b"[train\nsteps = 1", "is not valid TOML"),
    "deep": (b"a = " + b"[" * 5000, "is not valid TOML"),
    "model": (b'topology = ""\n', "topology is empty"),
}


@pytest.mark.parametrize("how", RECIPES)
def test_a_recipe_that_cannot_be_read_is_one_line(tmp_path: Path, how: str) -> None:
    data, said = RECIPES[how]
    (tmp_path / "r.toml").write_bytes(data)
    with pytest.raises(ConfigError, match=said):
        RunConfig.load(tmp_path / "r.toml")


def test_a_recipe_that_is_a_folder_or_has_a_mark_of_its_encoding(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not valid TOML: .*directory"):
        RunConfig.load(tmp_path)
    (tmp_path / "r.toml").write_text('topology = "3"\n', encoding="utf-8-sig")
    assert RunConfig.load(tmp_path / "r.toml").topology == "3"


DEVICES = [
    *([] if torch.cuda.is_available() else ["cuda"]),
    "cuda:99",
    "cuda:-1",
    "mps:7",
    "meta",
    "meta:0",
    "foo",
    "",
    "CUDA",
    "hpu",
    "xpu",
    "opengl",
    "privateuseone",
]


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_that_cannot_be_used_is_one_line(device: str) -> None:
    with pytest.raises(ConfigError, match=f"^device '{device}' (cannot be used here|is unknown).*; use auto"):
        pick_device(device)


@pytest.mark.parametrize("device", ["foo", "meta", "cuda:99"])
def test_a_device_that_cannot_be_used_is_one_line_of_each_command(tmp_path: Path, capsys: Any, device: str) -> None:
    (tmp_path / "r.toml").write_text(f'topology = "2"\nbackbone.device = "{device}"\n')
    commands = (
        ["train", tmp_path / "r.toml", "--out", tmp_path / "run"],
        ["eval", "direct", "--recipe", tmp_path / "r.toml"],
        ["backbones", "tiny", "--check", "--device", device],
    )
    for command in commands:
        with pytest.raises(SystemExit, match="2"):
            cli.main([str(part) for part in command])
        errors = capsys.readouterr().err.splitlines()
        assert [line for line in errors if "rror" in line] == errors[-1:]
        assert errors[-1].startswith(f"error: device {device!r} ")


ERRORS = [
    (OSError(28, "No space left on device", "runs/x"), "No space left on device: 'runs/x'; check the path"),
    (IsADirectoryError(21, "Is a directory", "d"), "Is a directory: 'd'; check"),
    (PermissionError(13, "Permission denied", "d"), "Permission denied: 'd'; check"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "invalid start byte; check"),
    (SafetensorError("I/O error: File too large"), "weights could not be read or written .*File too large"),
]


@pytest.mark.parametrize("error, said", ERRORS, ids=[type(error).__name__ for error, _ in ERRORS])
def test_trouble_with_files_is_one_line(monkeypatch, capsys, error: Exception, said: str) -> None:
    def broken(command: str, args: list[str]) -> None:
        raise error

    monkeypatch.setattr(cli, "_run", broken)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["draw", "2"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(said, line), line


def test_a_file_in_the_way_of_a_result_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "x.svg"):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["tasks", "--json", str(place)])
        assert capsys.readouterr().err.startswith("error: ")


def test_a_terminal_that_knows_ascii_alone_shows_what_it_can() -> None:
    command = [sys.executable, "-m", "neuromas", "draw", "2-2"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "2.1" in done.stdout
