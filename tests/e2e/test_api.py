"""The verbs of the top package: the examples of their docstrings, every form of input, objects in a notebook."""

import doctest
import pydoc
from pathlib import Path
from typing import Any

import pytest

import neuromas as nm
from helpers import binary_backbone, byte_tokenizer, plain_model, run_config
from neuromas.api import run as run_module
from neuromas.api import verbs
from neuromas.errors import CheckpointError, ConfigError, TaskError

ROWS = [{"question": f"{i}?", "answer": str(i % 2)} for i in range(60)]
SMALL: dict[str, Any] = {
    "adapter.rank": 2, "sampling.message_tokens": 3, "sampling.answer_tokens": 2, "train.questions": 2,
    "train.rollouts": 2, "train.validation_questions": 4, "train.validate_every": 2,
}  # fmt: skip


def small(out: Path, **options: Any) -> nm.Run:
    given: dict[str, Any] = {"topology": "1", "task": ROWS, "backbone": binary_backbone(), "steps": 2, "out": out}
    return nm.train(**(given | {"settings": SMALL} | options))


def test_the_examples_of_the_docstrings_run(tmp_path: Path) -> None:
    names: dict[str, Any] = {"folder": tmp_path}
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    objects = [
        verbs.train,
        verbs.load,
        verbs.evaluate,
        run_module.Run.evaluate,
        run_module.Run.ask,
        run_module.Run.grow,
    ]
    ran = 0
    for item in objects:
        for test in finder.find(item, item.__qualname__, globs={**vars(verbs), **names}):
            result = runner.run(test, clear_globs=False)
            assert result.failed == 0, item.__qualname__
            ran += result.attempted
            names |= {"run": test.globs["run"]} if "run" in test.globs else {}
    assert ran >= 7


def test_packages_whose_name_is_a_verb_are_packages_and_can_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    import neuromas.evaluate.run as evaluating
    import neuromas.train.step as step

    assert callable(step.train_step)
    assert callable(evaluating.evaluate)
    assert pydoc.locate("neuromas.train.step.train_step") is step.train_step
    for name in ("train", "evaluate", "compare"):
        heard: list[Any] = []
        monkeypatch.setattr(verbs, name, lambda *args, heard=heard, **options: heard.append((args, options)))
        getattr(nm, name)("x", y=1)
        assert heard == [(("x",), {"y": 1})]


def test_rows_are_split_graded_and_asked(tmp_path: Path) -> None:
    run = small(tmp_path / "rows", reward=lambda question, reply: reply.strip() == question.answer)
    assert [len(run.task.questions(split)) for split in ("train", "validation", "test")] == [36, 12, 12]
    result = run.evaluate("test")
    assert (result.n, result.system) == (12, run.network.name)
    trace = run.ask("7?")
    assert [call.node for call in trace.calls] == ["1.1", "out"]
    assert str(trace).splitlines()[1].startswith("out (reads 1.1): ")
    assert run.metrics.column("step") == [0, 1, 2]
    alone = nm.load(tmp_path / "rows", backbone=binary_backbone())
    assert alone.ask("7?").answer == trace.answer
    with pytest.raises(TaskError, match="given in Python"):
        alone.evaluate("test")
    again = nm.load(tmp_path / "rows", task=ROWS, backbone=binary_backbone())
    assert again.evaluate("test").accuracy == pytest.approx(
        sum(again.task.grade(q, again.network.answer([q])[0].answer).reward for q in again.task.questions("test")) / 12
    )


@pytest.mark.parametrize("worth", [1.5, -1, "yes", float("nan")])
def test_a_reward_that_is_none_is_refused_by_name(worth: Any) -> None:
    from neuromas.tasks.rows import RowsTask

    task = RowsTask(ROWS, lambda question, reply: worth)
    with pytest.raises(TaskError, match="return a number from 0 to 1"):
        task.grade(task.questions("test")[0], "0")


def test_rows_without_the_columns_are_refused_with_their_number() -> None:
    with pytest.raises(TaskError, match=r"row 2: it has no 'answer' \(it has question\)"):
        nm.evaluate(None, [ROWS[0], {"question": "x"}])  # type: ignore[arg-type]


def test_a_loaded_model_needs_its_tokenizer_and_a_task_grades_by_itself(tmp_path: Path) -> None:
    model = plain_model()
    with pytest.raises(ConfigError, match="tokenizer"):
        small(tmp_path / "a", backbone=model)
    run = small(tmp_path / "a", backbone=model, tokenizer=byte_tokenizer())
    assert run.config.backbone.name == run.network.backbone.name
    with pytest.raises(ConfigError, match="goes with rows"):
        small(tmp_path / "b", task="compositional", reward=lambda question, reply: 1.0)
    assert not (tmp_path / "b").exists()


def test_on_step_hears_every_step_and_may_stop_the_run(tmp_path: Path) -> None:
    heard: list[int] = []

    def stop_after_three(metrics: nm.StepMetrics) -> bool:
        heard.append(metrics.step)
        return metrics.step < 3

    run = small(tmp_path / "run", steps=9, on_step=stop_after_three)
    assert heard == run.metrics.column("step") == [0, 1, 2, 3]
    assert (tmp_path / "run" / "checkpoints" / "step-000003").is_dir()
    whole = small(tmp_path / "run", steps=5, resume=True)
    assert whole.metrics.column("step") == [0, 1, 2, 3, 4, 5]
    assert whole.metrics.column("reward")[1:] == small(tmp_path / "other", steps=5).metrics.column("reward")[1:]


def test_a_recipe_is_overridden_and_a_folder_in_use_refused(tmp_path: Path) -> None:
    config = run_config(train__steps=1)
    run = nm.train(config, backbone=binary_backbone(), out=tmp_path / "run", seed=5)
    assert (run.config.seed, run.config.train.steps, run.task.name) == (5, 1, "compositional")
    with pytest.raises(CheckpointError, match="already holds a run"):
        nm.train(config, backbone=binary_backbone(), out=tmp_path / "run")
    with pytest.raises(CheckpointError, match="not a run folder"):
        nm.load(tmp_path)


def test_growing_trains_a_larger_network_and_leaves_the_run(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    bigger = run.grow("2", tmp_path / "grown", steps=2, settings={"anneal": 1})
    assert bigger.metrics.column("step") == [0, 1, 2, 3, 4]
    last = nm.load(bigger.folder, "last", task=ROWS, backbone=binary_backbone())
    assert (run.config.topology, last.network.topology.name) == ("1", "2")


def test_objects_show_themselves_in_a_notebook(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    assert nm.Topology.parse("2")._repr_html_().startswith("<svg")
    assert "best constant" in run.evaluate("test")._repr_html_()
    trace = run.ask("<b>1</b>?")
    trace.calls[0].text = "<script>"
    assert "1.1" in trace._repr_html_() and "<script>" not in trace._repr_html_()
    html = run._repr_html_()
    assert html.count("<svg") == 2 and "validation" in html and repr(run).startswith("Run(")
