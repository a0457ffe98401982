"""The tutorial and the how-tos are followed in a fresh shell, as they stand but for fewer steps and questions.

In `make test` the commands of the shorter pages fork from a process that has imported the library (tests/warm.py);
`make test-slow` follows every page, and starts each command by itself.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

import warm
from documentation import DOCS, JOBS, ROOT, Shell, blocks, copy_repository, follow, free_port, install, small
from gguf_files import write
from helpers import plain_model
from hub import hub
from neuromas.cli import main

COMPARISON = """
seeds = [0]
learning_rates = [1e-3]
tasks = [{ name = "compositional", questions = 4 }]
systems.network.topology = "1"
[sampling]
message_tokens = 8
[train]
questions = 2
rollouts = 2
validation_questions = 4
steps = 1
"""
RECIPE = "[sampling]\nmessage_tokens = 8\n[train]\nquestions = 2\nrollouts = 2\nvalidation_questions = 4\nsteps = 1\n"


@pytest.fixture(scope="module", params=["warm", pytest.param("cold", marks=pytest.mark.slow)])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """Where the warm process listens; None where every command starts by itself."""
    if request.param == "cold":
        yield None
    else:
        with warm.serving(tmp_path_factory.mktemp("warm"), ROOT / "src") as listening:
            yield listening


@pytest.fixture
def clone(tmp_path: Path, address: Path | None) -> Path:
    """A clone in which `make install` has been done, with a recipe for trainings that a page starts without one."""
    folder = tmp_path / "neuromas"
    copy_repository(folder)
    install(folder)
    if address is not None:
        warm.use(folder / ".venv", address)
    (folder / "small.toml").write_text(RECIPE, encoding="utf-8")
    rows = [{"country": f"Country {n}", "capital": f"City {n}"} for n in range(220)]
    (folder / "capitals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    excel = "\ufeffcountry;capital\r\n" + "".join(f"{row['country']};{row['capital']}\r\n" for row in rows) + ";\r\n"
    (folder / "capitals.csv").write_bytes(excel.encode())
    return folder


@pytest.fixture
def shell(clone: Path) -> Iterator[Shell]:
    """A shell in the clone, its environment activated as the README says."""
    made = Shell(clone)
    made.run("source .venv/bin/activate")
    yield made
    made.close()


def trained(clone: Path) -> None:
    """The run of the tutorial, after one step."""
    main(
        ["train", str(clone / "small.toml"), "--topology", "2", "--out", str(clone / "runs/first"), "--test-limit", "4"]
    )


@pytest.mark.slow
def test_the_tutorial_runs(clone: Path, shell: Shell) -> None:
    numbers = {
        "steps = 60": "steps = 1\nvalidation_questions = 4",
        "first.toml --out runs/first\n": "first.toml --out runs/first --test-limit 4\n",
        "--steps 40": "--steps 1",
        "--limit 512": "--limit 4",
        "--test-limit 512": "--test-limit 4",
        "limit=512": "limit=4",
        "--limit 128": "--limit 6",
        "8000": str(free_port()),
    }
    printed = follow(shell, clone, "tutorial.md", small((DOCS / "tutorial.md").read_text(encoding="utf-8"), numbers))
    assert "best, greedy, silent" in printed  # step 2
    assert "new nodes 2.1, 2.2" in printed  # step 3
    assert "moa (tiny)" in printed and "\naccuracy " in printed  # step 4
    assert "\n1.1 " in printed and "\nout " in printed  # step 5: what the server tells its client of each node
    assert (clone / "runs/grown/final.json").is_file() and (clone / "runs/first/inspect/report.md").is_file()


HOW_TOS: dict[str, tuple[dict[str, str], str]] = {  # page → its small numbers, and what it leaves behind
    "own_data.md": (
        {
            "train --task capitals": "train small.toml --task capitals",
            "--out runs/capitals": "--out runs/capitals --test-limit 4",
            "--out runs/guessed": "--out runs/guessed --test-limit 4",
            "--out runs/recipe": "--out runs/recipe --steps 1 --test-limit 4",
            "test_size = 50": "test_size = 50\nvalidation_size = 4",
            "eval runs/capitals": "eval runs/capitals --limit 4",
            'train(topology="2", task=rows, steps=40': 'train("small.toml", topology="2", task=rows, steps=1',
            "limit=50": "limit=4",
        },
        "runs/capitals/final.json",
    ),
    "own_reward.md": (
        {
            "train --task near": "train small.toml --task near",
            "--steps 40": "--steps 1 --test-limit 4",
            "--limit 200": "--limit 4",
            "train(topology=": 'train("small.toml", topology=',
            "steps=40": "steps=1",
        },
        "runs/near/final.json",
    ),
    "own_topology.md": (
        {"train --topology": "train small.toml --topology", "--steps 40": "--steps 1 --test-limit 4"},
        "runs/graph/final.json",
    ),
    "one_gpu.md": (
        {
            "reasoning-gym/chain_sum+products": "compositional",
            "Qwen/Qwen3-0.6B": "tiny",
            "steps = 100": "steps = 1\nvalidation_questions = 4",
            "--out runs/gpu": "--test-limit 4 --out runs/gpu",
        },
        "runs/gpu/final.json",
    ),
    "growing.md": (
        {
            "--out runs/leaves": "--steps 1 --test-limit 4 --out runs/leaves",
            "--steps 40": "--steps 1",
            "--resume --out": "--resume --test-limit 4 --out",
        },
        "runs/larger/final.json",
    ),
    "ecosystem.md": ({"8000": "", "--limit 100": "--limit 2", "limit=100": "limit=2"}, "shared/first/README.md"),
    "serving.md": ({"8000": ""}, "runs/first/final.json"),
    "starting.md": ({}, ""),
    "wording.md": ({'"Qwen/Qwen2.5-Coder-0.5B-Instruct"': '"tiny"\nstyle = "plain"'}, ""),
    "scale.md": ({}, ""),
    "scale_training.md": ({}, ""),
    "vllm.md": ({}, ""),
    "paper.md": ({}, ""),
}
LONG = (
    "own_data.md",
    "own_reward.md",
    "growing.md",
    "one_gpu.md",
    "scale.md",
    "ecosystem.md",
    "own_topology.md",
)
AFTER_THE_TUTORIAL = ("growing.md", "ecosystem.md", "serving.md")  # they go on with its run


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in HOW_TOS]
)
def test_a_how_to_runs(clone: Path, shell: Shell, name: str) -> None:
    numbers, left = HOW_TOS[name]
    if name in AFTER_THE_TUTORIAL:
        trained(clone)
    port = {"8000": str(free_port())} if "8000" in numbers else {}
    follow(shell, clone, name, small((DOCS / name).read_text(encoding="utf-8"), numbers | port))
    assert (clone / left).exists()


def test_no_page_with_commands_is_left_out() -> None:
    pages = [path.name for path in DOCS.glob("*.md") if "```sh" in path.read_text(encoding="utf-8")]
    assert set(pages) <= {*HOW_TOS, *JOBS, "tutorial.md"}


SHOWN = {  # what a command of the comparison prints, where that it ends well says little
    "compositonal": "did you mean",
    "reward.py:score": "reward.py:score",
    "cities.parquet": "(version 1, from cities.parquet)",
    "small.gguf": "adapters on",
    "ask someone/net": "answer ",
}


@pytest.mark.slow
@pytest.mark.parametrize("address", ["cold"], indirect=True)  # the warm process below knows the stand-in of the hub
def test_each_yes_of_the_comparison_with_other_libraries_is_shown_by_its_command(
    clone: Path, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(clone)
    (clone / "questions.csv").write_text("question\n(a(3+5)*b(2*7))\n(a(1+2)*b(3*4))\n", encoding="utf-8")
    (clone / "few.toml").write_text(COMPARISON, encoding="utf-8")
    cities = pa.table({"question": [f"Country {n}" for n in range(60)], "answer": [f"City {n}" for n in range(60)]})
    parquet.write_table(cities, clone / "cities.parquet")
    write(clone / "small.gguf", plain_model())
    less = {
        "2.toml --out": "2.toml --steps 1 --test-limit 4 --out",
        "--resume --out": "--resume --test-limit 4 --out",
        "train stopping.toml": "train stopping.toml --steps 1 --test-limit 4",
        "compare recipes/compare_tiny_compositional.toml --out": "compare few.toml --out",
        "train --t": "train small.toml --t",
        "--steps 40": "--steps 1 --test-limit 4",
        "--steps 1 --test-limit 4 --out runs/larger": "--steps 1 --out runs/larger",
        "steps=40": "steps=1",
        "limit=200": "limit=4",
        "eval runs/first": "eval runs/first --limit 4",
        "--limit 128": "--limit 6",
        "OWNER/NAME": "someone/net",
        "8000": str(free_port()),
        "8001": str(free_port()),
        "\\|": "|",
    }
    page = small((DOCS / "compared.md").read_text(encoding="utf-8"), less)
    for block in blocks(page):
        (clone / block.title).write_text(block.code, encoding="utf-8")
    rows = re.findall(r"^\|[^|]*\| yes[^|]*\| (.+?) \|[^|]*\|$", page, re.MULTILINE)
    commands = [hit[1] for row in rows if (hit := re.fullmatch("`([^`]+)`", row))]
    assert [row for row in rows if not row.startswith("`")] == [
        "[notebook](notebook.ipynb), executed by a test of its own"
    ]
    with hub() as (address, _):
        for name, value in {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "none"}.items():
            monkeypatch.setenv(name, value)
            shell.run(f"export {name}={value}")
        with warm.serving(tmp_path, ROOT / "src") as listening:
            warm.use(clone / ".venv", listening)
            printed = {command: shell.run(command) for command in commands}
    for part, text in SHOWN.items():
        assert [command for command, said in printed.items() if part in command and text not in said] == []
