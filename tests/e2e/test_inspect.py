"""`neuromas inspect` as a command: a run folder in, a report, figures and raw lines out."""

import json
import re
from pathlib import Path

import pytest

from neuromas import cli
from neuromas.files import read_json_lines

RECIPE = """
topology = "2"
[task]
name = "compositional"
options = { train_size = 64, validation_size = 16, test_size = 40 }
[adapter]
rank = 1
targets = ["q_proj"]
[sampling]
message_tokens = 10
[train]
steps = 1
questions = 2
rollouts = 2
validation_questions = 8
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    cli.main(["train", str(folder / "recipe.toml"), "--out", str(folder / "run"), "--test-limit", "8"])
    return folder / "run"


def test_one_command_writes_the_report_its_drawings_figures_and_raw_lines(run: Path, capsys, tmp_path: Path) -> None:
    cli.main(["inspect", str(run), "--limit", "24", "--json", str(tmp_path / "figures.json")])
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"In short Greedy\. .* Commonest parts: 1\.1 reports [ab] in \d+% of its messages \(\d+% right\)", shown
    )
    for needed in ("What each node is worth", "specialise", "Shapley", "n = 24", "1.1"):
        assert needed in shown
    assert "↔" not in shown and "3 more, of edges and of swapped adapters, are in the report" in shown
    out = run / "inspect"
    assert "↔" in (out / "report.md").read_text(encoding="utf-8")
    assert {p.name for p in out.iterdir()} == {
        "report.md", "findings.json", "raw.jsonl", "network_greedy.png", "network_sampled.png"
    }  # fmt: skip
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert figures == json.loads((out / "findings.json").read_text(encoding="utf-8"))
    head, *passes = read_json_lines(out / "raw.jsonl")
    assert len(head["questions"]) == 24
    for decoding, found in figures["decodings"].items():
        mine = {(p["kind"], p.get("target")): p["rewards"] for p in passes if p["decoding"] == decoding}
        assert sum(mine["undisturbed", None]) / 24 == pytest.approx(found["undisturbed"]["accuracy"])
        for row in found["interventions"]:
            assert sum(mine[row["kind"], row["target"]]) / 24 == pytest.approx(row["accuracy"])
        assert set(found["parts"]) == {"1.1", "1.2", "out"}


@pytest.mark.slow
def test_the_same_command_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        cli.main(["inspect", str(run), "--limit", "8", "--decoding", "sampled", "--out", str(tmp_path / name)])
    for file in ("report.md", "findings.json", "raw.jsonl"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["direct"], "direct is a baseline"),
        (["nowhere"], "neither a run folder, nor an export on the hub"),
        (["RUN", "--limit", "0"], "--limit is 0"),
        (["RUN", "--exact", "-1"], "--exact is -1: input should be greater than or equal to 0"),
        (["RUN", "--limit", "3"], "3 test questions of compositional are too few"),
    ],
)
def test_mistakes_are_told(run: Path, args: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["inspect", *(str(run) if arg == "RUN" else arg for arg in args)])
    assert message in capsys.readouterr().err
