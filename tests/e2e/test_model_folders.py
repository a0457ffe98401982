"""A model's or an adapter's folder that is broken or hostile ends in one line, runs nothing, and leaves no run behind.

What does no harm, such as code that nobody asked for, trains to the same numbers as the sound folder.
"""

import multiprocessing
import os
import re
import resource
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from crashes import same_run
from damage import RECIPE, Ended, command
from helpers import CHATML, byte_tokenizer, make_network, plain_model
from hostile import (
    FORMS,
    INDEX,
    SHARD,
    WEIGHTS,
    Way,
    both,
    code,
    edit,
    header,
    index,
    indexed,
    made,
    number,
    pickled,
    put,
    raw_header,
    sized,
    template,
    tensor,
    tokens,
    weights,
)  # fmt: skip
from neuromas.files import write_json
from neuromas.network.backbone import Backbone

SAMPLE, SECONDS = 80, 60  # every so many-th case is in `make test`; a case that takes so long hangs
_FORK = multiprocessing.get_context("fork")  # the child has everything imported
NAN, HUGE = float("nan"), 1 << 40
SIZES: dict[str, tuple[Any, ...]] = {
    "hidden_size": (0, -32, 64, "32", 32.5, None, HUGE),
    "intermediate_size": (0, -1, 64, "48", HUGE),
    "num_hidden_layers": (0, -1, 1, 3, "2", 2.5, None, 10**9),
    "num_attention_heads": (0, -4, 3, "4", HUGE),
    "num_key_value_heads": (0, 3, -1, HUGE),
    "head_dim": (0, 7, -8, HUGE),
    "vocab_size": (0, -1, 259, 300, "260", HUGE),
    "max_position_embeddings": (0, "512"),
}
OTHERS: dict[str, tuple[Any, ...]] = {
    "model_type": (..., 7, [], "no-such-model", "../llama", "bert", "vit"),
    "rms_norm_eps": ("x", -1.0, NAN),
    "hidden_act": ("no-such-function", 7, "__import__('os')"),
    "rope_parameters": (7, {"rope_type": "no-such-kind"}, {"rope_theta": 0.0, "rope_type": "default"}),
    "dtype": ("no-such-type", ["float32"]),
    "quantization_config": (7, {}),
    "layer_types": (7, ["no-such-kind"] * 2),
    "eos_token_id": ("</s>", [[1]]),
}
MATRIX, TWICE = "lm_head.weight", '"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}'
TEXT = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def _of(values: dict[str, tuple[Any, ...]]) -> dict[str, Way]:
    return {f"{key} = {value!r}": edit("config.json", **{key: value}) for key in values for value in values[key]}


def _numbers(name: str, file: str) -> dict[str, Way]:
    return {f"{value} in {name}": number(value, name, file) for value in (NAN, float("inf"), float("-inf"))}


def _of_safetensors(file: str, name: str) -> dict[str, Way]:
    """Faults of a file of weights; of `name`, a tensor in it."""
    return {
        "empty": put(file, b""),
        "a pointer": put(file, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "a page": put(file, "<html>Not found</html>"),
        "a folder": made(file, Path.mkdir),
        "a pipe": made(file, os.mkfifo),
        "a device": made(file, lambda path: path.symlink_to("/dev/zero")),
        "a link to nothing": made(file, lambda path: path.symlink_to("nowhere")),
        "cut in its header": lambda f: os.truncate(f / file, 100),
        "cut": lambda f: os.truncate(f / file, (f / file).stat().st_size - 100),
        "longer": lambda f: os.truncate(f / file, (f / file).stat().st_size + 100),
        "a header of 2^60 bytes": raw_header(b"{}", 1 << 60, file),
        "a header of 2^64 - 1 bytes": raw_header(b"{}", (1 << 64) - 1, file),
        "a header of no bytes": raw_header(b"", 0, file),
        "a header that is a list": raw_header(b"[]", file=file),
        "a header that is no JSON": raw_header(b"{{{{", file=file),
        "a header that is no UTF-8": raw_header(b'{"\xff": 1}', file=file),
        "offsets beyond the end": tensor(file, name, data_offsets=[0, HUGE]),
        "offsets below zero": tensor(file, name, data_offsets=[-128, 0]),
        "offsets exchanged": tensor(file, name, data_offsets=[128, 0]),
        "offsets that overlap": tensor(file, name, data_offsets=[4, 132]),
        "offsets of another length": tensor(file, name, data_offsets=[0, 64]),
        "no offsets": header(lambda found: found[name].pop("data_offsets"), file),
        "an unknown dtype": tensor(file, name, dtype="F33"),
        "a dtype of another width": tensor(file, name, dtype="F64"),
        "a shape below zero": tensor(file, name, shape=[-32]),
        "a shape of 2^60": tensor(file, name, shape=[1 << 60]),
        "a shape that overflows": tensor(file, name, shape=[1 << 33, 1 << 33, 1 << 33]),
        "a shape of text": tensor(file, name, shape="32"),
        "metadata that is no text": header(lambda found: found.update({"__metadata__": {"format": 7}}), file),
        "pickled": pickled(file, of=file),
    }


REFUSED: dict[str, dict[str, Way]] = {  # by the words that an error names its place with
    **{
        file: {form: way(file) for form, way in FORMS.items()}
        for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
    },
    "config.json|backbone './model'": {**_of(SIZES), **_of(OTHERS), "missing": made("config.json", lambda path: None)},
    "custom code|trust_remote_code|tokenizer": {
        "of an unknown type": code("config.json", model_type="mine", auto_map={"AutoConfig": "mine.X"}),
        "of the hub": code("config.json", model_type="mine", auto_map={"AutoConfig": "no/such--mine.X"}),
        "of the tokenizer": code(
            "tokenizer_config.json", tokenizer_class="X", auto_map={"AutoTokenizer": ["mine.X", "mine.X"]}
        ),
        "of half a tokenizer": code(
            "tokenizer_config.json", tokenizer_class="X", auto_map={"AutoTokenizer": ["mine.X"]}
        ),
    },
    "Weights only": {"pickled": pickled(), "pickled as of old": pickled(zipped=False)},
    WEIGHTS: {**_of_safetensors(WEIGHTS, "model.norm.weight"), "missing": made(WEIGHTS, lambda path: None)},
    "weight": {
        "none": raw_header(b"{}"),
        "one twice": raw_header(f"{{{TWICE}, {TWICE}}}".encode()),
        "one fewer": weights(lambda found: found.pop("model.norm.weight")),
        "a layer more": weights(
            lambda found: found.update({k.replace(".1.", ".2."): v.clone() for k, v in found.items() if ".1." in k})
        ),
        **{
            key: way
            for name in ("model.norm", "lm_head", "model.embed_tokens", "model.layers.1.mlp.up_proj")
            for key, way in _numbers(f"{name}.weight", WEIGHTS).items()
        },
    },
    "model.norm.weight in model": {
        "of another shape": weights(lambda found: found.update({"model.norm.weight": torch.ones(33)})),
        "of another shape and the same bytes": tensor(WEIGHTS, "model.norm.weight", shape=[4, 8]),
    },
    "lm_head.weight in model": {"turned": weights(lambda found: found.update({MATRIX: found[MATRIX].T.contiguous()}))},
    "q_proj.bias": {
        "a bias more": weights(lambda found: found.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(32)})),
    },
    "model.safetensors.index": {
        "a shard that is missing": indexed(model__norm__weight="model-00002-of-00002.safetensors"),
        "a shard in another folder": indexed(model__norm__weight="../model.safetensors"),
        "a shard anywhere": indexed(model__norm__weight="/etc/passwd"),
        "a shard that is no weights": indexed(model__norm__weight="config.json"),
        "a shard that is a folder": indexed(model__norm__weight="."),
        "a shard with a NUL": indexed(model__norm__weight="\0"),
        "a shard with half a surrogate": indexed(model__norm__weight="\ud800.safetensors"),
        "an empty map": index('{"metadata": {}, "weight_map": {}}'),
        "no map": index("{}"),
        "a map that is a list": index('{"metadata": {}, "weight_map": []}'),
        "a map of numbers": index('{"metadata": {}, "weight_map": {"model.norm.weight": 7}}'),
        "a map of lists": index('{"metadata": {}, "weight_map": {"model.norm.weight": ["a"]}}'),
    },
    INDEX: {form: both(indexed(), way(INDEX)) for form, way in FORMS.items()},
    SHARD: {
        "a shard that is cut": both(indexed(), lambda f: os.truncate(f / SHARD, 1000)),
        "a shard that is a pipe": both(indexed(), made(SHARD, os.mkfifo)),
        "a shard that is empty": both(indexed(), put(SHARD, b"")),
    },
    "pytorch_model.bin.index.json": {
        "a shard anywhere": both(
            made(WEIGHTS, lambda path: None),
            put("pytorch_model.bin.index.json", '{"weight_map": {"x": "/etc/passwd"}}'),
        )
    },
    "tokenizer": {
        "missing": made("tokenizer.json", lambda path: None),
        "pickled": both(pickled("tokenizer.json")),
        "an empty vocabulary": tokens(lambda t: t["model"].update(vocab={})),
        "a vocabulary that is a list": tokens(lambda t: t["model"].update(vocab=["a"])),
        "a vocabulary beyond the model's": tokens(lambda t: t["model"]["vocab"].update({"abc": 100_000})),
        "a vocabulary one beyond the model's": tokens(lambda t: t["model"]["vocab"].update({"abc": 260})),
        "ids below zero": tokens(lambda t: t["model"]["vocab"].update({"a": -1})),
        "ids of 2^60": tokens(lambda t: t["model"]["vocab"].update({"a": 1 << 60})),
        "merges of what is not there": tokens(lambda t: t["model"].update(merges=[["no", "such"]])),
        "merges of text": tokens(lambda t: t["model"].update(merges="x")),
        "a model of an unknown kind": tokens(lambda t: t["model"].update(type="NoSuch")),
        "no model": tokens(lambda t: t.pop("model")),
        "a pre-tokenizer of an unknown kind": tokens(lambda t: t.update(pre_tokenizer={"type": "NoSuch"})),
        "a pre-tokenizer with a wrong pattern": tokens(
            lambda t: t.update(
                pre_tokenizer={"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}
            )
        ),
        "a decoder of an unknown kind": tokens(lambda t: t.update(decoder={"type": "NoSuch"})),
        "added tokens that are a number": tokens(lambda t: t.update(added_tokens=7)),
        "added tokens without text": tokens(lambda t: t["added_tokens"][0].pop("content")),
        "an end that is a number": edit("tokenizer_config.json", eos_token=7),
        "a class that is a number": edit("tokenizer_config.json", tokenizer_class=7),
    },
    "end-of-sequence|eos_token_id": {
        "no end": both(
            edit("tokenizer_config.json", eos_token=...),
            edit("generation_config.json", eos_token_id=...),
            edit("config.json", eos_token_id=...),
        ),
        "an end that is text": edit("generation_config.json", eos_token_id="</s>"),
        "an end that is nested": edit("generation_config.json", eos_token_id=[[1]]),
        "an end that is an object": edit("generation_config.json", eos_token_id={"a": 1}),
        "an end beyond the model's alone": both(
            edit("tokenizer_config.json", eos_token=...), edit("generation_config.json", eos_token_id=100_000)
        ),
    },
    "chat[_ ]template": {
        "repeats nothing": template("hello"),
        "repeats twice": template(TEXT + TEXT),
        "no jinja": template("{% for %}"),
        "an unknown filter": template("{{ messages | nosuch }}"),
        "includes": template("{% include '/etc/passwd' %}" + TEXT),
        "leaves the sandbox": template("{{ ''.__class__.__mro__[1].__subclasses__() }}" + TEXT),
        "calls": template("{{ cycler.__init__.__globals__.os.system('touch ran') }}" + TEXT),
        "writes an attribute": template("{% set messages.x = 1 %}" + TEXT),
        "raises": template("{{ raise_exception('no') }}"),
        "divides by zero": template("{{ 1 / 0 }}" + TEXT),
        "of 300 MB": sized("chat_template.jinja", 300 << 20),
        "a pipe": made("chat_template.jinja", os.mkfifo),
        "a folder": made("chat_template.jinja", Path.mkdir),
        "no UTF-8": put("chat_template.jinja", b"\xff\xfe"),
        "a number": both(made("chat_template.jinja", lambda p: None), edit("tokenizer_config.json", chat_template=7)),
    },
    "x.jinja": {
        "a pipe": both(
            lambda f: (f / "additional_chat_templates").mkdir(), made("additional_chat_templates/x.jinja", os.mkfifo)
        ),
    },
    "neuromas.json": {
        "another style": put("neuromas.json", '{"prompt_style": "Chat"}'),
        "a style that is a list": put("neuromas.json", '{"prompt_style": []}'),
        "no style": put("neuromas.json", "{}"),
        "nested": put("neuromas.json", "[" * 100_000),
        "a folder": made("neuromas.json", Path.mkdir),
        "a pipe": made("neuromas.json", os.mkfifo),
        "no UTF-8": put("neuromas.json", b"\xff"),
    },
    "./model": {"an adapter": put("adapter_config.json", "{}"), "nothing": lambda f: [p.unlink() for p in f.iterdir()]},
}
HARMLESS: dict[str, Way] = {  # the run is that of the sound folder
    "code of a known type": code("config.json", auto_map={"AutoModelForCausalLM": "mine.X"}),
    "code to generate with": both(
        lambda f: (f / "custom_generate").mkdir(), put("custom_generate/generate.py", "1 / 0")
    ),
    "weights elsewhere": lambda f: [(f / WEIGHTS).rename(f.parent / "w"), (f / WEIGHTS).symlink_to("../w")],
    "an index beside the weights": put(INDEX, '{"weight_map": {"x": "model.safetensors"}}'),
    "an index with a weight that no shard has": indexed(model__layers__7__x__weight=SHARD),
    "pickled weights beside the others": put("pytorch_model.bin", b"\x80"),
    "another dtype": edit("config.json", dtype="int8"),
    "an unknown way to quantise": edit("config.json", quantization_config={"quant_method": "no-such-method"}),
    "any number of positions": edit("config.json", max_position_embeddings=-1),
    "many positions": edit("config.json", max_position_embeddings=10**30),
    "metadata of another library": header(lambda found: found.update({"__metadata__": {"format": "tf"}})),
    "a tokenizer of an unknown class": edit("tokenizer_config.json", tokenizer_class="NoSuch"),
    "a length below zero": edit("tokenizer_config.json", model_max_length=-5),
    "an end more below zero": edit("generation_config.json", eos_token_id=-1),
    "an end more beyond the model's": edit("generation_config.json", eos_token_id=100_000),
    "a temperature that is no number": edit("generation_config.json", temperature=NAN),
    "settings of other types": edit("generation_config.json", temperature="hot", top_k=[], max_length=-1),
    "another file that is no JSON": put("notes.json", "{"),
}
ADAPTER, CONFIG = "adapter_model.safetensors", "adapter_config.json"
A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
ADAPTERS: dict[str, dict[str, Way]] = {
    CONFIG: {form: way(CONFIG) for form, way in FORMS.items() if form != "of 300 MB"},
    ADAPTER: {**_of_safetensors(ADAPTER, A), "missing": made(ADAPTER, lambda path: None)},
    "adapter": {
        "pickled": pickled("adapter_model.bin", of=ADAPTER),
        "no weights": raw_header(b"{}", file=ADAPTER),
        **_numbers(A, ADAPTER),
        "a matrix turned": weights(lambda found: found.update({A: found[A].T.contiguous()}), ADAPTER),
        "a matrix fewer": weights(lambda found: found.pop(A), ADAPTER),
        "a layer more": weights(lambda found: found.update({A.replace(".0.", ".9."): found[A].clone()}), ADAPTER),
        **{
            f"{key} = {value!r}": edit(CONFIG, **{key: value})
            for key, values in {
                "r": (0, -1, 3, 1.5, "2", None, HUGE),
                "lora_alpha": (NAN, float("inf"), "4", None, ...),
                "peft_type": ("IA3", 7, ...),
                "use_dora": (True,),
                "bias": ("all",),
                "fan_in_fan_out": (True,),
                "rank_pattern": ({"q_proj": 4},),
                "modules_to_save": (["lm_head"],),
            }.items()
            for value in values
        },
    },
}


def some(groups: dict[str, dict[str, Way]]) -> list[Any]:
    """The cases as (words, name), of which all but a few are slow."""
    cases = [(words, name) for words, ways in groups.items() for name in ways]
    fast = lambda case: zlib.crc32(": ".join(case).encode()) % SAMPLE == 0
    return [pytest.param(*c, id=": ".join(c), marks=[] if fast(c) else pytest.mark.slow) for c in cases]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sound model, an adapter of it, and recipes that use them."""
    root = tmp_path_factory.mktemp("folders")
    plain_model().save_pretrained(root / "model")
    byte_tokenizer(CHATML).save_pretrained(root / "model")
    recipe = RECIPE.replace("STEPS", "1").replace('"made"', '"./model"')
    (root / "r.toml").write_text(recipe)
    (root / "a.toml").write_text(
        recipe.replace("adapter.rank = 2", 'adapter.rank = 2\nadapter.init_from = "./adapter"')
    )
    state, config = make_network("2", Backbone.load(str(root / "model")), rank=2).adapters.export_peft("out", "made")
    (root / "adapter").mkdir()
    save_file(state, root / "adapter" / ADAPTER)
    write_json(root / "adapter" / CONFIG, config)
    return root


def trained(root: Path, place: Path, recipe: str, spoil: Way | None = None, spoilt: str = "model") -> Ended:
    """`neuromas train` in `place`, in a process of its own, with a copy of the folders of which one is spoilt."""
    shutil.copytree(root, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("whole"))
    if spoil is not None:
        spoil(place / spoilt)
    queue = _FORK.Queue()

    def target() -> None:
        os.chdir(place)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 30), resource.getrlimit(resource.RLIMIT_AS)[1]))
        ended = command("train", recipe, "--out", "runs/run")
        queue.put((ended.code, ended.out, ended.err))

    process: Any = _FORK.Process(target=target)
    process.start()
    process.join(SECONDS)
    alive = process.is_alive()
    process.kill()
    process.join()
    assert not alive, f"not done after {SECONDS} s"
    assert process.exitcode == 0
    return Ended(*queue.get(timeout=10))


def check_refused(ended: Ended, place: Path, words: str) -> None:
    assert (ended.code, ended.is_clear) == (2, True), ended.err
    line = next(line for line in ended.err.splitlines() if line.startswith("error: "))
    assert re.search(words, line), line
    assert not (place / "runs").exists()
    assert not [*place.rglob("ran")], "code has run"


@pytest.mark.parametrize("words, name", some(REFUSED))
def test_a_model_that_cannot_be_used_is_refused(root: Path, tmp_path: Path, words: str, name: str) -> None:
    check_refused(trained(root, tmp_path, "r.toml", REFUSED[words][name]), tmp_path, words)


@pytest.mark.parametrize("words, name", some(ADAPTERS))
def test_an_adapter_that_cannot_be_used_is_refused(root: Path, tmp_path: Path, words: str, name: str) -> None:
    check_refused(trained(root, tmp_path, "a.toml", ADAPTERS[words][name], "adapter"), tmp_path, words)


@pytest.fixture(scope="module")
def whole(root: Path) -> Path:
    """The run of the sound model."""
    ended = trained(root, root / "whole", "r.toml")
    assert ended.code == 0, ended.err
    return root / "whole/runs/run"


@pytest.mark.slow
@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_no_harm_changes_nothing(root: Path, whole: Path, tmp_path: Path, name: str) -> None:
    ended = trained(root, tmp_path, "r.toml", HARMLESS[name])
    assert ended.code == 0, ended.err
    assert not [*tmp_path.rglob("ran")], "code has run"
    same_run(tmp_path / "runs/run", whole)


@pytest.mark.slow
def test_the_sound_adapter_is_taken(root: Path, tmp_path: Path) -> None:
    ended = trained(root, tmp_path, "a.toml")
    assert ended.code == 0, ended.err


def test_there_are_hundreds_of_cases() -> None:
    assert sum(map(len, (*REFUSED.values(), *ADAPTERS.values(), HARMLESS))) > 300
