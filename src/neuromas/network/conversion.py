"""GGUF files as backbones: converted once to a folder that transformers reads, and checked against their own words."""

import copy
import hashlib
import io
import sys
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from neuromas.errors import BackboneError, require
from neuromas.files import whole_folder
from neuromas.markup import say

_FORM = 2  # of a converted folder; 1 split texts as GPT-2 does, whatever the file said
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LATER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How texts are split before merges, by a file's `tokenizer.ggml.pre`: one expression after another, as llama.cpp does.
_SPLITS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gpt-2", "gpt2", "phi-2", "mpt", "olmo", "jais"), (_WORDS,)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell"), (r"\p{N}", _WORDS)),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3"), (_LATER % "{1,3}",)),
    **dict.fromkeys(("qwen2", "stablelm2", "deepseek-r1-qwen"), (_LATER % "",)),
}
_SAMPLED = 1 << 20  # bytes at each end of a file by which it is known again


def gguf_in(name: str) -> Path | None:
    """The GGUF file that a backbone's name means: itself, or the only one in a folder without a config.json."""
    path = Path(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise BackboneError(f"backbone {name!r} is no file; check the path")
        return path
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        raise BackboneError(f"{name} holds {len(files)} .gguf files; name one of them, such as {files[0]}")
    return files[0] if files else None


def converted(gguf: Path, cache: Path) -> Path:
    """The folder in `cache` that holds the model of `gguf`; converts it on first use."""
    with gguf.open("rb") as file:
        digest = hashlib.blake2b(file.read(_SAMPLED), digest_size=6)
        file.seek(max(0, gguf.stat().st_size - _SAMPLED))
        digest.update(file.read() + str(gguf.stat().st_size).encode())
    target = cache / f"{gguf.stem}-{digest.hexdigest()}-{_FORM}"
    return target if (target / "config.json").is_file() else convert(gguf, target)


def convert(gguf: Path, target: Path) -> Path:
    """Write the model in `gguf` to the folder `target` as float32 safetensors; whole or not at all.

    Raises `BackboneError` where the tokenizer is not the one that the file describes.
    """
    require("gguf", f"reading {gguf.name}", "pip install gguf", error=BackboneError)
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer

    fields = GGUFReader(gguf).fields
    told = {key: fields[key].contents() for key in fields if key.startswith("tokenizer.")}
    say(f"converting {gguf.name} to {target}; this is done once", file=sys.stderr)
    with whole_folder(target, f".{target.name}.") as work, redirect_stderr(io.StringIO()):  # three bars of libraries
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        _check(gguf, tokenizer, told)
        splits = _split_as_told(gguf, tokenizer, told)
        tokenizer.save_pretrained(work)
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        config = copy.deepcopy(read.config)
        del config.quantization_config  # pyright: ignore[reportAttributeAccessIssue]  # the weights are plain now; marked as quantised they could not be saved
        if splits is not None:
            config.tokenizer_splits = splits  # a part of the backbone's fingerprint
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(read.state_dict())
        model.generation_config = read.generation_config
        model.save_pretrained(work)
    return target


def _split_as_told(gguf: Path, tokenizer: Any, told: dict[str, Any]) -> str | None:
    """Make a byte-level tokenizer of no family split texts as the file says: transformers does not read this field.

    Returns the name of that way where it is another than GPT-2's. Raises `BackboneError` for one that is unknown here.
    """
    way = told.get("tokenizer.ggml.pre", "default")
    general = type(tokenizer).__name__ == "TokenizersBackend" and told.get("tokenizer.ggml.model") == "gpt2"
    if not general or way == "default":
        return None
    if way not in _SPLITS:
        raise BackboneError(
            f"{gguf}: its texts are split as {way!r} does, which is not known here (known are {', '.join(_SPLITS)}); "
            "use the model's own folder"
        )
    from tokenizers import Regex, pre_tokenizers

    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in _SPLITS[way]]
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, bytewise])
    if way.startswith("llama"):
        tokenizer.backend_tokenizer.model.ignore_merges = True
    return None if _SPLITS[way] == (_WORDS,) else way


def _check(gguf: Path, tokenizer: Any, told: dict[str, Any]) -> None:
    """Compare a tokenizer with the file's metadata, and give it the file's chat template."""
    tokens = told.get("tokenizer.ggml.tokens", [])
    blank = "▁" if told.get("tokenizer.ggml.model") == "llama" else " "  # files hold SentencePiece's own tokens plain
    wrong = [
        i
        for i, token in enumerate(tokens)
        if tokenizer.convert_ids_to_tokens(i) not in (token, token.replace(" ", blank))
    ]
    if wrong:
        raise BackboneError(
            f"{gguf}: {len(wrong)} of its {len(tokens)} tokens are read otherwise, such as token {wrong[0]}, "
            f"{tokens[wrong[0]]!r}, as {tokenizer.convert_ids_to_tokens(wrong[0])!r}; use the model's own folder"
        )
    for role in ("bos", "eos"):
        number = told.get(f"tokenizer.ggml.{role}_token_id")
        if number is not None and getattr(tokenizer, f"{role}_token_id") != number:
            setattr(tokenizer, f"{role}_token", tokens[number])
    tokenizer.chat_template = told.get("tokenizer.chat_template") or tokenizer.chat_template
