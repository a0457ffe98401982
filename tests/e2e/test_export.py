"""An exported run answers as the run does, and a node of it is an adapter that PEFT loads."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import huggingface_hub
import pytest
from huggingface_hub import ModelCard

from neuromas import cli
from neuromas.config import RunConfig
from neuromas.errors import CheckpointError
from neuromas.network.builtin import TINY_FOLDER
from neuromas.run import export
from neuromas.run.build import load_run
from neuromas.run.card import card
from neuromas.run.carry import base_model

RECIPE = """
topology = "1-1"
[task]
name = "compositional"
[train]
steps = 2
questions = 2
rollouts = 8
validation_questions = 8
learning_rate = 0.01
"""

PEFT = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, calls = sys.argv[1], json.loads(sys.argv[2])
for node, ids, count in calls:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), node)
    ids = torch.tensor([ids])
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count)
    print(json.dumps(out[0, ids.shape[1]:].tolist()))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "short.toml").write_text(RECIPE)
    out = folder / "short"
    cli.main(["train", str(folder / "short.toml"), "--test-limit", "8", "--out", str(out)])
    return out


def shared(run: Path, out: Path, base: str | None = None) -> Path:
    """The run as an export in `out`."""
    export.export(run, out / "shared", base_model_name=base)
    return out / "shared"


def test_an_export_answers_as_its_run_and_leaves_the_optimiser_behind(run, tmp_path) -> None:
    folder = shared(run, tmp_path)
    (mine, task, _), (theirs, _, _) = load_run(folder), load_run(run)
    asked = task.questions("test")[:4]
    assert [t.to_dict() | {"seconds": 0} for t in mine.answer(asked)] == [
        t.to_dict() | {"seconds": 0} for t in theirs.answer(asked)
    ]
    names = [name for name, _ in export.contents(folder)]
    assert not any("optimizer" in name or "metrics" in name for name in names)
    assert {"README.md", "config.json", "final.json", "best/nodes/1.1/adapter_model.safetensors"} <= set(names)


@pytest.mark.slow
def test_a_node_loaded_by_peft_in_a_fresh_process_writes_what_it_writes_in_the_network(run, tmp_path) -> None:
    folder = shared(run, tmp_path, str(TINY_FOLDER))
    network, task, _ = load_run(run)
    made = network.answer(task.questions("test")[:1])[0].calls
    folders = [folder / "best" / "nodes" / call.node for call in made]
    for node in folders:
        assert json.loads((node / "adapter_config.json").read_text())["base_model_name_or_path"] == str(TINY_FOLDER)
    told = [
        (str(node), [*c.prefix_ids, *c.own_ids], len(c.completion_ids)) for node, c in zip(folders, made, strict=True)
    ]
    command = [sys.executable, "-c", PEFT, str(TINY_FOLDER), json.dumps(told)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [json.loads(line) for line in done.stdout.splitlines()[-3:]] == [call.completion_ids for call in made]


def test_the_card_holds_the_figures_of_the_run_and_how_to_use_it(run, tmp_path) -> None:
    folder = shared(run, tmp_path)
    text, final = (folder / "README.md").read_text(), json.loads((run / "final.json").read_text())
    data = ModelCard(text).data
    assert (data.library_name, data.base_model) == ("peft", None), "the embedded model is not on the hub"
    best = [row for row in final["results"] if row["checkpoint"] == "best"]
    assert [entry.metric_value for entry in data.eval_results] == [row["accuracy"] for row in best]
    for row in final["results"]:
        assert f"| {row['checkpoint']} | {row['decoding']} | {row['delivery']} | {row['accuracy']:.1%} |" in text
    assert f"best constant {final['results'][0]['floors']['best_constant']:.1%}" in text
    assert "neuromas serve shared" in text


def test_the_card_tells_of_answers_that_could_not_be_read_whole(run, tmp_path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    final = json.loads((copy / "final.json").read_text())
    final["results"] = [row | {"answers_cut": 0.25} for row in final["results"]]
    (copy / "final.json").write_text(json.dumps(final))
    text = (shared(copy, tmp_path) / "README.md").read_text()
    assert "\nbest, greedy: 25% of the answers were cut by the token limit." in text


class Hub:
    """What HfApi would be asked to do."""

    asked: ClassVar[list[tuple]] = []

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
        self.asked.append(("create", name, private, exist_ok))
        return f"https://huggingface.co/{name}"

    def upload_folder(self, *, repo_id: str, folder_path: Path) -> None:
        self.asked.append(("upload", repo_id, sorted(name for name, _ in export.contents(folder_path))))


def test_a_push_uploads_just_what_the_dry_run_lists(run, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(Hub, "asked", [])
    command = ["export", str(run), "--push", "someone/net", "--out"]
    cli.main([*command, str(tmp_path / "a"), "--dry-run"])
    listed = sorted(line.split()[-1] for line in capsys.readouterr().out.splitlines() if line.startswith("  "))
    assert Hub.asked == [] and "README.md" in listed
    cli.main([*command, str(tmp_path / "b")])
    assert Hub.asked == [("create", "someone/net", True, True), ("upload", "someone/net", listed)]
    assert "https://huggingface.co/someone/net" in capsys.readouterr().out


def test_what_the_hub_refuses_is_told_and_the_export_stays(run, tmp_path, monkeypatch) -> None:
    class Refusing(Hub):
        def create_repo(self, name: str, **_: object) -> None:
            raise OSError("no network\nmore")

    monkeypatch.setattr(huggingface_hub, "HfApi", Refusing)
    folder = tmp_path / "a"
    export.export(run, folder)
    with pytest.raises(CheckpointError, match=r"someone/net could not be written \(no network\)"):
        export.push(folder, "someone/net", True)
    assert (folder / "README.md").is_file()


def test_neither_a_folder_that_exists_nor_one_without_a_run_is_touched(run, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(CheckpointError, match="exists"):
        export.export(run, tmp_path / "mine")
    with pytest.raises(CheckpointError, match="holds no run"):
        export.export(tmp_path, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


@pytest.mark.parametrize(
    ("name", "dtype", "said"),
    [
        ("smollm2-135m", "auto", 'SmolLM2-135M-Instruct", dtype="float32")'),
        ("smollm2-135m", "bfloat16", 'SmolLM2-135M-Instruct", dtype="bfloat16")'),
        ("/home/me/small.gguf", "auto", '"small.gguf", dtype="float32")'),
        ("org/model", "float16", '"org/model", dtype="float16")'),
    ],
)
def test_the_card_names_the_weights_that_were_trained_on_and_their_precision(name, dtype, said) -> None:
    config = RunConfig.make({"backbone": {"name": name, "dtype": dtype}})
    text = card("shared", config, None, base_model(config, "f" * 16, None), 3, ["1.1"])
    assert said in text
    assert ("Q4_1.gguf`, which are quantised" in text) is (name == "smollm2-135m")
    assert ("`small.gguf`, which are quantised" in text) is name.endswith(".gguf")
    assert "/home/me" not in text
