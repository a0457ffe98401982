"""Runs that grow: stages in one recipe, promotion, killing and resuming anywhere, and `neuromas grow`."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from crashes import crash_at, crash_points, same_run, started
from helpers import as_saved, binary_backbone, measured, run_config
from neuromas import cli
from neuromas.config import RunConfig
from neuromas.errors import CheckpointError, ConfigError, TopologyError
from neuromas.files import read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.results import StepMetrics
from neuromas.run import checkpoint
from neuromas.run.build import load_run
from neuromas.run.digests import sealed
from neuromas.run.grow import grow_run
from neuromas.run.loop import train
from neuromas.run.method import Joint, method_of
from neuromas.run.stages import stages_of

FIRST: dict[str, Any] = {"steps": 2}
WIDER: dict[str, Any] = {"topology": "2-1", "init": "fade", "anneal": 2, "steps": 3, "old_scale": 0.3}
EASIER: dict[str, Any] = {"options": {"easy": 1.0}, "steps": 1}
DEEPER: dict[str, Any] = {"topology": "2-1-2", "init": "copy", "freeze": 1}


def config(*stages: dict[str, Any], **changes: Any) -> RunConfig:
    return run_config(stages=list(stages or (FIRST, WIDER, EASIER, DEEPER)), **{"train__steps": 8, **changes})


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return binary_backbone()


@pytest.fixture(scope="module")
def undisturbed(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    train(config(train__keep_checkpoints=20), out, backbone=backbone)
    rewards = [line["reward"] for line in read_json_lines(out / "metrics.jsonl") if line["step"]]
    assert max(rewards) > min(rewards) > 0, "without rewards nothing would be trained, and the tests below say nothing"
    return out


def state(run: Path, name: str = "") -> dict[str, Any]:
    folder = run / "checkpoints" / name if name else checkpoint.newest(run / "checkpoints")
    assert folder is not None
    return json.loads((folder / "state.json").read_text())


def adapter(run: Path, name: str, node: str) -> dict[str, Tensor]:
    return load_file(run / "checkpoints" / name / "nodes" / node / "adapter_model.safetensors")


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# -- what a run of several stages leaves ----------------------------------------------------------------------


def test_one_recipe_runs_through_its_stages_and_its_lines_say_which_and_how_much_is_present(undisturbed: Path) -> None:
    lines = read_json_lines(undisturbed / "metrics.jsonl")
    assert [(m["step"], m["stage"], m["alpha"]) for m in lines[1:]] == [
        (1, 0, 1), (2, 0, 1), (3, 1, 0.5), (4, 1, 1), (5, 1, 1), (6, 2, 1), (7, 3, 1), (8, 3, 1),
    ]  # fmt: skip
    assert [m["step"] for m in lines if "validation" in m] == [0, 2, 4, 5, 6, 8], "every stage ends with one"
    assert [set(m["nodes"]) for m in lines[2:4]] == [{"1.1", "out"}, {"1.1", "1.2", "2.1", "out"}]
    assert set(lines[-1]["nodes"]) == {"1.1", "1.2", "2.1", "3.1", "3.2", "out"}
    present = 2 * 16 + 2 * 8  # calls of step 3: of a parent's two nodes in each rollout, of two more in half of them
    assert 2 * 16 < lines[3]["calls"] < 4 * 16, f"about {present}"
    saved = sorted(p.name for p in (undisturbed / "checkpoints").iterdir() if "stage" in p.name)
    assert saved == ["step-000002-stage-1", "step-000005-stage-2", "step-000006-stage-3"]
    assert load_run(undisturbed, "last", binary_backbone())[0].topology.name == "2-1-2"


def test_the_lineage_of_a_network_lies_in_its_checkpoint(undisturbed: Path) -> None:
    names = {"1.1": "1.1", "out": "out"}
    wider = {
        "step": 2, "operators": ["widen layer 1 by 1", "insert layer 2 of 1"], "mapping": names,
        "new": ["1.2", "2.1"], "init": "fade",
    }  # fmt: skip
    deeper = {
        "step": 6, "operators": ["insert layer 3 of 2"], "mapping": names | {"1.2": "1.2", "2.1": "2.1"},
        "new": ["3.1", "3.2"], "init": "copy", "copied": {"3.1": "2.1", "3.2": "2.1"},
    }  # fmt: skip
    assert state(undisturbed, "step-000002")["progress"]["lineage"] == []
    assert state(undisturbed, "step-000002-stage-1")["progress"]["lineage"] == [wider]
    assert state(undisturbed)["progress"]["lineage"] == [wider, deeper]


def test_growth_keeps_adapters_and_optimiser_state_of_old_nodes_and_new_ones_have_none(undisturbed: Path) -> None:
    for before, after, new in (
        ("step-000002", "step-000002-stage-1", {"1.2", "2.1"}),
        ("step-000006", "step-000006-stage-3", {"3.1", "3.2"}),
    ):
        old = state(undisturbed, before)["adapters"]
        assert all(equal(adapter(undisturbed, before, n), adapter(undisturbed, after, n)) for n in old)
        assert state(undisturbed, after)["adapters"].keys() == old.keys() | new
        moments = [load_file(undisturbed / "checkpoints" / n / "optimizer.safetensors") for n in (before, after)]
        assert equal(*moments)
        assert {k.split("|")[0] for k in moments[1]} == set(old)
        assert any(v.abs().sum() > 0 for k, v in moments[1].items() if k.endswith("exp_avg"))


def test_frozen_steps_change_new_nodes_alone(undisturbed: Path) -> None:
    before, frozen, after = "step-000006-stage-3", "step-000007", "step-000008"
    changed = lambda a, b: {
        n for n in state(undisturbed)["adapters"] if not equal(adapter(undisturbed, a, n), adapter(undisturbed, b, n))
    }
    assert changed(before, frozen)
    assert changed(before, frozen) <= {"3.1", "3.2"}
    assert changed(frozen, after) > {"out"}


def test_a_stages_options_are_of_its_own_training_questions_alone(undisturbed: Path, backbone, tmp_path: Path) -> None:
    network, task, _ = load_run(undisturbed, "last", backbone)
    asked: list[Any] = []
    for stage in stages_of(config()):
        method = method_of(config(), tmp_path, network, task, stage)
        assert isinstance(method, Joint)
        asked.append([q.text for q in method.schedule.questions(1) + method.schedule.questions(2)])
    easy = lambda text: re.search(r"\+b\(0.0\)", text) is not None
    assert all(map(easy, asked[2]))
    assert asked[0] == asked[1] == asked[3]
    assert not all(map(easy, asked[0]))


def test_a_stage_is_promoted_on_reward_and_a_last_stage_that_is_over_ends_the_run(backbone, tmp_path: Path) -> None:
    gate = {"promote": 0.05, "window": 2}
    train(config(gate, {"topology": "2", **gate, "init": "zero"}), tmp_path / "run", backbone=backbone)
    lines = read_json_lines(tmp_path / "run" / "metrics.jsonl")[1:]
    for stage in (0, 1):
        rewards = [m["reward"] for m in lines if m["stage"] == stage]
        means = [sum(rewards[i : i + 2]) / 2 for i in range(len(rewards) - 1)]
        assert [mean >= 0.05 for mean in means] == [False] * (len(means) - 1) + [True]
    assert len(lines) < 8
    assert "validation" in lines[-1]
    train(config(gate, {"topology": "2", **gate, "init": "zero"}), tmp_path / "run", backbone=backbone, resume=True)
    assert len(read_json_lines(tmp_path / "run" / "metrics.jsonl")) == 1 + len(lines), "and it stays ended"


def test_the_best_checkpoint_may_be_the_parents_and_is_loaded_as_such(backbone, tmp_path: Path, monkeypatch) -> None:
    scores = iter([0.1, 0.9, 0.3, 0.3, 0.3, 0.3])

    monkeypatch.setattr("neuromas.run.session.evaluate", lambda *_, **__: measured(next(scores)))
    train(config(train__keep_checkpoints=1), tmp_path / "run", backbone=backbone)
    assert (tmp_path / "run" / "best").resolve().name == "step-000002"
    assert load_run(tmp_path / "run", "best", backbone)[0].topology.name == "1"
    assert load_run(tmp_path / "run", "last", backbone)[0].topology.name == "2-1-2"


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    ["counterfactual", *(pytest.param(name, marks=pytest.mark.slow) for name in ("critic", "difference"))],
)
def test_runs_of_every_kind_of_estimator_grow_and_resume_with_nodes_absent(backbone, tmp_path, estimator: str) -> None:
    settings: dict[str, Any] = {"train__estimator": estimator, "train__node_dropout": 0.3}
    how = config(FIRST, WIDER, **settings, train__steps=5)
    train(how, tmp_path / "whole", backbone=backbone)
    with pytest.raises(KeyboardInterrupt):
        train(how, tmp_path / "cut", backbone=backbone, on_step=interrupt_at(4))
    train(how, tmp_path / "cut", backbone=backbone, resume=True)
    same_run(tmp_path / "cut", tmp_path / "whole")


# -- killed and resumed -------------------------------------------------------------------------------------


def interrupt_at(step: int) -> Any:
    def on_step(metrics: StepMetrics) -> None:
        if metrics.step == step:
            raise KeyboardInterrupt

    return on_step


@pytest.fixture(scope="module")
def usual(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `undisturbed`, with as many checkpoints kept as usual."""
    out = tmp_path_factory.mktemp("runs") / "usual"
    train(config(), out, backbone=backbone)
    return out


@pytest.mark.parametrize(
    "step", [pytest.param(n, marks=[] if n in (1, 4, 5) else pytest.mark.slow) for n in range(1, 8)]
)
def test_a_run_stopped_at_any_step_of_any_stage_resumes_to_the_same_numbers(usual, backbone, tmp_path, step: int):
    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path / "run", backbone=backbone, on_step=interrupt_at(step))
    train(config(), tmp_path / "run", backbone=backbone, resume=True)
    same_run(tmp_path / "run", usual)


def test_a_run_killed_where_stages_begin_resumes_to_the_same_numbers(usual, backbone, tmp_path: Path) -> None:
    for name in ("step-000002-stage-1", "step-000004", "step-000006-stage-3"):
        started(config(), tmp_path / "run", backbone).kill_when(tmp_path / "run" / "checkpoints" / name)
        assert checkpoint.newest(tmp_path / "run" / "checkpoints").name < "step-000008", "killed too late to tell"
    train(config(), tmp_path / "run", backbone=backbone, resume=True)
    same_run(tmp_path / "run", usual)


@pytest.mark.slow
def test_a_run_of_several_stages_may_crash_at_any_write_whatsoever(usual, backbone, tmp_path: Path) -> None:
    total = crash_points(config(), tmp_path / "counted", backbone)
    assert total > 80
    for n in range(1, total + 1, 2):
        crash_at("any", n, config(), tmp_path / f"run-{n}", backbone)
        train(config(), tmp_path / f"run-{n}", backbone=backbone, resume=True)
        same_run(tmp_path / f"run-{n}", usual)


def test_stages_are_among_the_settings_under_which_alone_a_run_goes_on(usual: Path, backbone) -> None:
    with pytest.raises(CheckpointError, match=r"stages was .*resume with its own"):
        train(config(FIRST, WIDER | {"anneal": 1}, EASIER, DEEPER), usual, backbone=backbone, resume=True)


def test_a_checkpoint_of_a_stage_that_the_run_does_not_have_is_refused(usual: Path, backbone, tmp_path: Path) -> None:
    shutil.copytree(usual, tmp_path / "run", symlinks=True)
    newest = checkpoint.newest(tmp_path / "run" / "checkpoints")
    broken = state(usual)
    broken["progress"]["stage"] = 9
    (newest / "state.json").write_text(json.dumps(sealed(broken)))
    with pytest.raises(CheckpointError, match="is of stage 9, and the run has 4"):
        train(config(), tmp_path / "run", backbone=backbone, resume=True)


def test_a_stage_learns_at_its_own_rate_and_the_next_at_the_run_s(backbone: Backbone, tmp_path: Path) -> None:
    stages = (FIRST, WIDER | {"learning_rate": 1e-3}, EASIER)
    train(config(*stages, train__steps=6, train__warmup=0), tmp_path / "run", backbone=backbone)
    rates = [line["learning_rate"] for line in read_json_lines(tmp_path / "run" / "metrics.jsonl")[1:]]
    assert rates == pytest.approx([3e-2] * 2 + [1e-3] * 3 + [3e-2])


@pytest.mark.slow
def test_with_node_dropout_nodes_are_missing_from_as_many_rollouts_as_asked(backbone: Backbone, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"topology": "4", "train__steps": 3, "train__rollouts": 32}
    train(run_config(**changes, train__node_dropout=0.5), tmp_path / "run", backbone=backbone)
    for line in read_json_lines(tmp_path / "run" / "metrics.jsonl")[1:]:
        hidden = line["calls"] - line["rollouts"]  # the output always speaks
        assert 0.4 < hidden / (4 * line["rollouts"]) < 0.65  # 0.53: all four stay where none would


# -- neuromas grow ------------------------------------------------------------------------------------------


def test_a_run_that_is_grown_afterwards_is_what_it_would_be_with_that_stage_in_its_recipe(backbone, tmp_path) -> None:
    train(config(FIRST, train__steps=2), tmp_path / "parent", backbone=backbone)
    before = {p: p.read_bytes() for p in (tmp_path / "parent").rglob("*") if p.is_file()}
    progress = grow_run(tmp_path / "parent", WIDER, tmp_path / "grown", steps=3, backbone=backbone)
    assert {p: p.read_bytes() for p in (tmp_path / "parent").rglob("*") if p.is_file()} == before
    record = {"run": "parent", "checkpoint": "step-000002"}
    assert progress.lineage[-1].to_dict().items() >= record.items()
    how = RunConfig.make(json.loads((tmp_path / "grown" / "config.json").read_text()))
    assert how == as_saved(config(FIRST, WIDER, train__steps=5))
    train(how, tmp_path / "grown", backbone=backbone, resume=True)
    train(how, tmp_path / "whole", backbone=backbone)
    newest = checkpoint.newest(tmp_path / "whole" / "checkpoints")
    mended = state(tmp_path / "whole")
    mended["progress"]["lineage"][-1] |= record
    (newest / "state.json").write_text(json.dumps(sealed(mended)))
    same_run(tmp_path / "grown", tmp_path / "whole")


def test_a_run_with_stages_left_is_grown_from_where_it_stands_or_from_its_best(undisturbed: Path, backbone, tmp_path):
    stage = {"topology": "3-1", "init": "noise"}
    best = (undisturbed / "best").resolve()
    shutil.copytree(undisturbed, tmp_path / "run", symlinks=True)
    checkpoint.mark_best(tmp_path / "run", tmp_path / "run" / "checkpoints" / "step-000004")
    grow_run(tmp_path / "run", stage, tmp_path / "grown", steps=2, which="best", backbone=backbone)
    how = RunConfig.make(json.loads((tmp_path / "grown" / "config.json").read_text()))
    assert [(s.topology, s.steps) for s in how.stages] == [(None, 2), ("2-1", 2), ("3-1", None)]
    assert how.train.steps == 6
    assert [m["step"] for m in read_json_lines(tmp_path / "grown" / "metrics.jsonl")] == [0, 1, 2, 3, 4]
    assert (tmp_path / "grown" / "best").resolve().name == "step-000004"
    network, _ = train(how, tmp_path / "grown", backbone=backbone, resume=True)
    assert network.topology.name == "3-1"
    assert best.exists()


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"stage": {"topology": "1"}}, TopologyError, "1 does not contain 2-1-2"),
        ({"stage": {"topology": "2-1-2"}}, TopologyError, "has topology 2-1-2 already; name a larger one"),
        ({"stage": {"topology": "nonsense"}}, TopologyError, "nonsense"),
        ({"stage": {"topology": "3-1-2", "init": "magic"}}, ConfigError, "init is 'magic'"),
        ({"stage": {"topology": "3-1-2", "old_scale": -1}}, ConfigError, "old_scale is -1"),
        ({"steps": 0}, ConfigError, "0 further steps: .* 1 or more"),
        ({"run": "nowhere"}, CheckpointError, "is not a run folder"),
    ],
)
def test_growing_what_cannot_grow_is_refused_and_leaves_nothing(
    usual, backbone, tmp_path, change, error, named
) -> None:
    ask = {"run": usual, "stage": {"topology": "3-1-2"}, "steps": 2} | change
    with pytest.raises(error, match=named):
        grow_run(Path(ask["run"]), ask["stage"], tmp_path / "out", steps=ask["steps"], backbone=backbone)
    assert list(tmp_path.iterdir()) == []


def test_growing_an_untrained_network_a_baseline_or_into_a_folder_in_use_is_refused(usual, backbone, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(run_config(), tmp_path / "untrained", backbone=backbone, on_step=interrupt_at(1))
    with pytest.raises(ConfigError, match="step 0 holds no step of its stage.*train it first"):
        grow_run(tmp_path / "untrained", {"topology": "2"}, tmp_path / "out", steps=2, backbone=backbone)
    shutil.copytree(usual, tmp_path / "malt")
    (tmp_path / "malt" / "config.json").write_text(json.dumps({"method": "malt"}))
    with pytest.raises(ConfigError, match="method 'malt'.*only networks grow"):
        grow_run(tmp_path / "malt", {"topology": "3"}, tmp_path / "out", steps=2, backbone=backbone)
    with pytest.raises(CheckpointError, match="exists and is not empty"):
        grow_run(usual, {"topology": "3-1-2"}, tmp_path / "malt", steps=2, backbone=backbone)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text(json.dumps(run_config().model_dump(mode="json")))
    with pytest.raises(CheckpointError, match="holds no checkpoint yet"):
        grow_run(tmp_path / "empty", {"topology": "3"}, tmp_path / "out", steps=2, backbone=backbone)


@pytest.mark.slow
def test_grow_and_train_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text(
        "[adapter]\nrank = 2\n[sampling]\nmessage_tokens = 9\n[task.options]\ntest_size = 8\nvalidation_size = 8\n"
        "[train]\nsteps = 2\nquestions = 2\nrollouts = 2\n"
    )
    parent, grown = str(tmp_path / "parent"), str(tmp_path / "grown")
    cli.main(["train", str(recipe), "--topology", "2", "--out", parent])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.main(["grow", parent, "--topology", "1-2", "--anneal", "2", "--init", "copy", "--out", grown])
    assert "stages[1].anneal is 2, but init is 'copy'" in " ".join(capsys.readouterr().err.split())
    assert not Path(grown).exists()
    cli.main(["grow", parent, "--topology", "1-2", "--init", "copy", "--out", grown])
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("after step 2 of parent: insert layer 1 of 1", "new nodes", "copies 1.1"):
        assert words in shown
    assert "old nodes keep their ids: 1.1 (asked for as 2.1), 1.2 (asked for as 2.2)" in shown
    assert f"train it for 2 more steps with: neuromas train --resume --out {grown}" in shown
    cli.main(["train", "--resume", "--out", grown])
    final = json.loads((tmp_path / "grown" / "final.json").read_text())
    assert final["steps"] == 4
    assert [s["topology"] for s in final["config"]["stages"]] == [None, "1-2"]
    assert "stage 1 begins" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        cli.main(["grow", parent, "--topology", "2", "--out", str(tmp_path / "other")])
    assert caught.value.code == 2
    assert "name a larger one" in capsys.readouterr().err
