"""The shape of the code: imports go one way, files and functions stay small, help needs no torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import neuromas

ROOT = Path(neuromas.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Lower ranks know nothing of higher ones. Packages of one rank stand side by side, but for the pairs in BESIDE.
RANKS = {"errors": -1, "markup": -1, "types": 0, "results": 0, "config": 0, "recipe": 0, "files": 0, "workers": 0}
RANKS |= {"prompt_config": 0, "sampling_config": 0, "progress": 1, "api": 7}
RANKS |= {"network": 1, "tasks": 1, "train": 2, "evaluate": 2, "analysis": 3, "baselines": 3, "run": 4}
RANKS |= {"compare": 5, "plan": 5, "serve": 5, "scale": 6, "schema": 6, "cli": 7, "__main__": 8}
# The registry of baselines is plain data, which settings and all above may read; what it names has the package's rank.
REGISTRY = "baselines/__init__.py"
RANKS |= {REGISTRY: 0}
BESIDE = {("config", "recipe"), ("config", REGISTRY), ("recipe", REGISTRY), ("results", "types")}
BESIDE |= {("config", "prompt_config"), ("prompt_config", "recipe")}
BESIDE |= {("config", "sampling_config"), ("sampling_config", "recipe")}

MAX_FILE, MAX_FUNCTION, MAX_STORY = 300, 60, 100
STORIES = {"network/forward.py", "train/step.py"}  # the two files that tell what the library does


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[str]:
    """Packages of this library that a file imports, at its top or inside a function, and REGISTRY."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}: import by full name, not relatively"
            names = [node.module or ""]
            if node.module == "neuromas":
                names = [f"neuromas.{alias.name}" for alias in node.names]
        for name in names:
            if name == "neuromas.baselines":  # the registry itself, or with `from`, a file beside it
                members = [alias.name for alias in getattr(node, "names", ())]
                yield "baselines" if any((ROOT / "baselines" / f"{name}.py").exists() for name in members) else REGISTRY
            elif name.startswith("neuromas."):
                yield name.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_go_one_way(path: Path) -> None:
    own = REGISTRY if relative(path) == REGISTRY else relative(path).split("/")[0].removesuffix(".py")
    if own == "__init__":  # the package's front door may open every room
        return
    assert own in RANKS, f"{own}: give it a rank in RANKS"
    for other in set(imported(path)) - {own}:
        assert other in RANKS, f"{relative(path)} imports neuromas.{other}, which has no rank in RANKS"
        allowed = RANKS[other] < RANKS[own] or (own, other) in BESIDE
        assert allowed, f"{relative(path)} imports neuromas.{other}, which stands beside or above {own}"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE, f"{relative(path)} has over {MAX_FILE} lines; split it"
    limit = MAX_STORY if relative(path) in STORIES else MAX_FUNCTION
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            told = (ast.get_docstring(node, clean=False) or "").count("\n")  # a command's help is as long as it must be
            length = (node.end_lineno or 0) - node.lineno + 1 - told
            assert length <= limit, f"{relative(path)}: {node.name} has {length} lines, over {limit}; split it"


HEAVY = {"torch", "transformers", "safetensors", "numpy", "scipy", "matplotlib", "tyro", "pydantic", "rich"}
HELP = "from neuromas.cli import main; main(['--help'])"


@pytest.mark.parametrize(
    ("code", "most"),  # modules beyond those of an empty program; on Python 3.11 there are 29, 46, 48, 79 and 81
    [
        ("import neuromas", 35),
        (HELP, 55),
        ("import neuromas.baselines", 58),
        ("import neuromas.network.topology", 95),
        ("import neuromas.network.drawing", 97),
    ],
)
def test_light_modules_load_few_others_and_no_heavy_ones(code: str, most: int) -> None:
    """Counted, not timed: a busy machine loads no more of them."""
    code = f"import sys; before = {{*sys.modules}}; {code}; print(*({{*sys.modules}} - before), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    packages = {name.partition(".")[0] for name in loaded}
    assert packages & HEAVY == set()
    assert packages - sys.stdlib_module_names == {"neuromas"}
    assert len(loaded) <= most, sorted(loaded)
