"""The demonstration: its summary is what its runs measure, and only its own folders are replaced."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neuromas import cli
from neuromas.baselines.vote import Vote
from neuromas.cli import demo
from neuromas.evaluate.run import evaluate
from neuromas.network.forward import Network
from neuromas.run.build import build, load_run

FIGURES = [
    "accuracy", "ci95", "n", "seeds", "by_seed", "calls", "sequential_calls", "generated_tokens", "sequential_tokens",
    "prompt_tokens", "trainable_parameters", "parse_rate", "floors",
]  # fmt: skip
N = 12
COMMAND = ["demo", "--seeds", "2", "--steps", "3", "--test", str(N), "--workers", "1"]


@pytest.fixture(scope="module", autouse=True)
def _short() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Demonstrations of one learning rate and few questions."""
    full = demo.settings
    short = {"questions": 2, "rollouts": 2, "validation_questions": 4, "silence_questions": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            demo, "settings",
            lambda *sizes: (s := full(*sizes)) | {"learning_rates": [4e-3], "train": s["train"] | short},
        )  # fmt: skip
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, _short: None) -> Path:
    """A demonstration of two seeds."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    cli.main([*COMMAND, "--out", str(folder)])
    return folder


def summary_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


def test_the_summary_has_the_form_that_programs_read(out: Path) -> None:
    summary = summary_of(out)
    sampled, last, silent = "accuracy_sampled", "accuracy_last", "accuracy_messages_blanked"
    rates = ["learning_rate", "validation_by_rate"]
    assert {key: [*row] for key, row in summary.items() if key != "seconds"} == {
        "untrained": [*FIGURES, sampled, silent],
        "trained": [*FIGURES, sampled, last, silent, *rates],
        "control_params": [*FIGURES, sampled, last, *rates],
        "control_vote": [*FIGURES, "learning_rate"],
        "control_scratchpad": [*FIGURES, sampled, last, silent, *rates],
    }
    assert summary["seconds"] > 0
    systems = [row for row in summary.values() if isinstance(row, dict)]
    assert len({row["trainable_parameters"] for row in systems}) == 1
    assert [row["seeds"] for row in systems] == [1, 2, 2, 2, 2]


def test_the_figures_are_those_of_its_runs(out: Path) -> None:
    summary = summary_of(out)

    def accuracy(system: Any, **options: Any) -> float:
        return evaluate(system, task, "test", N, **options).result.accuracy

    run = out / "runs" / "trained" / "compositional" / "lr0.004_s1"
    best, task, _ = load_run(run, "best")
    assert isinstance(best, Network)
    assert summary["trained"]["by_seed"][1] == accuracy(best, seed=1)
    first, _, config = load_run(run.with_name("lr0.004_s0"), "best", best.backbone)
    last = [load_run(run.with_name(f"lr0.004_s{seed}"), "last", best.backbone)[0] for seed in (0, 1)]
    assert summary["trained"]["accuracy_last"] == sum(map(accuracy, last)) / 2
    sampled = [accuracy(network, greedy=False, seed=seed) for seed, network in enumerate((first, best))]
    assert summary["trained"]["accuracy_sampled"] == sum(sampled) / 2
    silent = [accuracy(network, blank=best.topology.nodes[:-1]) for network in (first, best)]
    assert summary["trained"]["accuracy_messages_blanked"] == sum(silent) / 2
    untrained, _ = build(config, best.backbone)
    assert summary["untrained"]["accuracy"] == accuracy(untrained)
    assert summary["untrained"]["accuracy_sampled"] == accuracy(untrained, greedy=False)
    one, _, _ = load_run(out / "runs" / "control_params" / "compositional" / "lr0.004_s1", "best", best.backbone)
    assert summary["control_vote"]["by_seed"][1] == accuracy(Vote(one, 3, task.parse), seed=1)


def test_a_demonstration_is_replaced_file_by_file(out: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(out, tmp_path / "copy", symlinks=True)
    demo._replace(copy)
    assert [*copy.iterdir()] == []
    demo._replace(copy)
    demo._replace(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_demonstration_that_was_interrupted_goes_on(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(out, tmp_path / "copy", symlinks=True)
    (copy / "summary.json").unlink()  # which is written last
    run = copy / "runs" / "trained" / "compositional" / "lr0.004_s1"
    shutil.rmtree(run)
    kept = run.with_name("lr0.004_s0") / "metrics.jsonl"
    before = kept.stat().st_mtime_ns

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(demo, "_trials", interrupted)
        cli.main([*COMMAND, "--out", str(copy)])
    assert "interrupted; the same command goes on where it stopped" in capsys.readouterr().err
    assert (run / "metrics.jsonl").exists()
    cli.main([*COMMAND, "--out", str(copy)])
    assert kept.stat().st_mtime_ns == before
    old, new = summary_of(out), summary_of(copy)
    assert old | {"seconds": 0} == new | {"seconds": 0}


@pytest.mark.parametrize("name", ["plan.json", "runs/trained/notes.txt", "runs/mine/metrics.jsonl", ".profile"])
def test_a_folder_with_a_file_that_no_demonstration_writes_is_refused_and_stays(
    out: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(out, tmp_path / "copy", symlinks=True)
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_text("mine")
    before = sorted(copy.rglob("*"))
    with pytest.raises(SystemExit):
        cli.main(["demo", "--out", str(copy)])
    assert f"holds '{Path(name).name}', which no demonstration wrote; choose another --out" in capsys.readouterr().err
    assert sorted(copy.rglob("*")) == before


def test_another_comparison_is_no_demonstration(out: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(out, tmp_path / "copy", symlinks=True)
    spec = json.loads((copy / "spec.json").read_text())
    (copy / "spec.json").write_text(json.dumps(spec | {"title": "Mine"}))
    with pytest.raises(SystemExit):
        cli.main(["demo", "--out", str(copy)])
    assert (copy / "summary.json").exists()
