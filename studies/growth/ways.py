"""The ways of training that studies/growth/study.py compares: stages and settings of each, as settings of a run.

On expressions of 8 leaves:

scratch   the whole network from the start, on full instances
easy      the same, but 60 % easy instances in the first 60 % of the steps, of two parts that count, then of three
longer    `easy` at half the rate with twice as many samples: the settings that learned best in `tune`
staged    `scratch` on the questions that grown networks get, promoted alike: the effect of the questions alone
scratchpad   one adapter with as many parameters, which writes to itself as often as the staged network's nodes write
          and reads all it wrote; the same questions and promotions: the effect of cooperation
scratchpad+easy   the same on the questions of `easy`
fade, copy, zero, noise   grown by way of the smaller sizes, promoted on reward; named after how new nodes begin
plain     grown as `fade`, but on full instances alone, in stages of a fifth of the steps: the effect of growing alone
fade+copy   `fade`, but the last growth, which brings no new role, copies the old nodes
fade+copy+slow   the same at a quarter of the rate after the last growth, since all copies of a role move at once. A
          quarter was chosen beforehand, after a run of 31 nodes had lost there what it had learned
noise+copy+slow   the same with new nodes that begin with noise, chosen after two runs had come to the last growth
          without the skills that it needs

Everything else is equal: rate, batch, steps, anchor, balance. All were chosen by the training reward of grown runs of
7 nodes before these runs: rate and length of stages by a run of `zero`, seed 0; the anchor by one of `fade`, seed 1;
balance, and the parts that easy instances join, by one of `fade`, seed 0. For scratch, other settings were tried
afterwards: `tune`.
"""

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from neuromas.config import AdapterConfig

PUBLISHED = Path(__file__).parents[2] / "recipes"
RECIPES = {  # of each part of the study
    "keep": PUBLISHED / "tiny_compositional_growth.toml",
    "paths": PUBLISHED / "tiny_compositional_paths.toml",
    "sizes": Path(__file__).with_name("sizes.toml"),
}
INITS = ("fade", "copy", "zero", "noise")


class Growing(NamedTuple):
    """A way to grow."""

    first: str  # how new nodes begin
    last: str  # how those of the last growth begin
    rate: float | None = None  # learning rate after the last growth; None: the same as before
    easy: bool = True  # whether earlier stages ask easier questions


SLOW = 1e-3  # learning rate after the last growth
GROWING = {init: Growing(init, init) for init in INITS} | {
    "plain": Growing("fade", "fade", easy=False),
    "fade+copy": Growing("fade", "copy"),
    "fade+copy+slow": Growing("fade", "copy", SLOW),
    "noise+copy+slow": Growing("noise", "copy", SLOW),
}
TARGETS = ("2-2", "3")
SHAPES = {1: "single", 3: "2", 5: "2-2", 7: "4-2", 15: "8-6", 31: "20-10/5"}
GROWN = {  # topology of each stage on 8 leaves; a stage adds as many nodes as there are more parts that count
    5: ("2", "2-1", "2-2", "2-2", "2-2"),
    7: ("2", "2-1", "3-2", "4-2", "4-2"),
    15: ("2", "2-1", "3-2", "4-2", "8-6"),
    31: ("2", "2-1", "3-2", "4-2", "20-10/5"),
}
RANK = AdapterConfig().rank  # of a node

LONGER = {"learning_rate": 2e-3, "steps": 320}


def stages(way: str, size: int, steps: int) -> tuple[str, list[dict[str, Any]]]:
    """The topology that a run begins with, and its stages."""
    final = "-".join("1" * (size - 1)) + "+skip" if is_scratchpad(way) else SHAPES[size]
    two, three = {"easy": 1.0}, {"easy": 1.0, "live_parts": 3, "neutral": False}
    if way == "scratch":
        return final, []
    if way in ("easy", "longer", "scratchpad+easy"):
        half = {"steps": round(0.3 * steps)}
        return final, [{"options": {"easy": 0.6}, **half}, {"options": three | {"easy": 0.6}, **half}, {}]
    gate = {"window": 5, "steps": round(0.28 * steps)}
    parts: list[dict[str, Any]] = [
        {"options": {"depth": 2}, "promote": 0.9, **gate},
        {"options": two, "promote": 0.88, **gate},
        {"options": three, "promote": 0.88, **gate},
        {"options": three | {"easy": 0.5}, "promote": 0.88, **gate},
        {},
    ]
    if (growing := GROWING.get(way)) is None:
        return final, parts
    if not growing.easy:
        parts = [{"steps": steps // 5} for _ in parts[:4]] + [{}]
    shape = GROWN[size]
    for k in range(1, 5):
        parts[k]["topology"] = shape[k]
        if shape[k] != shape[k - 1]:
            parts[k] |= {**beginning(growing.last if k == 4 else growing.first), "old_scale": 0.3}
    if growing.rate is not None:
        parts[4]["learning_rate"] = growing.rate
    return shape[0], parts


def settings(way: str, size: int) -> dict[str, dict[str, Any]]:
    """The settings of a way that differ from the recipe, by section."""
    if is_scratchpad(way):  # one adapter with as many parameters as the adapters of all nodes
        return {"adapter": {"rank": RANK * size, "tied": True}}
    return {"train": LONGER} if way == "longer" else {}


def is_scratchpad(way: str) -> bool:
    return way.split("+")[0] == "scratchpad"


def run_settings(part: str, way: str, size: int, seed: int, changed: dict[str, Any] | None = None) -> dict[str, Any]:
    """All settings of a run; `changed`: settings of [train] in place of those that its way changes."""
    data: dict[str, Any] = recipe(part) | {"seed": seed}
    sections = settings(way, size) | ({"train": changed} if changed else {})
    data |= {section: data[section] | values for section, values in sections.items()}
    plan = stages_of_sizes if part == "sizes" else stages
    topology, parts = plan(way, size, data["train"]["steps"])
    return data | {"topology": topology, "stages": parts}


def beginning(init: str) -> dict[str, Any]:
    """The settings of a stage that say how its new nodes begin."""
    return {"init": init} | ({"anneal": 8} if init == "fade" else {})


def stages_of_sizes(way: str, size: int, steps: int) -> tuple[str, list[dict[str, Any]]]:
    """The first topology and the stages in `sizes`, where the questions stay the same and only the network changes."""
    if (growing := GROWING.get(way)) is None:
        return SHAPES[size], []
    gate = {"promote": 0.9, "window": 5, "steps": round(0.3 * steps)}
    more, last = beginning(growing.first), beginning(growing.last)
    path = [SHAPES[n] for n in (3, 5, 7, 15) if n <= size]
    return path[0], [gate] + [{"topology": t, **gate, **more} for t in path[1:-1]] + [{"topology": path[-1], **last}]


def recipe(part: str) -> dict[str, Any]:
    """The settings that all runs of a part of the study share."""
    return tomllib.loads(RECIPES[part].read_text(encoding="utf-8"))
