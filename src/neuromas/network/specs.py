"""Specifications of topologies as people write them: "2-2", "NeuroMAS-5", [1, 1], a mapping, a .json or .toml file.

Layered networks, widths of the hidden layers with the output node implied:

    "2-2"            two hidden layers of two; each layer reads the one before, every node reads the question
    "NeuroMAS-5"     the paper's name for it, after the number of nodes
    "single"         the output node alone (also "" and [])
    "2-2@first"      only the first layer reads the question; "2-2@1.1,1.2,out" names the nodes that do
    "1-1+skip"       every node reads all layers before its own
    "8-4/2"          two groups side by side, each of layers 4-2 whose nodes read those of their group alone; the output
                     reads both (the groups of a grouped convolution)
    {"hidden": [2, 2], "question": "first", "skip": true, "groups": 2}

Any other graph, as a mapping or a file:

    {"nodes": {"a": [], "b": ["a"], "end": ["a", "b"]}, "output": "end", "question": ["a"]}
    {"nodes": [{"id": "a", "upstream": []}, …], …}
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from neuromas.errors import TopologyError
from neuromas.network.graph import check_size

OUTPUT = "out"  # id of the output node where widths are given instead of a graph
PAPER = {1: [], 3: [1, 1], 5: [2, 2], 7: [2, 2, 2]}  # NeuroMAS-<nodes> → hidden widths
_FORMS = 'use hidden widths such as "2-2", "NeuroMAS-5", "single", or a .json or .toml file'


class Wiring(NamedTuple):
    """The arguments of `Topology.build`."""

    upstream: Mapping[str, Sequence[str]]
    output: str | None
    question: str | Sequence[str]


def read(spec: str | Sequence[int] | Mapping[str, Any] | Path) -> Wiring:
    """The wiring that `spec` means; raises TopologyError where it means none."""
    if isinstance(spec, Path):
        return _from_file(spec)
    if isinstance(spec, str):
        return _from_text(spec.strip())
    if isinstance(spec, Mapping):
        return _from_mapping(spec)
    return layered(spec)


def layered(
    widths: Sequence[int], question: str | Sequence[str] = "all", skip: bool = False, groups: int = 1
) -> Wiring:
    """Dense layers of these widths and the output node; ids are "layer.index" and "out".

    groups: as many equal parts of every layer, between which no messages pass; the output reads all of them.
    """
    for width in widths:
        if isinstance(width, bool) or not isinstance(width, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TopologyError(f"layer width {width!r} is not a whole number; {_FORMS}")
        if width < 1:
            raise TopologyError(
                f"layer width {width} in {list(widths)}: a layer needs at least one node; leave the layer out instead"
            )
    if groups < 1 or any(width % groups for width in widths) or (groups > 1 and not widths):
        raise TopologyError(
            f"{groups} groups do not divide hidden layers of widths {list(widths)}; choose a number that divides each"
        )
    sizes = [*widths, 1]
    reads = [sum(sizes[:k]) if skip else sizes[k - 1] if k else 0 for k in range(len(sizes))]
    shares = [size * n // groups for size, n in zip(widths, reads, strict=False)]
    check_size(sum(sizes), sum(shares) + reads[-1])
    upstream: dict[str, list[str]] = {}
    before: list[list[str]] = [[] for _ in range(groups)]  # of each group
    for layer, width in enumerate(widths, start=1):
        size = width // groups
        for group in range(groups):
            part = [f"{layer}.{index}" for index in range(1 + group * size, 1 + (group + 1) * size)]
            upstream |= dict.fromkeys(part, before[group])
            before[group] = before[group] + part if skip else part
    return Wiring({**upstream, OUTPUT: [node for part in before for node in part]}, OUTPUT, question)


def _from_text(text: str) -> Wiring:
    if text.lower().endswith((".json", ".toml")):
        return _from_file(Path(text))
    parts = re.fullmatch(r"([^@+]*)((?:[@+][^@+]*)*)", text)
    assert parts
    question: str | list[str] = "all"
    skip = False
    for suffix in re.findall(r"[@+][^@+]*", parts[2]):
        if suffix == "+skip":
            skip = True
        elif suffix in ("@all", "@first"):
            question = suffix[1:]
        elif suffix.startswith("@") and suffix != "@":
            question = [i.strip() for i in suffix[1:].split(",")]
        else:
            raise TopologyError(f'suffix {suffix!r} of topology {text!r} is unknown; use "@first", "@<ids>" or "+skip"')
    base, slash, groups = parts[1].strip().partition("/")
    if slash and not re.fullmatch(r"\d{1,9}", groups):
        raise TopologyError(f"topology {text[:80]!r} is not understood; {_FORMS}")
    return layered(_widths(base, text), question, skip, int(groups or 1))


def _widths(base: str, text: str) -> list[int]:
    if base.lower() in {"", "single"}:
        return []
    if paper := re.fullmatch(r"neuromas-?(\d{1,9})", base.lower()):
        if int(paper[1]) not in PAPER:
            exist = ", ".join(f"NeuroMAS-{n}" for n in PAPER)
            raise TopologyError(f'{base!r} is not one of the paper\'s; {exist} are. For other shapes write "3-3"')
        return PAPER[int(paper[1])]
    if re.fullmatch(r"\d{1,9}(-\d{1,9})*", base):
        return [int(width) for width in base.split("-")]
    if re.fullmatch(r"\d+([ ,x×]+\d+)+", base):
        hyphened = "-".join(re.findall(r"\d+", base))
        raise TopologyError(f'topology {text!r}: write widths with hyphens, as in "{hyphened}"')
    raise TopologyError(f"topology {text[:80]!r} is not understood; {_FORMS}")


def _from_file(path: Path) -> Wiring:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".toml":
            record = tomllib.loads(text)
        else:
            record = json.loads(text, object_pairs_hook=_no_duplicates)
    except OSError as error:
        raise TopologyError(f"topology file {str(path)!r} cannot be read ({error.strerror}); check the path") from error
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TopologyError(
            f"topology file {str(path)!r} is not valid {path.suffix[1:].upper()}: {error}; mend it there"
        ) from error
    if isinstance(record, str):
        raise TopologyError(f"topology file {str(path)!r} holds a string; put {record!r} on the command line instead")
    if not isinstance(record, dict | list):
        raise TopologyError(
            f'topology file {str(path)!r} holds {record!r}; it needs a mapping with "nodes" or "hidden"'
        )
    return read(cast("dict[str, Any] | list[int]", record))


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for key, value in pairs:
        if key in record:
            raise TopologyError(f"{key!r} is declared twice; give one of the two another id")
        record[key] = value
    return record


def _from_mapping(record: Mapping[str, Any]) -> Wiring:
    known = {"nodes", "output", "question"} if "nodes" in record else {"hidden", "question", "skip", "groups"}
    if extra := sorted(map(str, set(record) - known)):
        raise TopologyError(f"topology key {extra[0]!r} is unknown here; the keys are {', '.join(sorted(known))}")
    question = record.get("question", "all")
    if not isinstance(question, str):
        question = _ids("question", question)
    if "nodes" not in record:
        if "hidden" not in record:
            raise TopologyError('a topology mapping needs "nodes" (any graph) or "hidden" (a list of widths)')
        hidden = record["hidden"]
        if not isinstance(hidden, list | tuple):
            raise TopologyError(f'"hidden" is {hidden!r}; it needs a list of widths, such as [2, 2]')
        groups = record.get("groups", 1)
        if isinstance(groups, bool) or not isinstance(groups, int):
            raise TopologyError(f'"groups" is {groups!r}; it needs a whole number, such as 2')
        return layered(cast("Sequence[int]", hidden), question, bool(record.get("skip", False)), groups)
    output = record.get("output")
    if output is not None and not isinstance(output, str):
        raise TopologyError(f'"output" is {output!r}; it needs the id of one node, in quotes')
    return Wiring(_upstream(record["nodes"]), output, question)


def _upstream(nodes: Any) -> dict[str, list[str]]:
    """`{id: upstream}` from either form of "nodes"."""
    if isinstance(nodes, Mapping):
        pairs = list(cast("Mapping[str, Any]", nodes).items())
    elif isinstance(nodes, list | tuple):
        pairs = [_pair(node) for node in cast("Sequence[Any]", nodes)]
    else:
        raise TopologyError(f'"nodes" is {nodes!r}; it needs a mapping such as {{"a": [], "out": ["a"]}}')
    return _no_duplicates([(node, _ids(f"upstream of node {node!r}", up)) for node, up in pairs])


def _pair(node: Any) -> tuple[str, Any]:
    record = cast("dict[str, Any]", node) if isinstance(node, Mapping) else {}
    if not isinstance(record.get("id"), str) or record.keys() - {"id", "upstream"}:
        raise TopologyError(f'node {node!r} is not understood; write {{"id": "b", "upstream": ["a"]}}')
    return record["id"], record.get("upstream", [])


def _ids(where: str, value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(i, str) for i in cast("Sequence[Any]", value)):
        raise TopologyError(f'{where} is {value!r}; it needs a list of node ids, such as ["1.1", "1.2"]')
    return list(cast("Sequence[str]", value))
