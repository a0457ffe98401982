"""Training runs: the folder they leave, and resuming to the same numbers after any kind of stop."""

import json
from pathlib import Path

import pytest
import torch

from crashes import crash_at, crash_points, same_run, spoil, started
from helpers import FirstCharacter, as_saved, binary_backbone, measured, run_config
from neuromas.errors import CheckpointError, DivergenceError
from neuromas.files import read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.results import StepMetrics
from neuromas.run import checkpoint, session
from neuromas.run.build import build, load_run
from neuromas.run.folder import saved_config
from neuromas.run.loop import train
from neuromas.train.schedule import Schedule, learning_rate


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return binary_backbone()


@pytest.fixture(scope="module")
def undisturbed(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    train(run_config(), out, backbone=backbone)
    rewards = [line["reward"] for line in read_json_lines(out / "metrics.jsonl") if line["step"]]
    assert max(rewards) > min(rewards) > 0, "without rewards nothing would be trained, and the tests below say nothing"
    return out


class Stop(Exception):
    pass


def stop_at(step: int):
    """Ends a run as Ctrl-C would, just after the line of `step` was written and before its checkpoint."""

    def on_step(metrics: StepMetrics) -> None:
        if metrics.step == step:
            raise Stop

    return on_step


# -- what a run leaves -------------------------------------------------------------------------------------


def test_a_run_leaves_one_line_a_step_its_configuration_and_its_newest_and_best_checkpoints(undisturbed: Path) -> None:
    lines = read_json_lines(undisturbed / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(7))
    assert [line["step"] for line in lines if "validation" in line] == [0, 2, 4, 6]
    kept = {p.name for p in (undisturbed / "checkpoints").iterdir()}
    best = (undisturbed / "best").resolve().name if (undisturbed / "best").exists() else "step-000006"
    assert kept == {"step-000005", "step-000006", best}
    assert json.loads((undisturbed / "config.json").read_text()) == as_saved(run_config()).model_dump(mode="json")
    samples = read_json_lines(undisturbed / "samples.jsonl")
    assert [s["step"] for s in samples if s["split"] == "train"] == [2, 2, 4, 4, 6, 6]
    validated = [(s["step"], s["question"]) for s in samples if s["split"] == "validation"]
    assert validated == [(step, text) for step in (0, 2, 4, 6) for _, text in validated[:2]]
    assert not list(undisturbed.rglob("*.tmp")) + list(undisturbed.rglob(".saving*"))


def test_two_runs_of_one_configuration_are_equal_and_of_another_seed_are_not(undisturbed: Path, backbone, tmp_path):
    train(run_config(), tmp_path / "again", backbone=backbone)
    same_run(tmp_path / "again", undisturbed)
    train(run_config(seed=4), tmp_path / "other", backbone=backbone)
    with pytest.raises(AssertionError):
        same_run(tmp_path / "other", undisturbed)


def test_the_best_checkpoint_is_the_one_with_the_highest_validation(backbone, tmp_path, monkeypatch) -> None:
    scores = iter([0.1, 0.5, 0.9, 0.3])

    monkeypatch.setattr(session, "evaluate", lambda *_, **__: measured(next(scores)))
    network, _ = train(run_config(train__keep_checkpoints=1), tmp_path / "run", backbone=backbone)
    assert (tmp_path / "run" / "best").resolve().name == "step-000004"
    assert {p.name for p in (tmp_path / "run" / "checkpoints").iterdir()} == {"step-000004", "step-000006"}
    best, _, _ = load_run(tmp_path / "run", "best", backbone)
    last, _, config = load_run(tmp_path / "run", "last", backbone)
    assert config == as_saved(run_config(train__keep_checkpoints=1))
    pairs = zip(last.adapters.stacks(), network.adapters.stacks(), best.adapters.stacks(), strict=True)
    for a, b, c in pairs:
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_a_folder_that_holds_a_run_is_not_written_over(undisturbed: Path, backbone) -> None:
    with pytest.raises(CheckpointError, match="already holds a run; continue it with --resume"):
        train(run_config(), undisturbed, backbone=backbone)


def test_a_run_is_not_resumed_to_fewer_steps_than_it_has_done(undisturbed: Path, backbone) -> None:
    with pytest.raises(CheckpointError, match=r"has done 6 steps, and train.steps is 5; ask for 6 or more"):
        train(run_config(train__steps=5), undisturbed, backbone=backbone, resume=True)


def test_a_time_budget_ends_the_run_early_with_everything_saved(backbone, tmp_path: Path) -> None:
    train(run_config(train__stop_after_seconds=1e-6), tmp_path / "run", backbone=backbone)
    assert [line["step"] for line in read_json_lines(tmp_path / "run" / "metrics.jsonl")] == [0, 1]
    assert checkpoint.newest(tmp_path / "run" / "checkpoints").name == "step-000001"


# -- resuming ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(undisturbed, backbone, tmp_path, k: int, every: int):
    config = run_config(train__checkpoint_every=every)
    with pytest.raises(Stop):
        train(config, tmp_path / "run", backbone=backbone, on_step=stop_at(k))
    train(config, tmp_path / "run", backbone=binary_backbone(), resume=True)
    same_run(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("estimator", [pytest.param("running_mean", marks=pytest.mark.slow), "leave_one_out"])
def test_a_resumed_run_equals_an_uninterrupted_one_with_every_option_on(backbone, tmp_path, estimator: str) -> None:
    config = run_config(
        topology="1-1+skip", train__estimator=estimator, train__balanced=True, train__kl=0.05,
        train__entropy=0.01, train__weight_decay=0.1, train__micro_tokens=100, train__steps=4,
    )  # fmt: skip
    train(config, tmp_path / "whole", backbone=backbone)
    with pytest.raises(Stop):
        train(config, tmp_path / "cut", backbone=backbone, on_step=stop_at(3))
    train(config, tmp_path / "cut", backbone=backbone, resume=True)
    same_run(tmp_path / "cut", tmp_path / "whole")


def test_a_run_of_version_0_1_0_goes_on_though_its_settings_hold_what_is_gone(undisturbed, backbone, tmp_path: Path):
    with pytest.raises(Stop):
        train(run_config(), tmp_path / "run", backbone=backbone, on_step=stop_at(3))
    file = tmp_path / "run" / "config.json"
    settings = json.loads(file.read_text())
    settings["train"] |= {"decay": "constant", "credit_nodes": None}
    settings["malt"] = {"search": 25, "sft": 40, "branching": 3, "batch": 16, "beta": 0.1, "dpo_scale": 0.1}
    settings["collm"] = {"actors": 3, "value_weight": 0.6}
    file.write_text(json.dumps(settings))
    train(saved_config(tmp_path / "run"), tmp_path / "run", backbone=backbone, resume=True)
    same_run(tmp_path / "run", undisturbed)


def test_a_finished_run_can_be_made_longer(undisturbed, backbone, tmp_path: Path) -> None:
    train(run_config(train__steps=4), tmp_path / "run", backbone=backbone)
    train(run_config(), tmp_path / "run", backbone=backbone, resume=True)
    same_run(tmp_path / "run", undisturbed)


def test_resuming_a_finished_run_changes_nothing(backbone, tmp_path: Path) -> None:
    train(run_config(train__steps=2), tmp_path / "run", backbone=backbone)
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file() and "tensorboard" not in str(p)}
    train(run_config(train__steps=2), tmp_path / "run", backbone=backbone, resume=True)
    assert all(p.read_bytes() == content for p, content in before.items())


@pytest.mark.parametrize(
    "name, value", [("seed", 4), ("train__learning_rate", 0.5), ("train__questions", 2), ("sampling__temperature", 0.5)]
)
def test_a_run_is_not_continued_under_other_settings(undisturbed, backbone, name: str, value) -> None:
    with pytest.raises(CheckpointError, match=f"{name.replace('__', '.')} was .*, is {value}.*resume with its own"):
        train(run_config(**{name: value}), undisturbed, backbone=backbone, resume=True)


def test_resuming_where_nothing_was_saved_begins_again(undisturbed, backbone, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        train(run_config(), tmp_path / "run", backbone=backbone, on_step=stop_at(0))
    train(run_config(), tmp_path / "run", backbone=backbone, resume=True)
    same_run(tmp_path / "run", undisturbed)


# -- kill -9 -----------------------------------------------------------------------------------------------


def test_two_kills_and_a_resume_give_the_state_of_an_undisturbed_run(undisturbed, backbone, tmp_path: Path) -> None:
    for step in (2, 4):
        started(run_config(), tmp_path / "run", backbone).kill_when(tmp_path / "run/checkpoints" / f"step-00000{step}")
        assert checkpoint.newest(tmp_path / "run" / "checkpoints").name < "step-000006", "killed too late to tell"
    train(run_config(), tmp_path / "run", backbone=backbone, resume=True)
    same_run(tmp_path / "run", undisturbed)


@pytest.mark.slow
def test_thirty_kills_at_random_moments_change_nothing(undisturbed, backbone, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    kills = runs = 0
    whole = started(run_config(), tmp_path / "timed", backbone).seconds()
    while kills < 30:
        out = tmp_path / f"run-{runs}"
        while kills < 30 and not started(run_config(), out, backbone).kill_after(
            whole * torch.rand(1, generator=generator).item()
        ):
            kills += 1
        train(run_config(), out, backbone=backbone, resume=True)
        same_run(out, undisturbed)
        runs += 1


def test_a_crash_between_saving_a_checkpoint_and_marking_it_best_is_mended(backbone, tmp_path, monkeypatch) -> None:
    """The link is the last thing written; without it a resumed run would keep an older, worse checkpoint as best."""
    monkeypatch.setattr(session, "evaluate", rising)
    train(run_config(), tmp_path / "whole", backbone=backbone)
    crash_at("symlink", 3, run_config(), tmp_path / "run", backbone)
    assert (tmp_path / "run" / "best").resolve().name == "step-000002"
    assert checkpoint.newest(tmp_path / "run" / "checkpoints").name == "step-000004"
    train(run_config(train__steps=5), tmp_path / "run", backbone=backbone, resume=True)
    assert (tmp_path / "run" / "best").resolve().name in ("step-000004", "step-000005")


def rising(network, task, *_, **__):
    """Stands in for evaluation: better as long as the weights grow, which they do."""
    size = sum(p.detach().square().sum().item() for p in network.adapters.B.values())
    return measured(size)


@pytest.mark.slow
def test_a_crash_at_any_write_whatsoever_changes_nothing(undisturbed, backbone, tmp_path: Path) -> None:
    """Kills the process at its every call that makes a change on disk visible, one run for each."""
    config = run_config()
    total = crash_points(config, tmp_path / "counted", backbone)
    assert total > 50
    for n in range(1, total + 1, 2):
        crash_at("any", n, config, tmp_path / f"run-{n}", backbone)
        train(config, tmp_path / f"run-{n}", backbone=backbone, resume=True)
        same_run(tmp_path / f"run-{n}", undisturbed)


def test_a_run_with_a_critic_resumes_to_the_same_numbers(backbone, tmp_path: Path) -> None:
    """The critic's memory lies in the checkpoint."""
    config = run_config(train__estimator="critic")
    train(config, tmp_path / "whole", backbone=backbone)
    with pytest.raises(Stop):
        train(config, tmp_path / "run", backbone=backbone, on_step=stop_at(4))
    train(config, tmp_path / "run", backbone=backbone, resume=True)
    same_run(tmp_path / "run", tmp_path / "whole")
    lines = read_json_lines(tmp_path / "run" / "metrics.jsonl")
    assert lines[1]["value"] == 0
    assert all(0 < line["value"] < 1 for line in lines[2:])


def test_a_validation_reports_what_silencing_each_node_costs(undisturbed: Path, backbone, tmp_path: Path) -> None:
    checks = [line["validation"] for line in read_json_lines(undisturbed / "metrics.jsonl") if "validation" in line]
    assert all(c["silenced"]["nodes"].keys() == {"1.1"} and c["silenced"]["n"] == c["n"] for c in checks)
    train(run_config(train__steps=2, train__silence_questions=0), tmp_path / "run", backbone=backbone)
    assert all(
        "silenced" not in line["validation"] for line in read_json_lines(tmp_path / "run" / "metrics.jsonl")[::2]
    )


# -- divergence --------------------------------------------------------------------------------------------


def test_a_nan_stops_the_run_and_leaves_the_last_good_checkpoint_and_the_failing_batch(
    undisturbed, backbone, tmp_path, monkeypatch
) -> None:
    spoil(monkeypatch, step=4)
    with pytest.raises(DivergenceError, match=r"step 4.*failed-step-4\.json.*step-000003"):
        train(run_config(), tmp_path / "run", backbone=backbone)
    monkeypatch.undo()
    saved = json.loads((tmp_path / "run" / "failed-step-4.json").read_text())
    asked = Schedule(build(run_config(), backbone)[1].questions("train"), run_config()).questions(4)
    assert [t["question_id"] for t in saved["traces"]] == [q.id for q in asked for _ in range(4)]
    assert len(saved["traces"][0]["calls"]) == 2
    assert "not finite" in saved["error"]
    last, _, _ = load_run(tmp_path / "run", "last", backbone)
    assert all(torch.isfinite(p).all() for p in last.adapters.stacks())
    train(
        run_config(), tmp_path / "run", backbone=backbone, resume=True
    )  # the fault gone, the run goes on as if nothing was
    same_run(tmp_path / "run", undisturbed)


# -- schedule ----------------------------------------------------------------------------------------------


def test_every_epoch_asks_each_question_once_in_another_order() -> None:
    asked = FirstCharacter("", size=20).asked
    schedule = Schedule(asked, run_config(train__questions=4))
    epochs = [[q.id for step in range(e * 5 + 1, e * 5 + 6) for q in schedule.questions(step)] for e in range(3)]
    assert all(sorted(e) == sorted(q.id for q in asked) for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("balanced", [False, True])
def test_the_schedule_is_a_function_of_seed_and_step(balanced: bool) -> None:
    asked = build(run_config(), binary_backbone())[1].questions("train")
    make = lambda seed: Schedule(asked, run_config(seed=seed, train__balanced=balanced))
    ids = lambda schedule, step: [q.id for q in schedule.questions(step)]
    one = make(0)
    forward = [ids(one, step) for step in range(1, 60)]
    assert forward == [ids(make(0), step) for step in range(1, 60)]
    assert forward[::-1] == [ids(one, step) for step in range(59, 0, -1)]
    assert forward != [ids(make(1), step) for step in range(1, 60)]


def test_a_balanced_step_asks_equally_many_questions_of_each_answer() -> None:
    asked = FirstCharacter("", size=12).asked
    lopsided = [type(q)(q.id, q.text, "yes" if i < 9 else "no") for i, q in enumerate(asked)]
    schedule = Schedule(lopsided, run_config(train__questions=6, train__balanced=True))
    steps = [schedule.questions(step) for step in range(1, 7)]
    for step in steps:
        assert sorted(q.answer for q in step) == ["no"] * 3 + ["yes"] * 3
    for answer, size in (("yes", 9), ("no", 3)):
        of = [q.id for step in steps for q in step if q.answer == answer]
        for start in range(0, 18, size):
            assert len(set(of[start : start + size])) == size


def test_the_learning_rate_warms_up_as_said() -> None:
    rates = lambda **c: [learning_rate(run_config(**c), s) for s in range(1, 7)]
    constant = {"train__learning_rate": 1.0, "train__warmup": 4}
    assert rates(**constant) == [0.25, 0.5, 0.75, 1, 1, 1]
    assert rates(train__learning_rate=1.0, train__warmup=0) == [1] * 6
