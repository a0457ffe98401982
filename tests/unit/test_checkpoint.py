"""Checkpoints: whole or refused, and refused with the reason."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from helpers import CHATML, forward, make_backbone, make_network, questions
from neuromas import files
from neuromas.errors import CheckpointError
from neuromas.network import peft
from neuromas.network.wording import Words
from neuromas.prompt_config import PromptConfig
from neuromas.run import checkpoint
from neuromas.run.build import load_run
from neuromas.run.progress import Progress
from neuromas.train.optimizer import NodeAdamW


def optimizer_of(network, steps: int = 0) -> NodeAdamW:
    optimizer = NodeAdamW(network.adapters, lr=1e-2)
    for _ in range(steps):
        for stack in network.adapters.stacks():
            stack.grad = torch.randn_like(stack)
        optimizer.step()
    return optimizer


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    network = make_network("2")
    return checkpoint.save(tmp_path, network, optimizer_of(network, 2), Progress(3, 0.1 + 0.2, 2, 0.5))


def test_loading_gives_back_adapters_optimizer_and_progress_to_the_bit(tmp_path: Path) -> None:
    network = make_network("2")
    optimizer = optimizer_of(network, 2)
    folder = checkpoint.save(tmp_path, network, optimizer, Progress(3, 0.1 + 0.2, 2, 1 / 3))
    other = make_network("2", noise=0.0, seed=9)
    fresh = optimizer_of(other)
    assert checkpoint.load(folder, other, fresh) == Progress(3, 0.1 + 0.2, 2, 1 / 3)
    for a, b in zip(network.adapters.stacks(), other.adapters.stacks(), strict=True):
        assert torch.equal(a, b)
    mine, theirs = optimizer.tensors(), fresh.tensors()
    assert mine.keys() == theirs.keys()
    assert len(mine) == 3 * 3 * len(network.adapters.stacks())
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)
    for o, n in ((optimizer, network), (fresh, other)):
        generator = torch.Generator().manual_seed(1)
        for stack in n.adapters.stacks():
            stack.grad = torch.randn(stack.shape, generator=generator)
        o.step()
    assert all(torch.equal(a, b) for a, b in zip(network.adapters.stacks(), other.adapters.stacks(), strict=True))


def test_a_checkpoint_is_safetensors_and_json_and_nothing_that_runs_code(saved: Path) -> None:
    assert {p.suffix for p in saved.rglob("*") if p.is_file()} == {".safetensors", ".json"}
    assert {p.name for p in (saved / "nodes").iterdir()} == {"1.1", "1.2", "out"}
    assert checkpoint.topology_of(saved) == make_network("2").topology
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize(
    "field, make",
    [
        ("backbone_fingerprint", lambda: make_network("2", make_backbone("qwen3"))),
        ("backbone_fingerprint", lambda: make_network("2", make_backbone(seed=1))),
        ("topology", lambda: make_network("1-1")),
        ("rank", lambda: make_network("2", rank=4)),
        ("alpha", lambda: make_network("2", alpha=1.0)),
        ("targets", lambda: make_network("2", targets=("q_proj", "v_proj"))),
        ("adapters", lambda: make_network("2", tied=True)),
    ],
)
def test_a_checkpoint_of_another_network_is_refused_naming_the_difference(saved: Path, field: str, make) -> None:
    network = make()
    before = [p.detach().clone() for p in network.adapters.stacks()]
    with pytest.raises(CheckpointError, match=f"step-000003 was made with {field}.*this network has"):
        checkpoint.load(saved, network)
    assert all(torch.equal(a, b) for a, b in zip(before, network.adapters.stacks(), strict=True))


def test_a_checkpoint_of_another_format_is_refused(saved: Path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 99)
    with pytest.raises(CheckpointError, match="made with format 2, this network has 99"):
        checkpoint.load(saved, make_network("2"))


def test_a_checkpoint_is_loaded_under_the_words_it_was_trained_with_alone(saved: Path) -> None:
    first = Words.of(PromptConfig(version=1), "chat")
    chat = lambda words: make_network("2", make_backbone(style="chat", template=CHATML), words=words)
    network = chat(None)
    folder = checkpoint.save(saved.parent / "chat", network, optimizer_of(network), Progress(step=1))
    checkpoint.load(folder, chat(None))
    with pytest.raises(CheckpointError, match="made with words .*Write one step.* this network has .*short message"):
        checkpoint.load(folder, chat(first))
    state = json.loads((folder / "state.json").read_text())
    del state["words"], state["digest"]  # as version 0.1.0 wrote it
    (folder / "state.json").write_text(json.dumps(state))
    checkpoint.load(folder, chat(first))
    with pytest.raises(CheckpointError, match="words"):
        checkpoint.load(folder, chat(None))


FILES = ["state.json", "optimizer.safetensors", "nodes/1.2/adapter_model.safetensors", "nodes/1.2/adapter_config.json"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("how", ["missing", "empty", "cut", "noise"])
def test_a_damaged_file_is_refused_by_its_name(saved: Path, file: str, how: str) -> None:
    path = saved / file
    whole = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "noise": b"\xff" * 64 + whole[64:]}[how])
    network = make_network("2")
    with pytest.raises(CheckpointError, match=path.name):
        checkpoint.load(saved, network, optimizer_of(network))


def test_a_save_that_fails_half_way_leaves_the_old_checkpoint_and_no_rubbish(saved: Path, monkeypatch) -> None:
    network = make_network("2")
    calls = iter(range(100))
    real = peft.save_file

    def failing(*args, **kwargs):
        if next(calls) == 2:
            raise OSError("disk full")
        real(*args, **kwargs)

    monkeypatch.setattr(peft, "save_file", failing)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(saved.parent, network, optimizer_of(network), Progress(step=4))
    assert list(saved.parent.iterdir()) == [saved]
    assert checkpoint.newest(saved.parent) == saved
    assert checkpoint.load(saved, network).step == 3


def test_the_newest_is_that_of_the_highest_step_and_rubbish_is_cleaned(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path / "nowhere") is None
    for name in ("step-000009", "step-000010", "step-000100", ".saving-abc"):
        (tmp_path / name).mkdir()
    assert checkpoint.newest(tmp_path).name == "step-000100"
    checkpoint.clean(tmp_path)
    assert not (tmp_path / ".saving-abc").exists()


def test_pruning_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for step in range(1, 7):
        (folder / f"step-{step:06d}").mkdir(parents=True)
    checkpoint.mark_best(tmp_path, folder / "step-000005")
    checkpoint.mark_best(tmp_path, folder / "step-000002")
    checkpoint.prune(folder, 2, tmp_path / "best")
    assert {p.name for p in folder.iterdir()} == {"step-000002", "step-000005", "step-000006"}
    shutil.move(tmp_path, tmp_path.with_name("moved"))  # the link is relative, so a run may be moved
    assert (tmp_path.with_name("moved") / "best").resolve().name == "step-000002"


def test_a_folder_that_is_no_run_or_has_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a run folder"):
        load_run(tmp_path)


def test_a_loaded_network_answers_as_the_saved_one(saved: Path) -> None:
    one, two = make_network("2", seed=4), make_network("2", noise=0.0)
    checkpoint.load(saved, one)
    checkpoint.load(saved, two)
    first, second = (forward(n, questions(3), rollouts=2, seed=0) for n in (one, two))
    assert [t.answer for t in first] == [t.answer for t in second]


# -- files -------------------------------------------------------------------------------------------------


def test_json_lines_survive_every_character_a_model_may_write(tmp_path: Path) -> None:
    records = [
        {"step": i, "text": c} for i, c in enumerate(["\u2028", "\x85", "\r\n", "\x1c", "\u2029é", "\x00", "end"])
    ]
    for record in records:
        files.append_json_line(tmp_path / "a.jsonl", record)
    assert files.read_json_lines(tmp_path / "a.jsonl") == records
    files.keep_json_lines(tmp_path / "a.jsonl", 3)
    assert files.read_json_lines(tmp_path / "a.jsonl") == records[:4]


def test_a_last_line_cut_off_at_any_byte_is_dropped_and_the_others_stay(tmp_path: Path) -> None:
    whole = "".join(json.dumps({"step": i, "t": "é€"}, ensure_ascii=False) + "\n" for i in range(3)).encode()
    second = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    for end in range(second, len(whole) - 2):
        (tmp_path / "a.jsonl").write_bytes(whole[:end])
        assert [r["step"] for r in files.read_json_lines(tmp_path / "a.jsonl")] == [0, 1]
    assert files.read_json_lines(tmp_path / "missing.jsonl") == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    files.write_json(tmp_path / "deep" / "a.json", {"x": "é"})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        files.write_json(tmp_path / "deep" / "a.json", {"x": 2})
    assert json.loads((tmp_path / "deep" / "a.json").read_text(encoding="utf-8")) == {"x": "é"}


def test_a_folder_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "made"
    with pytest.raises(RuntimeError, match="half way"), files.whole_folder(target, ".making-") as work:
        (work / "part").write_text("a")
        assert work.parent == target.parent and work.name.startswith(".making-")
        raise RuntimeError("half way")
    assert [*target.parent.iterdir()] == []
    for text in ("first", "second"):  # what is there already stays
        with files.whole_folder(target, ".making-") as work:
            (work / "part").write_text(text)
    assert [path.name for path in target.parent.iterdir()] == ["made"]
    assert (target / "part").read_text() == "first"


def test_best_is_where_the_link_points_and_last_is_the_newest(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        (tmp_path / f"checkpoints/step-{step:06}").mkdir(parents=True)
    newest = tmp_path / "checkpoints/step-000030"
    assert checkpoint.chosen(tmp_path, "best") == newest, "nothing was validated yet"
    checkpoint.mark_best(tmp_path, tmp_path / "checkpoints/step-000020")
    assert checkpoint.chosen(tmp_path, "best") == tmp_path / "checkpoints/step-000020"
    assert checkpoint.chosen(tmp_path, "last") == newest
    assert checkpoint.chosen(tmp_path / "empty", "last") is None
