"""Writes the parts of the documentation that copy the code. `make generate` runs it; a test compares.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end of generated -->`. Names, files, defaults and
limits come from the code. Where the last column of a table cannot be read from the code, it is kept from the page, row
by row; a row without a text gets `MISSING`, which the test refuses.
"""

import ast
import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from neuromas.baselines import BASELINES
from neuromas.cli import COMMANDS, function_of
from neuromas.compare.spec import BaselineEntry, Spec, TaskEntry, TrainedEntry, Variant
from neuromas.config import RunConfig, Section
from neuromas.files import write_json
from neuromas.network.drawing import to_text
from neuromas.network.topology import Topology
from neuromas.schema import KINDS, schema
from neuromas.serve.config import ServeConfig
from neuromas.tasks.own_file import OwnTaskFile

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "neuromas"
PAGES = [ROOT / "README.md", ROOT / "PACKAGE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MISSING = "(to be written)"
PART = re.compile(r"(<!-- generated: (\w+) -->\n)(.*?)(<!-- end of generated -->)", re.DOTALL)
Kept = dict[tuple[str, str], str]


def kept(part: str) -> Kept:
    """The last cell of each row of a part as it stands on the page, by the heading above it and its first cell."""
    texts: Kept = {}
    heading = ""
    for line in part.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line.strip()[1:-1])
            texts[heading, cells[0].strip()] = cells[-1].strip()
    return {key: text for key, text in texts.items() if set(text) != {"-"}}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, ["---"] * len(head), *rows])


def sentence(docstring: str | None) -> str:
    """The first sentence of a docstring, fit for a cell of a table."""
    paragraph = " ".join((docstring or "").partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?]) (?=[A-Z`])", paragraph)[0].replace("|", r"\|")


# Files and objects


def layout(_: str) -> str:
    """Every module of the library and every tool, with the first sentence of its docstring."""
    parts: list[str] = []
    for folder in [SOURCE, *_packages(SOURCE), *_packages(ROOT / "studies"), ROOT / "tools"]:
        name = folder.relative_to(SOURCE.parent if SOURCE in (folder, *folder.parents) else ROOT).as_posix()
        rows = [(f"`{path.name}`", sentence(_docstring(path))) for path in sorted(folder.glob("*.py"))]
        parts.append(f"## {name}/\n\n" + table(["file", "holds"], (row for row in rows if row[1])))
    return "\n".join(parts)


def _packages(folder: Path) -> Iterator[Path]:
    """The packages below a folder, parents first."""
    for path in sorted(folder.iterdir()):
        if (path / "__init__.py").is_file():
            yield path
            yield from _packages(path)


def _docstring(path: Path) -> str | None:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def objects(part: str) -> str:
    """The classes that the page names, each with its file and the first sentence of its docstring."""
    known: dict[str, tuple[str, str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                known[f"`{node.name}`"] = f"`{path.relative_to(SOURCE)}`", sentence(ast.get_docstring(node))
    head = ["object", "file", "what it is"]
    names = [name for _, name in kept(part) if name != head[0]]
    if gone := [name for name in names if name not in known]:
        raise SystemExit(f"docs/architecture.md names {', '.join(gone)}, which src/neuromas does not define; rename it")
    return table(head, ((name, *known[name]) for name in names))


def ranks(_: str) -> str:
    """The import rule, as the test that enforces it has it."""
    names: dict[str, Any] = {}
    for node in ast.parse((ROOT / "tests" / "unit" / "test_imports.py").read_text(encoding="utf-8")).body:
        if re.match(r"(RANKS|REGISTRY) \|?= ", line := ast.unparse(node)):
            exec(line, names)
    levels: dict[int, list[str]] = {}
    for package, rank in names["RANKS"].items():
        levels.setdefault(rank, []).append(f"`{package}`")
    return table(["rank", "packages"], ((str(rank), ", ".join(levels[rank])) for rank in sorted(levels)))


# Settings


def settings(part: str) -> str:
    """Every setting of a recipe, a table for each of its tables."""
    texts = kept(part)
    parts = [_section("At the top of a recipe", RunConfig, "", texts)]
    trained = [entry.load(entry.settings) for entry in BASELINES.values() if entry.trained]
    for owner in (RunConfig, *trained):
        for name, field in owner.model_fields.items():
            for model in _models(field) if owner is RunConfig or name not in RunConfig.model_fields else ():
                title = f"[[{name}]]" if get_origin(field.annotation) is tuple else f"[{name}]"
                parts.append(_section(f"`{title}`", model, f"{name}.", texts))
    return "\n".join(parts)


def comparison(part: str) -> str:
    """Every setting of a comparison."""
    texts = kept(part)
    return "\n".join(
        [
            _section("At the top of a spec", Spec, "", texts, ("tasks", "systems")),
            _section("`[[tasks]]`", TaskEntry, "", texts),
            _section("`[systems.NAME]`, a baseline", BaselineEntry, "", texts),
            _section("`[systems.NAME]`, trained", TrainedEntry, "", texts),
            _section("`[[systems.NAME.variants]]`", Variant, "", texts),
        ]
    )


def own_task(_: str) -> str:
    """Every setting of the file of a task of one's own."""
    fields = OwnTaskFile.model_fields.items()
    rows = ((f"`{name}`", _default(field), _values(field), _meaning(field, None)) for name, field in fields)
    return table(["setting", "default", "values", "meaning"], rows)


GALLERY = {  # topology → its use
    "single": "One model, one call. The control of every network with its parameters.",
    "1-1": "A chain: work is done step by step, each node reading the one before.",
    "1-1+skip": "A chain whose nodes read all before them; with `adapter.tied`, one model that writes to itself.",
    "2": "NeuroMAS-3, the smallest network with a choice of who says what. Start here.",
    "3": "More views of one question side by side; calls of one layer run at once, so latency is that of two calls.",
    "2-2": "NeuroMAS-5: two layers, so that what was said can be worked on before the answer.",
    "2-1@first": "Only the first layer reads the question, so messages must carry what the answer needs.",
    "4-2": "A tree-like reduction with full layers: four parts, two joins, one answer.",
    "4-2/2": "Two groups that read only themselves: less to read than in `4-2`, and independent opinions.",
}


def gallery(_: str) -> str:
    """Topologies as they are drawn, with their use."""
    parts: list[str] = []
    for spec, use in GALLERY.items():
        topology = Topology.parse(spec)
        calls = f"{topology.calls} calls a question, {len(topology.layers)} one after the other."
        cost = calls if topology.calls > 1 else "1 call a question."
        parts.append(f"## {spec}\n\n{use} {cost}\n\n```text\n{to_text(topology)}\n```\n")
    return "\n".join(parts)


def serving(_: str) -> str:
    """Every option of the server itself."""
    fields = ServeConfig.model_fields.items()
    rows = (
        (f"`--{n.replace('_', '-')}`", _default(field), _values(field), _meaning(field, None)) for n, field in fields
    )
    return table(["option", "default", "values", "meaning"], rows)


def _section(title: str, model: type[Section], prefix: str, texts: Kept, left_out: Sequence[str] = ()) -> str:
    """A table of settings below a heading."""
    rows = [
        (f"`{prefix}{name}`", _default(field), _values(field), _meaning(field, texts.get((title, f"`{prefix}{name}`"))))
        for name, field in model.model_fields.items()
        if name not in left_out and (model is not RunConfig or not _models(field))
    ]
    return f"### {title}\n\n{inspect.cleandoc(model.__doc__ or '')}\n\n" + table(
        ["setting", "default", "values", "meaning"], rows
    )


def _models(field: FieldInfo) -> list[type[Section]]:
    """The tables of settings that a field holds."""
    types = [field.annotation, *get_args(field.annotation)]
    return [kind for kind in types if isinstance(kind, type) and issubclass(kind, Section)]


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "`{}`"
    if field.default is PydanticUndefined:
        return "needed"
    if field.default is None or isinstance(field.default, Section):
        return "none"
    return f"`{json.dumps(field.default)}`"


_TYPES = {int: "whole number", float: "number", bool: "`true`, `false`", str: "text", dict: "table"}
_TYPES |= {tuple: "list", list: "list"}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def _values(field: FieldInfo) -> str:
    """What may be given: types or literals, and bounds."""
    kinds = _alternatives(field.annotation)
    bounds = [
        f"{sign} {value:g}"
        for item in field.metadata
        for name, sign in _BOUNDS.items()
        if (value := getattr(item, name, None)) is not None
    ]
    return ", ".join(kinds) + (f" {' and '.join(bounds)}" if bounds else "")


def _alternatives(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return [f"`{json.dumps(value)}`" for value in get_args(kind)]
    origin = get_origin(kind) or kind
    if origin in _TYPES:
        return [_TYPES[origin]]
    if isinstance(origin, type) and issubclass(origin, Section):
        return ["table"]
    return [text for inner in get_args(kind) if inner is not type(None) for text in _alternatives(inner)]


def _meaning(field: FieldInfo, standing: str | None) -> str:
    """The field's description; where it has none, what the page says."""
    if not field.description:
        return standing or MISSING
    text = " ".join(field.description.split()).replace("|", r"\|")
    return re.sub(r"(?<![\[(/])docs/(\w+\.md)", r"[\1](\1)", text)


# Commands, packages, variables


def commands(part: str) -> str:
    """Every command with what it does; the remarks beside it are kept."""
    texts = {cell.split()[1].strip("`"): text for (_, cell), text in kept(part).items() if cell.startswith("`")}
    rows: list[tuple[str, str, str]] = []
    for name, text in COMMANDS.items():
        usage = [argument.usage for argument in arguments(name)]
        rows.append((f"`{' '.join(['neuromas', name, *filter(None, usage)])}`", text, texts.get(name, MISSING)))
    return table(["command", "what it does", "also"], rows)


@dataclass(frozen=True)
class Argument:
    """What a command takes on its command line."""

    name: str
    positional: bool
    needed: bool

    @property
    def option(self) -> str:
        return f"--{self.name.replace('_', '-')}"

    @property
    def usage(self) -> str:
        """As it stands in a line of usage; empty for an option that may be left out."""
        word = self.name.upper()
        if self.positional:
            return word if self.needed else f"[{word}]"
        return f"{self.option} {word}" if self.needed else ""


def arguments(command: str) -> list[Argument]:
    """All arguments of a command; a table of settings stands for its fields."""
    function = function_of(command)
    hints = get_type_hints(function, include_extras=True)
    found: list[Argument] = []
    for name, parameter in inspect.signature(function).parameters.items():
        kind = get_args(hints[name])[0] if hasattr(hints[name], "__metadata__") else hints[name]
        if isinstance(kind, type) and issubclass(kind, Section):
            found += [Argument(field, False, False) for field in kind.model_fields]
        else:
            found.append(Argument(name, "Positional" in str(hints[name]), parameter.default is parameter.empty))
    return found


def dependencies(part: str) -> str:
    """Every package of pyproject.toml and who asks for it; reasons are kept."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    users: dict[str, list[str]] = {}
    for extra, packages in {"core": project["dependencies"], **project["optional-dependencies"]}.items():
        for package in packages:
            name = re.split(r"[\[<>=! ]", package)[0]
            users.setdefault(f"`{name}`", []).append("core" if extra == "core" else f"`{extra}`")
    texts = kept(part)
    rows = ((name, ", ".join(extras), texts.get(("", name), MISSING)) for name, extras in users.items())
    return table(["package", "part", "reason"], rows)


def variables(part: str) -> str:
    """Every environment variable of the project; meanings are kept."""
    files = [*SOURCE.rglob("*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("tools/*.py"), *ROOT.glob("tests/*.py")]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    names = sorted({f"`{name}`" for name in re.findall(r"\bNEUROMAS_[A-Z]+(?:_[A-Z]+)*\b", text)})
    standing = kept(part)
    return table(["name", "meaning"], ((name, standing.get(("", name), MISSING)) for name in names))


PARTS: dict[str, Callable[[str], str]] = {
    function.__name__: function
    for function in (
        layout,
        objects,
        ranks,
        settings,
        comparison,
        own_task,
        gallery,
        serving,
        commands,
        dependencies,
        variables,
    )
}


def generated(page: str) -> str:
    """A page whose generated parts say what the code says."""
    return PART.sub(lambda match: match[1] + PARTS[match[2]](match[3]) + match[4], page)


def main() -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        if (new := generated(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"{path.relative_to(ROOT)} written")
    for kind in KINDS:
        write_json(ROOT / "docs" / "schemas" / f"{kind}.json", schema(kind))


if __name__ == "__main__":
    main()
