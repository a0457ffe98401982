"""The style of the code, as far as it can be counted: one name for one thing, typed records, docstrings that name."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import neuromas

ROOT = Path(neuromas.__file__).parent
FILES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(text) for name, text in FILES.items()}

MOST_DICTS = 4  # `dict[str, Any]` per 1,000 lines: they are for the borders to foreign formats
LEAST_TESTS = 0.8  # lines of tests per line of source
QUESTION = re.compile(r"(What|How|Whether|Where|Which)\b")  # a docstring is an answer


def lines(texts: Iterator[str]) -> int:
    return sum(len(text.splitlines()) for text in texts)


def types_of(tree: ast.Module) -> Iterator[str]:
    """The classes that a file defines, nested ones included, and the type aliases at its top."""
    yield from (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    kinds = ast.Subscript | ast.BinOp | ast.Name | ast.Attribute
    assigned = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, kinds)]
    names = [node.targets[0].id for node in assigned if isinstance(node.targets[0], ast.Name)]
    yield from (name for name in names if re.match(r"_?[A-Z]\w*[a-z]", name))  # others are constants


def test_a_name_of_a_type_stands_in_one_file() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for file, tree in TREES.items():
        for name in types_of(tree):
            homes[name].append(file)
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_types_are_found_in_every_form() -> None:
    classes = "class A:\n    class B: ...\n"
    aliases = "Pair = tuple[int, int]\nEither = A | None\nLIMIT = A\nvalue = x[0]\nT = TypeVar('T')\n"
    assert [*types_of(ast.parse(classes + aliases))] == ["A", "B", "Pair", "Either"]


def test_few_records_are_dictionaries_of_anything() -> None:
    count = sum(text.count("dict[str, Any]") for text in FILES.values())
    assert count / lines(iter(FILES.values())) * 1000 <= MOST_DICTS, f"{count} in src; give records a type (results/)"


def test_there_are_enough_tests() -> None:
    tests = lines(path.read_text(encoding="utf-8") for path in Path(__file__).parents[1].rglob("*.py"))
    assert tests >= LEAST_TESTS * lines(iter(FILES.values()))


def test_docstrings_name_the_thing_or_say_what_the_function_does() -> None:
    asking = [
        f"{file}:{node.body[0].lineno}"
        for file, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and QUESTION.match(ast.get_docstring(node) or "")
    ]
    assert asking == []
