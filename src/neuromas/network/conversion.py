"""GGUF files as backbones: converted once to a folder that transformers reads, and checked against their own words."""

import copy
import hashlib
from pathlib import Path
from typing import Any

from neuromas.errors import BackboneError, require
from neuromas.files import whole_folder

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
    target = cache / f"{gguf.stem}-{digest.hexdigest()}"
    return target if (target / "config.json").is_file() else convert(gguf, target)


def convert(gguf: Path, target: Path) -> Path:
    """Write the model in `gguf` to the folder `target` as float32 safetensors; whole or not at all.

    Raises `BackboneError` where the tokenizer is not the one that the file describes.
    """
    require("gguf", f"reading {gguf.name}", "pip install gguf", error=BackboneError)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with whole_folder(target, f".{target.name}.") as work:
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        config = copy.deepcopy(read.config)
        del config.quantization_config  # pyright: ignore[reportAttributeAccessIssue]  # the weights are plain now; marked as quantised they could not be saved
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(read.state_dict())
        model.generation_config = read.generation_config
        model.save_pretrained(work)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        _check(gguf, tokenizer)
        tokenizer.save_pretrained(work)
    return target


def _check(gguf: Path, tokenizer: Any) -> None:
    """Compare a tokenizer with the file's metadata, and give it the file's chat template."""
    from gguf import GGUFReader

    fields = GGUFReader(gguf).fields
    told = lambda key: fields[f"tokenizer.{key}"].contents() if f"tokenizer.{key}" in fields else None
    tokens = told("ggml.tokens") or []
    wrong = [i for i, token in enumerate(tokens) if tokenizer.convert_ids_to_tokens(i) != token]
    if wrong:
        raise BackboneError(
            f"{gguf}: {len(wrong)} of its {len(tokens)} tokens are read otherwise, such as token {wrong[0]}, "
            f"{tokens[wrong[0]]!r}, as {tokenizer.convert_ids_to_tokens(wrong[0])!r}; use the model's own folder"
        )
    for role in ("bos", "eos"):
        number = told(f"ggml.{role}_token_id")
        if number is not None and getattr(tokenizer, f"{role}_token_id") != number:
            setattr(tokenizer, f"{role}_token", tokens[number])
    tokenizer.chat_template = told("chat_template") or tokenizer.chat_template
