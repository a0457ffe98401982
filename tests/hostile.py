"""Ways to break a model's or an adapter's folder, or to make it hostile; none crashes or stops what reads it."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Way = Callable[[Path], object]
WEIGHTS, SHARD, INDEX = "model.safetensors", "model-00001-of-00001.safetensors", "model.safetensors.index.json"


class RunsCode:
    """Pickled: the call that makes the file "ran" in the working folder when it is read."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


def edit(file: str, **changes: Any) -> Way:
    """Change keys of a JSON file; `...` removes one."""

    def way(folder: Path) -> None:
        data = json.loads((folder / file).read_text()) | changes
        (folder / file).write_text(json.dumps({key: value for key, value in data.items() if value is not ...}))

    return way


def put(file: str, content: str | bytes) -> Way:
    def way(folder: Path) -> None:
        (folder / file).write_bytes(content.encode(errors="surrogateescape") if isinstance(content, str) else content)

    return way


def made(file: str, make: Way) -> Way:
    """Something else in a file's place."""

    def way(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        make(folder / file)

    return way


def sized(file: str, size: int) -> Way:
    """A file of that size without a byte on the disk."""

    def way(folder: Path) -> None:
        (folder / file).touch()
        os.truncate(folder / file, size)

    return way


def both(*ways: Way) -> Way:
    return lambda folder: [way(folder) for way in ways]


def header(change: Callable[[dict[str, Any]], object], file: str = WEIGHTS) -> Way:
    """Change what a safetensors file says of its tensors, and leave their bytes as they are."""

    def way(folder: Path) -> None:
        data = (folder / file).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        found = json.loads(data[8 : 8 + length])
        change(found)
        text = json.dumps(found).encode()
        (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return way


def tensor(file: str, name: str, **changes: Any) -> Way:
    return header(lambda found: found[name].update(changes), file)


def raw_header(text: bytes, length: int | None = None, file: str = WEIGHTS) -> Way:
    return put(file, struct.pack("<Q", len(text) if length is None else length) + text)


def weights(change: Callable[[dict[str, torch.Tensor]], object], file: str = WEIGHTS) -> Way:
    def way(folder: Path) -> None:
        found = load_file(folder / file)
        change(found)
        save_file(found, folder / file, {"format": "pt"})

    return way


def number(value: float, name: str = "model.norm.weight", file: str = WEIGHTS) -> Way:
    return weights(lambda found: found[name].view(-1)[3:4].fill_(value), file)


def indexed(**files: str) -> Way:
    """The weights in one shard with an index, in which the tensors named are said to be elsewhere."""

    def way(folder: Path) -> None:
        names = load_file(folder / WEIGHTS).keys()
        (folder / WEIGHTS).rename(folder / SHARD)
        where = dict.fromkeys(names, SHARD) | {key.replace("__", "."): value for key, value in files.items()}
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))

    return way


def index(content: str) -> Way:
    return both(indexed(), put(INDEX, content))


def pickled(file: str = "pytorch_model.bin", zipped: bool = True, of: str = WEIGHTS) -> Way:
    def way(folder: Path) -> None:
        found = {**load_file(folder / of), "x": RunsCode()}
        (folder / of).unlink()
        torch.save(found, folder / file, _use_new_zipfile_serialization=zipped)

    return way


def code(file: str, **changes: Any) -> Way:
    """Code in the folder, and a file that asks for it."""
    return both(put("mine.py", "from pathlib import Path\nPath('ran').touch()\nclass X: pass\n"), edit(file, **changes))


def template(text: str) -> Way:
    return put("chat_template.jinja", text)


def tokens(change: Callable[[dict[str, Any]], object]) -> Way:
    def way(folder: Path) -> None:
        data = json.loads((folder / "tokenizer.json").read_text())
        change(data)
        (folder / "tokenizer.json").write_text(json.dumps(data))

    return way


FORMS: dict[str, Callable[[str], Way]] = {  # of any file that is JSON
    "empty": lambda file: put(file, ""),
    "cut": lambda file: lambda folder: put(file, (folder / file).read_bytes()[:60])(folder),
    "a list": lambda file: put(file, "[]"),
    "a number": lambda file: put(file, "7"),
    "null": lambda file: put(file, "null"),
    "nested": lambda file: put(file, "[" * 100_000),
    "no UTF-8": lambda file: put(file, b"\xff\xfe{}"),
    "of zeros": lambda file: put(file, bytes(100)),
    "a long number": lambda file: put(file, '{"vocab_size": ' + "9" * 5000 + "}"),
    "of 300 MB": lambda file: sized(file, 300 << 20),
    "a folder": lambda file: made(file, Path.mkdir),
    "a pipe": lambda file: made(file, os.mkfifo),
    "a device": lambda file: made(file, lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": lambda file: made(file, lambda path: path.symlink_to(path.name)),
}
