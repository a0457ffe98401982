"""What each way of training is, from scratch and grown: its stages and settings, as recipes of `neuromas train`.

The ways of tools/growth_study.py, on expressions of 8 leaves:

scratch   the whole network from the start, on full instances;
easy      the same, but 60 % easy instances in the first 60 % of the steps, of two parts that count, then of three;
longer    easy at half the rate with twice as many samples, what learned best in `tune`;
staged    the same as scratch, on the questions that grown networks get, promoted alike: what the questions alone do;
scratchpad   one adapter with as many parameters, which writes to itself as often as the staged network's nodes
          write and reads all it wrote; the same questions and promotions: what cooperation does
scratchpad+easy   the same, on the questions of `easy`
fade, copy, zero, noise   grown by way of the smaller sizes, promoted on reward; how new nodes begin;
plain     grown as `fade`, but on full instances alone, so in stages of a fifth of the steps: what growing alone does;
fade+copy   the same as fade, but the last growth, which brings no new role, copies the old nodes;
fade+copy+slow   the same at a quarter of the rate after the last growth, as copies of a role all move at once. A quarter
          was chosen beforehand, after a run of 31 nodes had lost there what it had learned;
noise+copy+slow   the same with new nodes that begin with noise, after two runs had come to the last growth without what it needs.

Everything else is equal: rate, batch, steps, anchor, balance. All were chosen by the training reward of grown runs of
7 nodes before these runs: rate and length of stages of zero, seed 0; the anchor of fade, seed 1; balance, and what
easy instances join, of fade, seed 0. For scratch, other settings were tried afterwards: `tune`.
"""

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from neuromas.config import AdapterConfig

RECIPES = Path(__file__).parents[1] / "recipes"
INITS = ("fade", "copy", "zero", "noise")


class Growing(NamedTuple):
    """How new nodes begin, and how those of the last growth do; the rate after that; whether questions are easy first."""

    first: str
    last: str
    rate: float | None = None
    easy: bool = True


SLOW = 1e-3  # learning rate after the last growth
GROWING = {init: Growing(init, init) for init in INITS} | {
    "plain": Growing("fade", "fade", easy=False),
    "fade+copy": Growing("fade", "copy"),
    "fade+copy+slow": Growing("fade", "copy", SLOW),
    "noise+copy+slow": Growing("noise", "copy", SLOW),
}
TARGETS = ("2-2", "3")
SHAPES = {1: "single", 3: "2", 5: "2-2", 7: "4-2", 15: "8-6", 31: "20-10/5"}
GROWN = {  # on 8 leaves, by stage: as many nodes more as there are parts more that count
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
    if (how := GROWING.get(way)) is None:
        return final, parts
    if not how.easy:
        parts = [{"steps": steps // 5} for _ in parts[:4]] + [{}]
    shape = GROWN[size]
    for k in range(1, 5):
        parts[k]["topology"] = shape[k]
        if shape[k] != shape[k - 1]:
            parts[k] |= {**beginning(how.last if k == 4 else how.first), "old_scale": 0.3}
    if how.rate is not None:
        parts[4]["learning_rate"] = how.rate
    return shape[0], parts


def settings(way: str, size: int) -> dict[str, dict[str, Any]]:
    """What differs from the recipe, by section."""
    if is_scratchpad(way):  # one adapter with as many parameters as those of all nodes
        return {"adapter": {"rank": RANK * size, "tied": True}}
    return {"train": LONGER} if way == "longer" else {}


def is_scratchpad(way: str) -> bool:
    return way.split("+")[0] == "scratchpad"


def run(study: str, way: str, size: int, seed: int, changed: dict[str, Any] | None = None) -> dict[str, Any]:
    """The whole recipe of a run; `changed` instead of what its way changes in training."""
    data: dict[str, Any] = recipe(f"tiny_compositional_{study}") | {"seed": seed}
    sections = settings(way, size) | ({"train": changed} if changed else {})
    data |= {section: data[section] | values for section, values in sections.items()}
    plan = sizes if study == "sizes" else stages
    topology, parts = plan(way, size, data["train"]["steps"])
    return data | {"topology": topology, "stages": parts}


def beginning(init: str) -> dict[str, Any]:
    return {"init": init} | ({"anneal": 8} if init == "fade" else {})


def sizes(way: str, size: int, steps: int) -> tuple[str, list[dict[str, Any]]]:
    """The same where the questions stay as they are: only the network changes."""
    if (how := GROWING.get(way)) is None:
        return SHAPES[size], []
    gate = {"promote": 0.9, "window": 5, "steps": round(0.3 * steps)}
    more, last = beginning(how.first), beginning(how.last)
    path = [SHAPES[n] for n in (3, 5, 7, 15) if n <= size]
    return path[0], [gate] + [{"topology": t, **gate, **more} for t in path[1:-1]] + [{"topology": path[-1], **last}]


def recipe(name: str) -> dict[str, Any]:
    return tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))
