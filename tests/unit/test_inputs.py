"""Forms in which people give things: tasks and backbones as objects, options of commands, fields of requests."""

from pathlib import Path
from typing import Any

import pytest

from helpers import make_backbone, plain_model
from neuromas.api.verbs import default_folder_name, given_backbone, given_task
from neuromas.cli.systems import parse_options
from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.results import GrowthRecord, StepMetrics
from neuromas.run.build import GIVEN
from neuromas.run.start import began
from neuromas.tasks import load_task

ROWS = [{"question": f"{i} + 1 =", "answer": str(i + 1)} for i in range(40)]


def test_a_task_that_has_a_name_is_not_made_here_and_rows_are() -> None:
    task = load_task("compositional")
    assert given_task(task, None) is task
    assert given_task("compositional", None) is given_task(Path("own.toml"), None) is given_task(None, None) is None
    made = given_task(ROWS, lambda question, reply: float(reply == question.answer))
    assert made is not None
    question = made.questions("train")[0]
    assert made.grade(question, question.answer).reward == 1
    with pytest.raises(ConfigError, match="a reward function goes with rows"):
        given_task("compositional", lambda question, reply: 1.0)


def test_a_loaded_model_needs_its_tokenizer_and_a_name_brings_its_own() -> None:
    backbone = make_backbone()
    assert given_backbone(backbone, None) is backbone
    assert given_backbone("tiny", None) is given_backbone(None, None) is None
    model = plain_model()
    made = given_backbone(model, backbone.tokenizer)
    assert made is not None and made.model is model
    with pytest.raises(ConfigError, match="give its tokenizer too"):
        given_backbone(model, None)
    with pytest.raises(ConfigError, match="a named backbone brings its own"):
        given_backbone("tiny", backbone.tokenizer)


@pytest.mark.parametrize(
    "recipe, task, name",
    [
        ("recipes/grow.toml", "compositional", "grow_s3"),
        (None, "bbh/navigate", "bbh-navigate_s3"),
        (None, GIVEN + "rows", "rows_s3"),
    ],
)
def test_a_run_lies_in_a_folder_named_after_its_recipe_or_task(recipe: str | None, task: str, name: str) -> None:
    assert default_folder_name(recipe, RunConfig.make({"seed": 3, "task": {"name": task}})) == name


@pytest.mark.parametrize(
    "options, parsed",
    [
        (["agents=5", "pool=max"], {"agents": 5, "pool": "max"}),
        (["threshold=0.5", "fused=false"], {"threshold": 0.5, "fused": False}),
        (["topology=[2, 2]", "title=a=b", "empty="], {"topology": [2, 2], "title": "a=b", "empty": ""}),
        ([], {}),
    ],
)
def test_options_are_json_where_they_can_be(options: list[str], parsed: dict[str, Any]) -> None:
    assert parse_options(options) == parsed


@pytest.mark.parametrize("option", ["agents", "=5", "agents5"])
def test_an_option_without_a_value_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="write name=value"):
        parse_options([option])


def test_the_beginning_of_a_run_is_told_in_words() -> None:
    assert began(RunConfig.make({}), [], []) == "from the bare backbone"
    warm = RunConfig.make({"train": {"warm_start": 2}})
    assert began(warm, [], []) == "warm start of up to 2 steps"
    lines = [
        StepMetrics(step=step, estimator="self_distillation", accuracy=0.5, rollouts=8, generated_tokens=600)
        for step in (1, 2)
    ]
    assert began(warm, lines, []) == "warm start of 2 steps on 8 right rollouts (1,200 tokens sampled)"
    grown = GrowthRecord(step=9, operators=[], mapping={}, new=["1.2"], init="fade", run="small", checkpoint="step-9")
    assert began(RunConfig.make({}), [], [grown]) == "grown from the run small after step 9"
