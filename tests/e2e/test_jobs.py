"""Four people with a job each, and the README's first steps: from the wheel, in a new environment, in an empty folder.

What is typed is what the pages say, in their order, with fewer steps where no line below needs what they teach. With
NEUROMAS_TRANSCRIPTS=FOLDER the sessions are kept there.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from documentation import DOCS, JOBS, ROOT, Shell, blocks, copy_repository, follow, free_port, small
from neuromas.network.builtin import TINY_FOLDER

PAGES: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {  # page → its small numbers, and files that it leaves
    "for_engineers.md": ({"--out runs/prices ": "--steps 4 --out runs/prices ", "8000": ""}, ("answers.csv",)),
    "for_researchers.md": (
        {
            "seeds = [0, 1, 2]": "seeds = [0]",
            "steps = 10": "steps = 2",
            "--out runs/sums\n": "--steps 4 --out runs/sums\n",
        },
        ("runs/compare/report.html", "runs/sums/inspect/report.md", "shared/sums/README.md"),
    ),
    "for_students.md": (
        {
            "neuromas demo ": "neuromas demo --seeds 1 --steps 2 --test 64 ",
            "--steps 40 --test-limit 256": "--steps 4 --test-limit 64",
            "8000": "",
        },
        ("runs/demo/curve.png", "runs/wide/inspect/report.md"),
    ),
    "for_maintainers.md": (
        {"Qwen/Qwen3-0.6B": str(TINY_FOLDER), "steps=20": "steps=4"},
        ("shared/rows/best/nodes/1.1/adapter_config.json",),
    ),
    "README.md": (
        {"_2.toml --out": "_2.toml --test-limit 64 --out", "steps=40": "steps=4", "8000": ""},
        ("runs/three/final.json", "runs/grown/best"),
    ),
}
SHOWN = {  # what a person looks for at the end
    "for_engineers.md": ("best, greedy, silent", "answers.csv: 220 answers", '"object":"chat.completion"'),
    "for_researchers.md": ("fast path", "network, blanked", "report: runs/sums/inspect/report.md"),
    "for_students.md": ("now try:", "\nanswer ", "python "),
    "for_maintainers.md": ("best constant", "node_1_1"),
    "README.md": ("answer 8*4=2", '"model":"three"'),
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment in which the wheel is installed with the extra `serve`, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    copy_repository(folder / "sources")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(folder / "sources")], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    limits = ["-c", str(ROOT / "constraints.txt")]
    command = [str(folder / "venv/bin/python"), *pip[1:], "install", *limits, f"{wheel}[serve]"]
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # nothing is there already
    subprocess.run(command, check=True, env=alone)
    return folder / "venv"


def spreadsheet(folder: Path) -> None:
    """The engineer's table as Excel saves it where the comma is the decimal mark."""
    rows = "".join(f"Article {n};{n // 4},{n % 4 * 25:02}\r\n" for n in range(220))
    (folder / "prices.csv").write_bytes(f"\ufeffarticle;price\r\n{rows};\r\n".encode())


@pytest.mark.slow
def test_a_spreadsheet_becomes_an_endpoint_in_five_commands(tmp_path: Path, environment: Path) -> None:
    """The commands of the engineer's page; what was exported is served in another folder, when all else is gone."""
    page = (DOCS / "for_engineers.md").read_text(encoding="utf-8")
    page = small(page, {"--out runs/prices ": "--steps 2 --out runs/prices ", "8000": str(free_port())})
    commands = re.split(r"(?<!\\)\n", blocks(page)[0].code.strip())
    assert [command.split()[:2] for command in commands[:4]] == [
        ["neuromas", name] for name in ("init", "train", "export", "serve")
    ]
    assert len(commands) == 5 and commands[4].startswith("curl ")
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    spreadsheet(here)
    printed = ""
    for folder, some in ((here, commands[:3]), (there, commands[3:])):
        shell = Shell(folder, seconds=3600)
        try:
            shell.run(f"source {environment / 'bin/activate'}")
            printed += "".join(map(shell.run, some))
        finally:
            shell.close()
        if folder == here:
            (here / "elsewhere").rename(there / "elsewhere")
            shutil.rmtree(here)
    assert "every answer is a number" in printed and "answer: 40.25" in printed
    assert '"object":"chat.completion"' in printed


@pytest.mark.slow
@pytest.mark.parametrize("name", [*JOBS, "README.md"])
def test_a_job_is_done_with_a_page_alone(tmp_path: Path, environment: Path, name: str) -> None:
    numbers, left = PAGES[name]
    port = {"8000": str(free_port())} if "8000" in numbers else {}
    if name == "README.md":
        page = (ROOT / name).read_text(encoding="utf-8").partition("## First steps")[2].partition("## Results")[0]
    else:
        page = (DOCS / name).read_text(encoding="utf-8")
    spreadsheet(tmp_path)
    shell = Shell(tmp_path, seconds=3600)
    try:
        shell.run(f"source {environment / 'bin/activate'}")
        printed = follow(shell, tmp_path, name, small(page, numbers | port))
    finally:
        shell.close()
        if kept := os.environ.get("NEUROMAS_TRANSCRIPTS"):
            (Path(kept) / f"{Path(name).stem}.txt").write_text("\n".join(shell.session), encoding="utf-8")
    assert all((tmp_path / file).exists() for file in left)
    assert [text for text in SHOWN[name] if text not in printed] == []
