"""Code that several studies use: how a study starts, which cells are done, a trained network, cells and axes."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t

from neuromas.config import RunConfig
from neuromas.evaluate.stats import wilson
from neuromas.files import read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Network
from neuromas.run.loop import train
from neuromas.tasks.base import Task


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is a module's docstring as it stands."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def start(out: Path) -> Backbone:
    """Make the folder of a study, use one thread, and load the embedded backbone."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    return Backbone.load("tiny", device="cpu", dtype="float32")


def is_done(file: Path, cell: dict[str, Any]) -> bool:
    """True if a file of JSON lines has a line with all these values."""
    return any(all(line[key] == value for key, value in cell.items()) for line in read_json_lines(file))


def train_network(config: RunConfig, folder: Path, backbone: Backbone | None = None) -> tuple[Network, Task]:
    """Train a network in a run folder; a run that stands there goes on."""
    network, task = train(config, folder, resume=folder.exists(), backbone=backbone)
    assert isinstance(network, Network)
    return network, task


# -- reports ---------------------------------------------------------------------------------------------------


def percents(values: Sequence[float]) -> str:
    """The mean in percent, and in brackets the value of every seed."""
    return f"{100 * np.mean(values):.1f} ({' '.join(f'{100 * value:.0f}' for value in values)})"


def with_wilson(accuracy: float, n: int) -> str:
    """An accuracy on n questions, with Wilson's 95 % interval."""
    low, high = wilson(accuracy * n, n)
    return f"{accuracy:.1%} [{low * 100:.0f}, {high * 100:.0f}]"


def student(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of two seeds or more, and the ends of its 95 % interval by Student's t."""
    mean = float(np.mean(values))
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return mean, mean - half, mean + half


def tidy(axes: Any) -> None:
    """A light grid, and no frame on top and on the right."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
