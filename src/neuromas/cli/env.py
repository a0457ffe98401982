"""`neuromas env`: what a report of a fault should say about the machine."""

import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from neuromas.cli.show import console, grid
from neuromas.files import write_json
from neuromas.network.builtin import cache_folder


def main(json: Path | None = None) -> None:
    """Show versions, devices and folders, to be pasted into a report of a fault. Nothing is loaded from the hub.

    Args:
        json: Write the same to this file, for programs.
    """
    found = {"neuromas": _version("neuromas"), "python": platform.python_version(), "system": platform.platform()}
    found |= {name: _version(name) for name in _packages()} | _devices() | _folders()
    table = grid("", words=("",))
    for name, value in found.items():
        table.add_row(name, value)
    console.print(table, markup=False)
    if json is not None:
        write_json(json, found)


def _packages() -> list[str]:
    """The packages that the library and its extras ask for, but those of its development."""
    try:
        asked = [line for line in requires("neuromas") or [] if not re.search(r"extra == .(dev|docs)", line)]
    except PackageNotFoundError:  # run from a source tree that is not installed
        asked = ["torch", "transformers"]
    return list(dict.fromkeys(re.split(r"[^\w.-]", line)[0] for line in asked))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> dict[str, str]:
    import torch

    cards = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return {"cores": f"{os.cpu_count()}, torch uses {torch.get_num_threads()}", "cuda": ", ".join(cards) or "none"}


def _folders() -> dict[str, str]:
    named = {name: os.environ.get(name, "not set") for name in ("NEUROMAS_DATA", "NEUROMAS_PEERS", "HF_HOME")}
    return {"installed in": sys.prefix, "backbones kept in": str(cache_folder())} | named
