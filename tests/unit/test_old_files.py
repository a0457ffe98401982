"""Runs, exports and comparisons that version 0.1.0 wrote are read, asked, continued and reported on."""

import json
import re
import shutil
from difflib import ndiff
from pathlib import Path

import pytest

from neuromas import cli
from neuromas.baselines.gptswarm import GPTSwarm
from neuromas.baselines.load import load_baseline
from neuromas.evaluate.run import evaluate
from neuromas.files import read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.network.forward import Limits
from neuromas.results import AnswerRecord, CellRecord, ComparisonRow, GrowthRecord, StepMetrics
from neuromas.run import checkpoint
from neuromas.run.build import load_run
from neuromas.run.export import export
from neuromas.run.final import FinalRecord
from neuromas.run.folder import read_metrics, saved_config
from neuromas.run.loop import train
from neuromas.tasks import load_task

OLD = Path(__file__).parents[1] / "data" / "version_0_1_0"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.load("tiny")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the old files that a test may write to."""
    shutil.copytree(OLD, tmp_path / "old", symlinks=True)
    return tmp_path / "old"


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_metrics_and_test_results_are_read_and_written_as_they_were() -> None:
    for run in ("run", "grown"):
        lines = read(OLD / run / "metrics.jsonl").splitlines()
        assert [json.dumps(metrics.to_dict(), ensure_ascii=False) for metrics in read_metrics(OLD / run)] == lines
    final = FinalRecord.from_dict(json.loads(read(OLD / "run" / "final.json")))
    written = json.loads(read(OLD / "run" / "final.json"))
    assert json.dumps(final.to_dict()["results"]) == json.dumps(written["results"])
    assert (final.run, final.steps, final.warnings) == ("run", 2, written["warnings"])
    assert final.training is not None and final.training.to_dict() == written["training"]


@pytest.mark.parametrize("which", ["best", "last"])
def test_an_old_run_is_loaded_and_answers_as_it_did(which: str, backbone: Backbone) -> None:
    network, task, config = load_run(OLD / "run", which, backbone)
    assert (network.name, task.name, config.train.steps) == (f"run ({which})", "compositional", 2)
    final = FinalRecord.from_dict(json.loads(read(OLD / "run" / "final.json")))
    kept = next(r for r in final.results if (r.checkpoint, r.decoding, r.delivery) == ("best", "greedy", "as sent"))
    result = evaluate(network, task, "test", kept.n, seed=1).result
    for name in ("n", "accuracy", "ci95", "parse_rate", "calls", "generated_tokens", "trainable_parameters", "floors"):
        assert getattr(result, name) == getattr(kept, name), name


def test_an_old_run_keeps_the_words_it_was_trained_with() -> None:
    assert saved_config(OLD / "run").prompt.version == 1
    assert FinalRecord.from_dict(json.loads(read(OLD / "run" / "final.json"))).config.prompt.version == 1


def test_an_old_run_is_resumed(old: Path, backbone: Backbone) -> None:
    config = saved_config(old / "run")
    longer = config.model_copy(update={"train": config.train.model_copy(update={"steps": 3})})
    heard: list[StepMetrics] = []
    train(longer, old / "run", resume=True, backbone=backbone, on_step=heard.append)
    assert [metrics.step for metrics in heard] == [3]
    assert [metrics.step for metrics in read_metrics(old / "run")] == [0, 1, 2, 3]
    assert checkpoint.step_of(checkpoint.newest(old / "run" / "checkpoints")) == 3


def test_the_growth_of_an_old_run_is_read(backbone: Backbone) -> None:
    newest = checkpoint.newest(OLD / "grown" / "checkpoints")
    assert newest is not None
    (record,) = checkpoint.progress_of(newest, 2).lineage
    mapping = {"1.1": "1.1", "out": "out"}
    assert record == GrowthRecord(
        step=1, operators=["widen layer 1 by 1"], mapping=mapping, new=["1.2"], init="copy", copied={"1.2": "1.1"}
    )
    assert load_run(OLD / "grown", "last", backbone)[0].topology.name == "2"


def test_an_old_run_is_exported_and_an_old_export_is_evaluated(tmp_path: Path, capsys) -> None:
    export(OLD / "run", folder := tmp_path / "exported")
    kept = read(OLD / "export" / "README.md").split("## Measured")[1].split("## Use")[0]
    assert kept.strip() in read(folder / "README.md"), "the table of its results"
    cli.main(["eval", str(OLD / "export"), "--limit", "4", "--json", str(tmp_path / "result.json")])
    assert "floors on these 4 questions" in " ".join(capsys.readouterr().out.split())
    assert json.loads(read(tmp_path / "result.json"))["calls"] == 2


def test_the_page_shows_an_old_run() -> None:
    from neuromas.serve.record import Record

    record = Record("run", OLD / "run")
    shown, lines = record.run(), record.lines(-1).lines
    assert (shown.step, shown.finished, shown.method, shown.task) == (2, True, "neuromas", "compositional")
    assert [node.id for node in shown.shape.nodes] == ["1.1", "out"]
    assert len(shown.results) == len(json.loads(read(OLD / "run" / "final.json"))["results"])
    assert [line.step for line in lines] == [0, 1, 2] and lines[-1].validation is not None
    assert len(record.samples(-1).samples) == len(read_json_lines(OLD / "run" / "samples.jsonl"))
    assert [growth.new for growth in Record("grown", OLD / "grown").run().lineage] == [["1.2"]]


def test_an_old_comparison_is_read_and_reported_on(old: Path) -> None:
    folder, kept = old / "comparison", OLD / "comparison"
    for name, kind in (("cells.jsonl", CellRecord), ("answers.jsonl", AnswerRecord)):
        for line in read_json_lines(kept / name):
            own = {k: v for k, v in line.items() if kind is CellRecord or k not in ("system", "task", "seed", "index")}
            assert json.dumps(kind.from_dict(own).to_dict()) == json.dumps(own)
    for row in json.loads(read(kept / "summary.json")):
        assert json.dumps(ComparisonRow.from_dict(row).to_dict()) == json.dumps(row)
    cli.main(["compare", "--report", str(folder)])
    for name in ("results.json", "summary.json"):
        now, then = (json.loads(read(place / name)) for place in (folder, kept))
        for row, was in zip(now, then, strict=True):
            row.pop("answers_cut", None)
            assert row.pop("ci95") == pytest.approx(
                was.pop("ci95"), abs=0.5 / row["n"]
            )  # it was that of a whole number
        assert json.dumps(now) == json.dumps(then), name
    without_intervals = lambda text: re.sub(r"\d+\.\d to \d+\.\d", "", text).splitlines()
    told = [*ndiff(*(without_intervals(read(place / "report.md")) for place in (kept, folder)))]
    assert [line for line in told if line[0] != " " and not line.endswith("were cut by the token limit.")] == ["+ "]
    assert (folder / "report.html").is_file() and (folder / "accuracy_cost.png").is_file()


def test_an_old_comparison_goes_on(old: Path) -> None:
    """Its spec is the same comparison as far as this version is concerned, and nothing in it is left to be done."""
    from neuromas.compare.spec import Spec
    from neuromas.compare.store import Store, check_same

    spec = Spec.make(json.loads(read(old / "comparison" / "spec.json")))
    check_same(spec, old / "comparison")
    store = Store(old / "comparison")
    store.close()
    assert len(store.cells) == 13
    assert all(store.has(key, 0) for key in store.cells)


def test_what_an_old_baseline_had_learned_is_read(backbone: Backbone) -> None:
    task = load_task("compositional", depth=2, train_size=16, validation_size=4, test_size=8)
    system = load_baseline("gptswarm", backbone, task, Limits(4, 4), agents=10)
    assert isinstance(system, GPTSwarm)
    system.load(OLD / "gptswarm_state.json")
    assert system.fit_cost.questions > 0 and len(system.answer(task.questions("test")[:1])) == 1
