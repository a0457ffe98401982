"""A person with the README alone, in a fresh shell: from a clone to a trained, asked and served network.

What is typed is what the README says, in its order. `make test` takes the packages it runs with for installed ones,
forks its commands from a process that has imported them, and takes small numbers; `make test-slow` installs into a new
environment, and trains and shows what a person would see.
"""

import re
import subprocess
from pathlib import Path

import pytest

import warm
from documentation import ROOT, Shell, copy_repository, follow, free_port, install, small

README = (ROOT / "README.md").read_text(encoding="utf-8")
GIT = ["git", "-c", "user.name=reader", "-c", "user.email=reader@example.org"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository of the sources as they are now."""
    origin = tmp_path / "origin"
    copy_repository(origin)
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*GIT, *command], cwd=origin, check=True)
    return origin


def walk(folder: Path, page: str, repository: Path, address: Path | None = None) -> str:
    """The transcript of a shell in which the README is followed from its first command to its last.

    address: of a warm process (tests/warm.py), with which nothing is downloaded; None: as a person has it.
    """
    downloads = address is None
    shell = Shell(folder, seconds=3600 if downloads else 600)
    before, clone, after = page.partition("git clone ADDRESS neuromas && cd neuromas\n")
    assert clone and before.count("```") == 1, "cloning is no longer the first thing that the README says to do"
    try:
        with pytest.raises(AssertionError, match="failed"):
            shell.run("command -v neuromas")
        shell.run(clone.strip().replace("ADDRESS", str(repository)))
        if address is not None:
            install(folder / "neuromas")
            warm.use(folder / "neuromas" / ".venv", address)
        follow(shell, folder / "neuromas", "README.md", "\n" * (before.count("\n") - 1) + "```sh\n" + after)
    finally:
        shell.close()
    return shell.transcript()


def trained_asked_and_served(transcript: str) -> None:
    """The transcript shows the table after training, the trace of a question, the server's answer and its end."""
    assert "best, greedy, silent" in transcript
    assert re.search(r"\n    out .*\nanswer ", transcript)
    assert '"object":"chat.completion"' in transcript and '"model":"three"' in transcript
    assert "questions: 1 accepted, 1 answered, 0 dropped" in transcript


def test_the_readme_leads_from_a_clone_to_a_server(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, repository: Path
) -> None:
    page = small(
        README,
        {
            "make demo ": "make --dry-run demo ",
            "make test ": "make --dry-run test ",
            "2.toml --out runs/three": "2.toml --steps 1 --test-limit 4 --out runs/three",
            "8000": str(free_port()),
            "steps=40": "steps=1, settings={'train.validation_questions': 8}",
            "limit=200": "limit=8",
        },
    )
    with warm.serving(tmp_path_factory.mktemp("warm"), ROOT / "src") as address:
        transcript = walk(tmp_path, page, repository, address)
    trained_asked_and_served(transcript)
    assert "now: source .venv/bin/activate" in transcript  # make install
    assert "neuromas demo\n" in transcript and "-m pytest" in transcript  # what make would have run
    assert "\naccuracy " in transcript and "\nanswer: " in transcript  # from Python
    assert (tmp_path / "neuromas" / "runs" / "grown" / "checkpoints" / "step-000002" / "topology.json").is_file()


@pytest.mark.slow
def test_the_readme_holds_as_it_stands_in_a_new_environment(tmp_path: Path, repository: Path) -> None:
    page = small(README, {"make test ": "make --dry-run test ", "8000": str(free_port())})
    page = page.partition("## Real models and benchmarks")[0]  # one of its packages compiles for long
    transcript = walk(tmp_path, page, repository)
    trained_asked_and_served(transcript)
    assert "answer 8*4=2" in transcript  # the network has learned it
    assert (tmp_path / "neuromas" / "runs" / "demo" / "summary.json").is_file()
