"""The examples of the tutorial and of the how-tos run as they stand, but for fewer steps and questions."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from documentation import DOCS, Reader, blocks, small
from neuromas import tasks


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """Works in an empty folder; tasks that a page registers are forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tasks, "_REGISTERED", {})
    made = Reader()
    yield made
    made.close()


def follow(reader: Reader, name: str, replacements: dict[str, str]) -> None:
    page = small((DOCS / name).read_text(encoding="utf-8"), replacements)
    reader.follow(name, blocks(page))


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def test_the_tutorial_runs(reader: Reader, capfd: pytest.CaptureFixture[str]) -> None:
    small_numbers = {
        "steps = 60": "steps = 1\nvalidation_questions = 4",
        "first.toml --out runs/first\n": "first.toml --out runs/first --test-limit 4\n",
        "--steps 40": "--steps 1",
        "--limit 512": "--limit 4",
        "--test-limit 512": "--test-limit 4",
        '"test", 512': '"test", 4',
        "--limit 128": "--limit 6",
        "8000": str(free_port()),
    }
    follow(reader, "tutorial.md", small_numbers)
    said = capfd.readouterr().out
    assert "best, greedy, silent" in said  # step 2
    assert "new nodes 2.1, 2.2" in said  # step 3
    assert "moa (tiny)" in said and "'best_constant': " in said  # step 4
    assert "\n1.1 " in said and "\nout " in said  # step 5: what the server's client was told of each node
    assert Path("runs/grown/final.json").is_file() and Path("runs/first/inspect/report.md").is_file()


def capitals() -> None:
    recipe()
    rows = [{"country": f"Country {n}", "capital": f"City {n}"} for n in range(220)]
    Path("capitals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def recipe() -> None:
    """For trainings that a page starts without one."""
    text = "[sampling]\nmessage_tokens = 8\n[train]\nquestions = 2\nrollouts = 2\nvalidation_questions = 4\n"
    Path("small.toml").write_text(text, encoding="utf-8")


def nothing() -> None: ...


@pytest.mark.parametrize(
    ("name", "before", "replacements", "left"),
    [
        (
            "own_data.md",
            capitals,
            {
                "train --task capitals": "train small.toml --task capitals",
                "--out runs/capitals": "--out runs/capitals --steps 1 --test-limit 4",
                "test_size = 50": "test_size = 50\nvalidation_size = 4",
                "eval runs/capitals": "eval runs/capitals --limit 4",
            },
            "runs/capitals/final.json",
        ),
        (
            "own_reward.md",
            recipe,
            {
                "train --task near": "train small.toml --task near",
                "--steps 40": "--steps 1 --test-limit 4",
                "--limit 200": "--limit 4",
            },
            "runs/near/final.json",
        ),
        (
            "own_topology.md",
            recipe,
            {"train --topology": "train small.toml --topology", "--steps 40": "--steps 1 --test-limit 4"},
            "runs/graph/final.json",
        ),
        (
            "one_gpu.md",
            nothing,
            {
                "reasoning-gym/chain_sum+products": "compositional",
                "Qwen/Qwen3-0.6B": "tiny",
                "steps = 100": "steps = 1\nvalidation_questions = 4",
                "--out runs/gpu": "--test-limit 4 --out runs/gpu",
            },
            "runs/gpu/final.json",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.endswith(".md") else "",
)
def test_a_how_to_runs(
    reader: Reader, name: str, before: Callable[[], None], replacements: dict[str, str], left: str
) -> None:
    before()
    follow(reader, name, replacements)
    assert Path(left).is_file()
