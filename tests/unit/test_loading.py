"""Folders that are not what they seem end in one clear error, never in a traceback or in a model of random weights."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file, save_file

from helpers import byte_tokenizer, plain_model
from neuromas.errors import BackboneError, ConfigError
from neuromas.network.backbone import Backbone


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plain_model().save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def declare(folder: Path, **said: Any) -> None:
    (folder / "neuromas.json").write_text(json.dumps({"prompt_style": "compact"} | said))


def without_a_layer(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if ".1.mlp." not in k}, folder / "model.safetensors", {"format": "pt"})


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def a_pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def quantised(folder: Path) -> None:
    edit(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 32})


def truncate(file: Path, size: int) -> None:
    """A file of that size without a byte on the disk."""
    file.touch()
    os.truncate(file, size)


def in_place(file: Path, make: Callable[[Path], object]) -> None:
    file.unlink(missing_ok=True)
    make(file)


READ = ("config.json", "tokenizer.json", "model.safetensors", "neuromas.json", "chat_template.jinja")
FAULTS: list[tuple[Callable[[Path], Any], str]] = [
    (without_a_layer, r"lack 3 of the model's weights, for instance model\.layers\.1\.mlp"),
    (lambda f: edit(f / "config.json", num_hidden_layers=1), "weights of more layers than the 1 of its config.json"),
    (
        lambda f: edit(f / "config.json", hidden_size=64),
        r"lm_head.weight in model.safetensors has the shape \[260, 32\], and by config.json it has \[260, 64\]",
    ),
    (lambda f: edit(f / "config.json", model_type="no-such-model"), "no-such-model"),
    (truncated, "model.safetensors cannot be read \\(Error while deserializing header"),
    (a_pointer, "model.safetensors cannot be read \\(Error while deserializing header"),
    (quantised, r"\(llama\) could not be loaded \(ImportError: "),
    (lambda f: (f / "model.safetensors").unlink(), "could not be loaded"),
    (lambda f: (f / "neuromas.json").write_text("{"), "neuromas.json is damaged"),
    (lambda f: (f / "neuromas.json").write_text("{}"), "neuromas.json is damaged"),
    (lambda f: (f / "neuromas.json").write_text('{"prompt_style": "Chat"}'), "prompt_style 'Chat' is unknown"),
    (lambda f: declare(f, adapter_targets="q_proj"), "adapter_targets 'q_proj' is no list of names"),
    (lambda f: declare(f, adapter_targets=[]), r"adapter_targets \[\] is no list of names"),
    (lambda f: (f / "adapter_config.json").write_text("{}"), "is a PEFT adapter, not a model"),
    (lambda f: edit(f / "generation_config.json", eos_token_id="</s>"), "eos_token_id"),
    (lambda f: edit(f / "config.json", num_hidden_layers=1001), "says num_hidden_layers = 1001, over 1000; correct"),
    (
        lambda f: edit(f / "config.json", model_type="mixtral", num_local_experts=10**5),
        "num_experts = 100000, over 10000",
    ),
    (lambda f: truncate(f / "config.json", 300 << 20), "config.json has 300 MB, and can be no file of a model"),
    (lambda f: truncate(f / "chat_template.jinja", 300 << 20), "chat_template.jinja has 300 MB"),
    *((lambda f, name=name: in_place(f / name, os.mkfifo), f"{name} is a pipe, device or socket") for name in READ),
    (lambda f: in_place(f / "config.json", lambda p: p.symlink_to("/dev/null")), "config.json is a pipe, device or"),
    (lambda f: in_place(f / "config.json", lambda p: p.symlink_to("config.json")), "config.json is a link to nothing"),
    (
        lambda f: in_place(f / "tokenizer.json", lambda p: p.write_text("[]")),
        r"tokenizer.json holds \[\] and no object",
    ),
    (lambda f: in_place(f / "tokenizer.json", lambda p: p.write_text("7")), "tokenizer.json holds 7 and no object"),
]


@pytest.mark.parametrize(("spoil", "said"), FAULTS, ids=[said for _, said in FAULTS])
def test_a_folder_that_is_spoiled_is_refused_with_the_reason(
    folder: Path, spoil: Callable[[Path], Any], said: str
) -> None:
    spoil(folder)
    with pytest.raises(BackboneError, match=said):
        Backbone.load(str(folder), device="cpu")


class RunsCode:
    """Pickled: the call that makes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_weights_run_nothing(folder: Path, tmp_path_factory: pytest.TempPathFactory, zipped: bool) -> None:
    mark = tmp_path_factory.mktemp("mark") / "ran"
    weights = {**load_file(folder / "model.safetensors"), "x": RunsCode(mark)}
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(BackboneError, match="could not be loaded"):
        Backbone.load(str(folder), device="cpu")
    assert not mark.exists()


@pytest.mark.parametrize(
    "file, changes",
    [
        ("config.json", {"model_type": "mine", "auto_map": {"AutoConfig": "mine.X", "AutoModelForCausalLM": "mine.X"}}),
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "mine.X"}}),
        ("tokenizer_config.json", {"tokenizer_class": "X", "auto_map": {"AutoTokenizer": ["mine.X", "mine.X"]}}),
    ],
)
def test_code_that_lies_in_a_folder_does_not_run(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, file: str, changes: dict[str, Any]
) -> None:
    mark = tmp_path_factory.mktemp("mark") / "ran"
    (folder / "mine.py").write_text(f"open({str(mark)!r}, 'w')\nclass X: pass\n")
    edit(folder / file, **changes)
    with contextlib.suppress(BackboneError):
        Backbone.load(str(folder), device="cpu")
    assert not mark.exists()


def test_whatever_a_model_raises_while_it_is_tried_is_quoted_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr("neuromas.network.backbone.prove", fail)
    with pytest.raises(BackboneError, match=r"\(llama\).*ZeroDivisionError: first line second line"):
        Backbone.load(str(folder), device="cpu")


def test_the_same_model_in_its_two_dtypes_is_taken_and_says_its_path(folder: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        proof = Backbone.load(str(folder), device="cpu", dtype=dtype).proof
        assert proof.path == "packed" and "fast path" in proof.line
        assert max(proof.first, proof.decode, proof.replay) <= proof.bound


@pytest.mark.parametrize("targets", [("lm_head",), ("q_proj", "lm_head"), ("nothing",)])
def test_targets_outside_the_decoder_are_refused(targets: tuple[str, ...]) -> None:
    backbone = Backbone("fake", plain_model(), byte_tokenizer(), "compact")
    with pytest.raises(ConfigError, match=r"match no linear layer of this backbone's decoder; it has \['down_proj'"):
        backbone.adapter_shapes(targets)


def test_a_folder_may_declare_the_layers_that_get_adapters(folder: Path) -> None:
    leaves = lambda *targets: {key.rpartition(".")[2] for key in Backbone.load(str(folder)).adapter_shapes(*targets)}
    assert leaves() == {"q_proj", "k_proj", "v_proj", "o_proj"}
    declare(folder)
    assert leaves() == {"q_proj", "k_proj", "v_proj", "o_proj"}
    declare(folder, adapter_targets=["up_proj", "v_proj"])
    assert leaves() == {"up_proj", "v_proj"} and leaves(("o_proj",)) == {"o_proj"}  # a recipe's word counts
    declare(folder, adapter_targets=["nothing"])
    with pytest.raises(ConfigError, match=r"\['nothing'\] match no linear layer"):
        leaves()


def test_targets_that_no_pass_calls_are_refused() -> None:
    model = plain_model()
    model.model.spare = torch.nn.Linear(32, 32)
    backbone = Backbone("fake", model, byte_tokenizer(), "compact")
    with pytest.raises(ConfigError, match=r"\['spare'\] would do nothing"):
        backbone.adapter_shapes(("q_proj", "spare"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_do_not_change_with_their_file(folder: Path, dtype: str) -> None:
    backbone = Backbone.load(str(folder), device="cpu", dtype=dtype)
    before = backbone.fingerprint()
    other = {key: value * 2 for key, value in load_file(folder / "model.safetensors").items()}
    with (folder / "model.safetensors").open("r+b") as file:  # in place, as `cp` writes over a file
        file.write(safetensors.torch.save(other, {"format": "pt"}))
    assert backbone.fingerprint() == before
    assert Backbone.load(str(folder), device="cpu", dtype=dtype).fingerprint() != before


def test_tied_weights_stay_tied(folder: Path) -> None:
    plain_model("llama-mha").save_pretrained(folder)
    model = Backbone.load(str(folder), device="cpu").model
    assert model.lm_head.weight is model.model.embed_tokens.weight
