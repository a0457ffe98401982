"""A run folder has one owner; what is not this library's stays as it is, and what is damaged is named, not guessed."""

import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import binary_backbone, make_backbone, make_network, run_config
from neuromas import cli
from neuromas.errors import CheckpointError, DivergenceError
from neuromas.files import read_json, read_json_lines, write_json
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Network
from neuromas.run import checkpoint
from neuromas.run.build import load_run
from neuromas.run.folder import Resumption, saved_config
from neuromas.run.loop import train
from neuromas.run.owner import OWNER, RAY_OWNER, is_run, owned
from neuromas.run.progress import Progress
from neuromas.tasks.base import Task
from neuromas.tasks.rows import RowsTask
from neuromas.train.optimizer import NodeAdamW

STEPS, MORE = {"train__steps": 2}, {"train__steps": 3}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return binary_backbone()


@pytest.fixture(scope="module")
def kept(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kept") / "run"
    train(run_config(**STEPS), out, backbone=backbone)
    return out


@pytest.fixture
def run(kept: Path, tmp_path: Path) -> Path:
    return shutil.copytree(kept, tmp_path / "run", symlinks=True)


def contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != OWNER}


def resume(out: Path, backbone: Backbone, **how: Any) -> None:
    train(run_config(**MORE), out, backbone=backbone, resume=True, how=Resumption(**how))


# -- one owner ---------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from neuromas.run.owner import owned
with owned(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(run: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, run], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_writer_is_refused_by_process_and_host_and_a_dead_ones_place_is_taken(run, backbone, holder) -> None:
    before = contents(run)
    with pytest.raises(CheckpointError, match=rf"in use by process {holder.pid} on {os.uname().nodename}; wait"):
        resume(run, backbone)
    assert contents(run) == before
    holder.kill()
    holder.wait()
    resume(run, backbone)
    assert read_json_lines(run / "metrics.jsonl")[-1]["step"] == 3


def test_a_thread_may_hold_a_folder_twice_and_two_threads_may_not(run: Path) -> None:
    caught: list[CheckpointError] = []

    def other() -> None:
        try:
            with owned(run):
                pass
        except CheckpointError as error:
            caught.append(error)

    with owned(run):
        with owned(run):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert f"in use by process {os.getpid()}" in str(caught[0])
    other()
    assert len(caught) == 1, "it was given back"


@pytest.mark.parametrize("there", [(), ("new",), ("new", "new/runs"), ("new", "new/runs", "new/runs/out")])
@pytest.mark.parametrize("fault", [["--backbone", "./nothing"], ["--task", "./nothing.toml"]], ids=str)
def test_a_run_that_cannot_begin_leaves_nothing_behind(tmp_path: Path, capsys, there, fault: list[str]) -> None:
    for place in there:
        (tmp_path / place).mkdir()
    with pytest.raises(SystemExit):
        cli.main(["train", "--topology", "2", "--out", str(tmp_path / "new/runs/out"), *fault])
    assert capsys.readouterr().err.startswith("error: ")
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == set(there)


@pytest.mark.parametrize("there", [(), ("new",), ("new", "new/.DS_Store")])
def test_workers_that_cannot_begin_leave_no_lock_behind(tmp_path: Path, there: tuple[str, ...]) -> None:
    for place in there:
        (tmp_path / place).touch() if "." in place else (tmp_path / place).mkdir()
    before, out = {*tmp_path.rglob("*")}, tmp_path / "new"
    with pytest.raises(ZeroDivisionError), owned(out, resume=False, name=RAY_OWNER):
        with owned(out, resume=False):
            assert {OWNER, RAY_OWNER} <= {path.name for path in out.iterdir()}
        raise ZeroDivisionError
    assert {*tmp_path.rglob("*")} == before


def test_what_a_run_has_written_before_an_error_stays(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), owned(tmp_path / "run", resume=False):
        (tmp_path / "run/config.json").touch()
        raise ZeroDivisionError
    assert {path.name for path in (tmp_path / "run").iterdir()} == {OWNER, "config.json"}


# -- whose folder ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": '{"mine": 1}', "metrics.jsonl": '{"mine": 1}\n', "samples.jsonl": "x"},
        {"config.json": '{"model_type": "llama"}', "model.safetensors": "x"},
        {"config.json": ""},
        {"config.json": "[1]"},
        {"plan.json": "{}", "thesis/ch.txt": "x"},
        {"spec.json": "{}", "answers.jsonl": "{}\n", ".lock": ""},
        {"notes.txt": "x"},
    ],
)
@pytest.mark.parametrize("again", [False, True])
def test_a_folder_that_is_no_runs_is_neither_written_to_nor_resumed(tmp_path, backbone, files, again: bool) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match="choose another|to resume"):
        train(run_config(**STEPS), tmp_path, backbone=backbone, resume=again)
    assert contents(tmp_path) == before
    assert not (tmp_path / OWNER).exists()


@pytest.mark.parametrize("made", [lambda p: None, Path.mkdir])
def test_there_is_nothing_to_resume_where_nothing_is(tmp_path: Path, backbone, made: Callable[[Path], None]) -> None:
    made(tmp_path / "typo")
    with pytest.raises(CheckpointError, match=r"no run in .*typo to resume; correct --out, or leave --resume out"):
        train(run_config(), tmp_path / "typo", backbone=backbone, resume=True)
    assert not is_run(tmp_path / "typo")


def test_a_file_is_no_folder(tmp_path: Path, backbone: Backbone) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="is a file; choose another --out"):
        train(run_config(), tmp_path / "file", backbone=backbone)


def test_logs_of_steps_without_a_checkpoint_are_kept(run: Path, backbone: Backbone) -> None:
    shutil.rmtree(run / "checkpoints")
    before = contents(run)
    for again in (True, False):
        with pytest.raises(
            CheckpointError, match=r"logs of 2 steps and no checkpoint; put its folder checkpoints/ back"
        ):
            train(run_config(**MORE), run, backbone=backbone, resume=again)
    assert contents(run) == before


@pytest.mark.parametrize("umask, folder, file", [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600), (0o027, 0o750, 0o640)])
def test_what_is_saved_has_the_modes_of_the_umask(tmp_path: Path, umask: int, folder: int, file: int) -> None:
    network, old = make_network("2"), os.umask(umask)
    try:
        saved = checkpoint.save(tmp_path / "run", network, NodeAdamW(network.adapters), Progress(step=1))
    finally:
        os.umask(old)
    for path in (saved, *saved.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (folder if path.is_dir() else file), path


# -- what is learned from ----------------------------------------------------------------------------------


def half(question: Any, reply: str) -> float:
    return 0.5 * reply.startswith(question.answer)


def whole(question: Any, reply: str) -> float:
    return 1.0 * reply.startswith(question.answer)


def rows(change: Callable[[dict[str, str]], dict[str, str]] = lambda row: row, reward: Any = half) -> Task:
    return RowsTask([change({"question": f"Is {n} odd?", "answer": str(n % 2)}) for n in range(40)], reward)


ASKED = "train split was 24 questions with hash"
CHANGES = {
    "question": (rows(), rows(lambda row: row | {"question": row["question"] + "!"}), ASKED),
    "answer": (rows(), rows(lambda row: row | {"answer": "0"}), ASKED),
    "reward": (rows(), rows(reward=whole), "reward source was of hash"),
    "a reward where there was none": (rows(reward=None), rows(), "reward source was none, is of hash"),
    "no reward where there was one": (rows(), rows(reward=None), "reward source was of hash"),
    "grader": (rows(reward="number"), rows(reward="contains"), "reward source was of hash"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_changed_questions_and_rewards_are_refused_or_noted(tmp_path: Path, backbone: Backbone, what: str) -> None:
    first, now, said = CHANGES[what]
    config, out = run_config(**STEPS, task__name="python:rows", task__options={}), tmp_path / "run"
    longer = config.model_copy(update={"train": config.train.model_copy(update={"steps": 3})})
    train(config, out, backbone=backbone, task=first)
    before = contents(out)
    with pytest.raises(CheckpointError, match=f"changed since step-000002: .*{said}.*--accept-changes"):
        train(longer, out, backbone=backbone, task=now, resume=True)
    assert contents(out) == before
    train(longer, out, backbone=backbone, task=now, resume=True, how=Resumption(accept_changes=True))
    noted = checkpoint.newest_progress(out).changes
    assert all(change.startswith("from step 2: ") for change in noted)
    assert said in " ".join(noted)
    train(longer, out, backbone=backbone, task=now, resume=True)  # said once
    assert checkpoint.newest_progress(out).changes == noted


# -- damage ------------------------------------------------------------------------------------------------


def flip(path: Path, place: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x80
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "line", ["\0{}", "[1]", "null", '{"step": 1', '{"step": "\udcff"}', "", "9" * 5000, "[" * 99999]
)
@pytest.mark.parametrize("file", ["metrics.jsonl", "samples.jsonl"])
def test_a_damaged_line_is_named_and_nothing_is_touched(run: Path, backbone: Backbone, file: str, line: str) -> None:
    lines = (run / file).read_bytes().split(b"\n")
    (run / file).write_bytes(b"\n".join([lines[0], line.encode(errors="surrogateescape"), *lines[2:]]))
    before = contents(run)
    with pytest.raises(CheckpointError, match=rf"{file}, line 2 is damaged .*; nothing was changed"):
        resume(run, backbone)
    assert contents(run) == before


def exchange(run: Path, one: str, two: str) -> None:
    checkpoints = run / "checkpoints"
    (checkpoints / one).rename(run / "held")
    (checkpoints / two).rename(checkpoints / one)
    (run / "held").rename(checkpoints / two)


def state(**changes: Any) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        file = run / "checkpoints/step-000002/state.json"
        saved = read_json(file)
        write_json(file, saved | {"progress": saved["progress"] | changes})

    return change


DAMAGE = {
    "steps exchanged": lambda run: exchange(run, "step-000001", "step-000002"),
    "nodes exchanged": lambda run: exchange(run, "step-000002/nodes/1.1", "step-000002/nodes/out"),
    "a node of another step": lambda run: exchange(run, "step-000002/nodes/out", "step-000001/nodes/out"),
    "a bit of an adapter": lambda run: flip(run / "checkpoints/step-000002/nodes/out/adapter_model.safetensors", 0.9),
    "a bit of the optimizer": lambda run: flip(run / "checkpoints/step-000002/optimizer.safetensors", 0.9),
    "an earlier step": state(step=1),
    "a negative step": state(step=-5),
    "a step that is no number": state(step="2"),
    "an unknown key": state(mood="good"),
    "no progress": lambda run: write_json(run / "checkpoints/step-000002/state.json", {"progress": None}),
    "a list": lambda run: write_json(run / "checkpoints/step-000002/state.json", []),
    "too deep": lambda run: (run / "checkpoints/step-000002/state.json").write_text("[" * 99999),
    "too long": lambda run: (run / "checkpoints/step-000002/state.json").write_text("9" * 5000),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_can_be_chosen(run: Path, backbone, how: str) -> None:
    DAMAGE[how](run)
    before = contents(run)
    with pytest.raises(CheckpointError, match="damaged, choose another"):
        resume(run, backbone)
    assert contents(run) == before
    if "another step" not in how and "steps" not in how:
        resume(run, backbone, step=1)
        assert [line["step"] for line in read_json_lines(run / "metrics.jsonl")] == [0, 1, 2, 3]
        (aside,) = (run / "checkpoints").glob("aside-step-000002-*")
        assert (aside / "state.json").exists()


def test_a_step_without_a_checkpoint_cannot_be_chosen(run: Path, backbone: Backbone) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 7 \(it has \[.*1, 2\]\); name one of those"):
        resume(run, backbone, step=7)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["weight", "moment"])
def test_a_state_that_is_not_finite_is_never_saved(tmp_path: Path, where: str, value: float) -> None:
    network = make_network("2")
    optimizer = NodeAdamW(network.adapters)
    for stack in network.adapters.stacks():
        stack.grad = torch.ones_like(stack)
    optimizer.step()
    moment = next(iter(optimizer.state.values()))["exp_avg"]
    with torch.no_grad():
        (network.adapters.stacks()[-1][0] if where == "weight" else moment)[0, 0] = value
    with pytest.raises(DivergenceError, match="step 4: .* not finite; lower train.learning_rate"):
        checkpoint.save(tmp_path, network, optimizer, Progress(step=4))
    assert not [*tmp_path.iterdir()]


def test_a_rate_that_destroys_the_weights_ends_the_run_at_the_last_good_state(tmp_path: Path, backbone) -> None:
    config = run_config(train__learning_rate=3e38, train__warmup=0, train__weight_decay=1e9)
    with pytest.raises(DivergenceError, match=r"not finite.*last good state in .*step-00000\d"):
        train(config, tmp_path / "run", backbone=backbone)
    last, _, _ = load_run(tmp_path / "run", "last", backbone)
    assert all(torch.isfinite(p).all() for p in last.adapters.stacks())


# -- order and curves --------------------------------------------------------------------------------------


def test_checkpoints_are_ordered_by_number_and_others_folders_are_left_alone(tmp_path: Path) -> None:
    names = ["step-999998", "step-999999", "step-1000000", "step-1000000-stage-1"]
    for name in (*names, "step-000050-my-copy", "step-notes"):
        (tmp_path / name).mkdir()
    assert [path.name for path in checkpoint.saved_in(tmp_path)] == names
    assert checkpoint.newest(tmp_path) == tmp_path / names[-1]
    checkpoint.prune(tmp_path, 1, None)
    assert {path.name for path in tmp_path.iterdir()} == {names[-1], "step-000050-my-copy", "step-notes"}


def test_tensorboard_has_each_step_of_a_resumed_run_once(run: Path, backbone: Backbone) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    resume(run, backbone, step=1)
    events = reader.EventAccumulator(str(run / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("reward")] == [1, 2, 3]


def test_the_command_that_resumes_a_typo_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["train", "--resume", "--out", str(tmp_path / "typo")])
    assert "typo to resume; correct --out" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


# -- the day that a chat template writes ---------------------------------------------------------------------


def test_a_run_keeps_the_day_of_its_first_step(tmp_path: Path) -> None:
    dated = "{{ strftime_now('%d %B %Y') }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    backbone = make_backbone(style="chat", template=dated)
    train(run_config(**STEPS), tmp_path / "run", backbone=backbone)
    assert saved_config(tmp_path / "run").prompt.date == date.today()
    long_ago = date(2020, 2, 29)
    train(run_config(**STEPS, prompt__date=long_ago), tmp_path / "old", backbone=backbone)
    train(run_config(**MORE), tmp_path / "old", backbone=backbone, resume=True)  # a recipe says no day
    network, _, config = load_run(tmp_path / "old", "last", backbone)
    assert config.prompt.date == long_ago
    assert isinstance(network, Network) and network.words.date == "2020-02-29"
    train(run_config(**STEPS), tmp_path / "plain", backbone=binary_backbone())
    assert saved_config(tmp_path / "plain").prompt.date is None


def test_a_run_keeps_the_adapter_targets_that_its_backbone_declared_as_it_began(tmp_path: Path) -> None:
    backbone = make_backbone()
    backbone.targets = ("v_proj", "up_proj")
    train(run_config(**STEPS), tmp_path / "run", backbone=backbone)
    assert saved_config(tmp_path / "run").adapter.targets == ("v_proj", "up_proj")
    newer = make_backbone()  # the folder says nothing any more
    train(run_config(**MORE), tmp_path / "run", backbone=newer, resume=True)
    network, _, _ = load_run(tmp_path / "run", "last", newer)
    assert {key.rpartition(".")[2] for key in network.adapters.shapes} == {"v_proj", "up_proj"}
    with pytest.raises(CheckpointError, match="adapter.targets was"):
        train(run_config(**MORE, adapter__targets=["q_proj"]), tmp_path / "run", backbone=newer, resume=True)


def test_a_checkpoint_that_a_training_prunes_while_it_is_read_is_followed_by_the_next(
    run: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, seen = checkpoint.load, list[str]()

    def pruned_once(folder: Path, *rest: Any) -> Progress:
        seen.append(folder.name)
        if len(seen) == 1:
            resume(run, backbone)
            (run / "checkpoints" / folder.name).rename(run / "gone")
        return load(folder, *rest)

    monkeypatch.setattr("neuromas.run.build.checkpoint.load", pruned_once)
    load_run(run, "last", backbone)
    assert (seen[0], seen[-1]) == ("step-000002", "step-000003")
