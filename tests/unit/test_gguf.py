"""A GGUF file is a backbone: the same model, the same words, the same chat template."""

from pathlib import Path

import pytest
import torch

from gguf_files import write
from helpers import CHATML, byte_tokenizer, plain_model
from neuromas.errors import BackboneError
from neuromas.network.backbone import Backbone
from neuromas.network.conversion import _check


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEUROMAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_file_and_its_folder_are_the_same_backbone_and_converted_once(
    tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = plain_model()
    write(tmp_path / "small.gguf", plain)
    backbone = Backbone.load(str(tmp_path / "small.gguf"), device="cpu")
    ids = torch.arange(3, 40)[None]
    with backbone.attending("eager"):
        torch.testing.assert_close(backbone.model(ids).logits, plain(ids).logits, atol=1e-5, rtol=1e-5)
    assert backbone.template.style == "chat" and backbone.tokenizer.chat_template == CHATML
    assert backbone.end_ids == {258} and backbone.tokenizer.bos_token_id == 259
    assert backbone.template.encode("cab") == [ord("c"), 257]
    assert backbone.tokenizer.decode(backbone.template.encode("Übung 7\n")) == "Übung 7\n"
    made = [file.stat().st_mtime_ns for file in cache.rglob("*")]
    (told,) = capfd.readouterr().err.splitlines()
    assert told.startswith("converting small.gguf to ") and told.endswith("; this is done once")
    assert Backbone.load(str(tmp_path), device="cpu").fingerprint() == backbone.fingerprint()
    assert [file.stat().st_mtime_ns for file in cache.rglob("*")] == made


def test_what_is_no_gguf_file_is_refused_and_leaves_nothing_behind(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(BackboneError, match="is no file"):
        Backbone.load(str(tmp_path / "none.gguf"))
    (tmp_path / "bad.gguf").write_bytes(b"GGUF and nothing more")
    with pytest.raises(BackboneError, match=r"bad\.gguf.* could not be loaded \(\w+: "):
        Backbone.load(str(tmp_path / "bad.gguf"))
    assert not any(cache.glob("*")) if cache.exists() else True
    (tmp_path / "other.gguf").touch()
    with pytest.raises(BackboneError, match=r"holds 2 \.gguf files"):
        Backbone.load(str(tmp_path))


def test_a_tokenizer_that_reads_other_tokens_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "small.gguf", plain_model())
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *_, **__: byte_tokenizer())
    with pytest.raises(BackboneError, match=r"1 of its 260 tokens are read otherwise, such as token 257, 'ab'"):
        Backbone.load(str(tmp_path / "small.gguf"))


SPLIT = [  # the file's way of splitting texts, a text, its pieces
    ("gpt-2", "  12 ab", [" ", " 12", " ab"]),
    ("smollm", "  1", ["  ", "1"]),
    ("smollm", "  12 ab", ["  ", "1", "2", " ab"]),
    ("starcoder", "x=10", ["x", "=", "1", "0"]),
    ("llama-bpe", "1234 it'S\n\n", ["123", "4", " it", "'S", "\n\n"]),
    ("qwen2", "12 it's", ["1", "2", " it", "'s"]),
]


@pytest.mark.parametrize(("pre", "text", "pieces"), SPLIT)
def test_texts_are_split_as_the_file_says(pre: str, text: str, pieces: list[str], tmp_path: Path) -> None:
    write(tmp_path / "small.gguf", plain_model(), pre=pre)
    tokenizer = Backbone.load(str(tmp_path / "small.gguf"), device="cpu").tokenizer
    found = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in found] == pieces


def test_a_way_of_splitting_is_a_part_of_the_fingerprint_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    prints: dict[str, str] = {}
    for pre in ("default", "gpt-2", "smollm"):
        write(tmp_path / f"{pre}.gguf", plain_model(), pre=pre)
        prints[pre] = Backbone.load(str(tmp_path / f"{pre}.gguf"), device="cpu").fingerprint()
    assert prints["default"] == prints["gpt-2"] != prints["smollm"]
    write(tmp_path / "other.gguf", plain_model(), pre="tekken")
    with pytest.raises(BackboneError, match=r"texts are split as 'tekken' does, which is not known here"):
        Backbone.load(str(tmp_path / "other.gguf"), device="cpu")


class Read:
    """A tokenizer that has these tokens."""

    bos_token_id = eos_token_id = chat_template = None

    def __init__(self, *tokens: str) -> None:
        self.convert_ids_to_tokens = tokens.__getitem__


def test_blanks_in_a_file_of_sentencepiece_are_its_marks_and_elsewhere_another_token() -> None:
    """Gemma's tokens of two and more blanks; GPT-2's tokens have no such mark."""
    told = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["a", "  "]}
    _check(Path("m.gguf"), Read("a", "▁▁"), told)
    for read, model in ((Read("a", "▁"), "llama"), (Read("a", "▁▁"), "gpt2")):
        with pytest.raises(BackboneError, match="1 of its 2 tokens are read otherwise, such as token 1"):
            _check(Path("m.gguf"), read, told | {"tokenizer.ggml.model": model})
