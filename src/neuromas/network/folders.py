"""The files of a model's folder, looked at before a library reads them, so that an error names the file."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from neuromas.errors import BackboneError
from neuromas.files import plain, read_json

_OBJECTS = {
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json",
}  # fmt: skip
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED, _PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_FILES = _OBJECTS | {"neuromas.json", "chat_template.jinja", "merges.txt", _WEIGHTS, _INDEX, _PICKLED, _PICKLED_INDEX}
_TEXTS = (".json", ".jinja", ".txt", ".model")
_LARGEST = 1 << 28  # bytes of a file that is read whole; the largest tokenizers have a tenth of it
_NEVER_NONE = {"num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings"}
_MOST = {
    "num_hidden_layers": 1000, "num_experts": 10_000, "num_local_experts": 10_000, "n_routed_experts": 10_000,
    **dict.fromkeys(("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"), 1 << 24),
    "vocab_size": 1 << 24,
}  # fmt: skip


def check_folder(name: str, folder: Path) -> None:
    """Refuse a folder with what would be read for ever, such as a pipe, and with files that are no such files.

    Raises `BackboneError` that names the first of them. Whatever is no folder is left to the libraries.
    """
    if not folder.is_dir():
        return
    try:
        for path in sorted((*folder.iterdir(), *(folder / "additional_chat_templates").glob("*"))):
            _check(path)
        shards: Iterable[str] = ()
        if (folder / _WEIGHTS).exists():
            shards = [_WEIGHTS]
        elif (folder / _INDEX).exists():
            shards = _shards(folder / _INDEX)
        elif not (folder / _PICKLED).exists() and (folder / _PICKLED_INDEX).exists():
            _shards(folder / _PICKLED_INDEX)
        for shard in shards:
            with _reading(shard), safe_open(folder / shard, "pt"):
                pass
    except _Fault as fault:
        raise BackboneError(f"backbone {name!r}: {fault}; put the model's own file in its place") from fault.__cause__


class _Fault(Exception):
    """A file and its fault, in words."""


@contextmanager
def _reading(file: str) -> Iterator[None]:
    """Raises `_Fault` with what a library says of a file that it cannot read."""
    try:
        yield
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise _Fault(f"{file} cannot be read ({' '.join(str(error).split())})") from error


def _check(path: Path) -> None:
    """Raises `_Fault` for a file that no model can have."""
    if not path.exists():
        if path.name in _FILES:
            raise _Fault(f"{path.name} is a link to nothing")
        return  # libraries say whether they need it
    with _reading(path.name):
        plain(path)
    if path.name in _FILES and not path.is_file():
        raise _Fault(f"{path.name} is a folder")
    if path.suffix in _TEXTS and (size := path.stat().st_size) > _LARGEST:
        raise _Fault(f"{path.name} has {size >> 20} MB, and can be no file of a model")
    with _reading(path.name):
        if path.name in _OBJECTS and not isinstance(found := read_json(path), dict):
            raise _Fault(f"{path.name} holds {str(found)[:60]} and no object")
        if path.name.endswith(".jinja"):
            path.read_text(encoding="utf-8")


def _shards(index: Path) -> list[str]:
    """The files that an index names. Raises `_Fault` where one of them is no file of its folder."""
    with _reading(index.name):
        found = read_json(index)
    where = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(where, dict) or not where:
        raise _Fault(f"{index.name} has no weight_map")
    kind = Path(index.name.removesuffix(".index.json")).suffix
    for weight, shard in where.items():
        fault = ""
        if not isinstance(shard, str) or Path(shard).is_absolute() or ".." in Path(shard).parts:
            fault = "is no file of the folder"
        elif not (index.parent / shard).is_file():
            fault = "is missing"
        elif Path(shard).suffix != kind:
            fault = f"does not end in {kind}"
        if fault:
            raise _Fault(f"{index.name} says that {weight} is in {shard!r}, which {fault}")
    return sorted(set(where.values()))


def check_sizes(name: str, config: Any) -> None:
    """Refuse a config that would be built for hours before its weights are seen to be others."""
    for part in (config, config.get_text_config(decoder=True)):
        for key in sorted(_NEVER_NONE | _MOST.keys()):
            size = getattr(part, key, None)
            if isinstance(size, int) and size > _MOST.get(key, size):
                raise BackboneError(
                    f"backbone {name!r}: config.json says {key} = {size}, over {_MOST[key]}; correct it"
                )
            if isinstance(size, int) and ((size < 0 and key in _MOST) or (size == 0 and key in _NEVER_NONE)):
                raise BackboneError(f"backbone {name!r}: config.json says {key} = {size}, which is too few; correct it")
