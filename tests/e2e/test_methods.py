"""Trained baselines: each learns, trains the adapters it should, and resumes to the same numbers."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crashes import same_run
from helpers import FirstCharacter, as_saved, binary_backbone, make_backbone, run_config, unchanged
from neuromas import cli
from neuromas.baselines.trained.collm import CRITIC
from neuromas.baselines.trained.malt import ROLES
from neuromas.baselines.trained.team import Team
from neuromas.config import RunConfig
from neuromas.errors import CheckpointError, DivergenceError
from neuromas.files import read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.results import StepMetrics
from neuromas.run import checkpoint
from neuromas.run.build import build, load_run
from neuromas.run.checkpoint import Trained
from neuromas.run.final import evaluate_run, training_cost
from neuromas.run.folder import read_metrics
from neuromas.run.loop import train
from neuromas.run.method import method_of

METHODS = ("malt", "collm-cc")


def config_of(method: str, **changes: Any) -> RunConfig:
    """A run of seconds: MALT searches in steps 1 and 2, imitates in 3 and 4, prefers in 5 and 6."""
    small = {
        "malt": {"malt__search": 2, "malt__sft": 2, "malt__branching": 2, "malt__batch": 4},
        "collm-cc": {"collm__actors": 2},
    }
    return run_config(**{"method": method, "train__questions": 8, **small[method], **changes})


def run(config: RunConfig, out: Path, system: Trained, task: Any, watch: Any = lambda step, result: None) -> None:
    """The steps of a run without its folder."""
    method = method_of(config, out, system, task)
    optimizer = torch.optim.AdamW(checkpoint.parameters(system), betas=(0.9, 0.95), weight_decay=0.1)
    for step in range(1, config.train.steps + 1):
        optimizer.param_groups[0]["lr"] = method.rate(step)
        watch(step, method.step(optimizer, step, 0.0))


def sampled_reward(system: Trained, task: FirstCharacter) -> float:
    traces = system.answer(task.asked, greedy=False, rollouts=16, seed=9)
    asked = [q for q in task.asked for _ in range(16)]
    return sum(g.reward for g in task.grade_many(asked, [t.answer for t in traces])) / len(asked)


# -- learning ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, settings",
    [
        ("malt", {"malt__batch": 16, "malt__sft": 15}),
        ("malt", {"malt__batch": 16, "malt__sft": 0, "malt__dpo_scale": 1.0}),
        ("collm-cc", {"sampling__temperature": 1.0}),
    ],
    ids=["malt: sft", "malt: dpo", "collm-cc"],
)
def test_each_method_raises_the_reward_of_a_learnable_task(tmp_path: Path, method: str, settings: dict) -> None:
    config = config_of(method, train__learning_rate=3e-2, train__steps=17, **settings)
    system, task = build(config, binary_backbone())[0], FirstCharacter("1")
    before = sampled_reward(system, task)
    with unchanged(system.backbone.model):
        run(config, tmp_path, system, task)
    assert before < 0.4
    assert sampled_reward(system, task) > 0.9


def test_the_critic_learns_the_mean_reward(tmp_path: Path) -> None:
    class Always(FirstCharacter):
        def grade(self, question, text):
            return type(super().grade(question, text))(float(question.id in ("q0", "q1")), text[:1] or None)

    config = config_of("collm-cc", train__steps=30, train__learning_rate=3e-2)
    losses: list[float] = []
    system = build(config, make_backbone(seed=3))[0]
    run(config, tmp_path, system, Always(""), lambda step, result: losses.append(result.metrics.value_loss))
    assert losses[0] == pytest.approx(0.25), "V starts at 0, and a quarter of the questions pays 1"
    assert losses[-1] < 0.25 * 0.75 * 0.5, "better than half of what the best constant leaves"


# -- what is trained ---------------------------------------------------------------------------------------


def snapshot(system: Trained) -> dict[str, list[Tensor]]:
    bank = system.adapters
    return {name: [s.detach()[n].clone() for s in bank.stacks()] for n, name in enumerate(bank.names)}


def changed(one: dict[str, list[Tensor]], two: dict[str, list[Tensor]]) -> set[str]:
    return {name for name in one if any(not torch.equal(a, b) for a, b in zip(one[name], two[name], strict=True))}


def test_each_phase_of_malt_changes_the_adapters_of_its_roles_and_no_other(tmp_path: Path) -> None:
    """With momentum and weight decay, which would move an adapter without a gradient."""
    config = config_of("malt")
    system, task = build(config, binary_backbone())
    states, phases = [snapshot(system)], list[str]()

    def watch(step: int, result: Any) -> None:
        states.append(snapshot(system))
        phases.append(result.metrics.phase)

    run(config, tmp_path, system, task, watch)
    moved = [changed(a, b) for a, b in pairwise(states)]
    assert phases == ["search"] * 2 + ["sft"] * 2 + ["dpo"] * 2
    assert moved == [set(), set(), set(ROLES), set(ROLES), {"verifier", "refiner"}, {"verifier", "refiner"}]


def test_a_role_without_examples_stays_as_it_is_while_the_others_learn(tmp_path: Path) -> None:
    config = config_of("malt")
    system, task = build(config, binary_backbone())
    method = method_of(config, tmp_path, system, task)
    optimizer = torch.optim.AdamW(checkpoint.parameters(system), lr=0.1, weight_decay=0.1)
    for step in (1, 2, 3):
        method.step(optimizer, step, 0.0)
    before = snapshot(system)
    examples, _ = method._learned  # type: ignore[attr-defined]
    examples["verifier"] = []
    result = method.step(optimizer, 4, 0.0)
    assert changed(before, snapshot(system)) == {"generator", "refiner"}
    assert result.metrics.nodes.keys() == {"generator", "refiner"}


def test_a_step_of_collm_changes_every_actor_and_the_critic(tmp_path: Path) -> None:
    config = config_of("collm-cc", train__steps=2)
    system, task = build(config, binary_backbone())
    before = snapshot(system)
    run(config, tmp_path, system, task)
    assert changed(before, snapshot(system)) == {"actor 1", "actor 2", CRITIC}
    assert all(p.abs().max() > 0 for p in system.extras.values())  # type: ignore[union-attr]


def test_collm_replays_what_it_sampled_at_the_papers_temperature(tmp_path: Path) -> None:
    config, lines = config_of("collm-cc", sampling__temperature=0.6), list[dict[str, Any]]()
    system, task = build(config, binary_backbone())
    run(config, tmp_path, system, task, lambda step, result: lines.append(result.metrics.to_dict()))
    assert all(line["nodes"]["actor 1"]["gradient_norm"] > 0 for line in lines), "else nothing was replayed"
    assert max(line["logprob_gap"] for line in lines) < 1e-4


def test_the_dpo_reference_is_the_state_after_sft_computed_once(tmp_path: Path) -> None:
    config, lines = config_of("malt"), list[dict[str, Any]]()
    system, task = build(config, binary_backbone())
    run(config, tmp_path, system, task, lambda step, result: lines.append(result.metrics.to_dict()))
    first, second = (line["nodes"]["refiner"] for line in lines[-2:])
    assert json.loads((tmp_path / "reference.json").read_text()).keys() == {"verifier", "refiner"}
    assert first["margin"] == pytest.approx(0, abs=1e-5), "the first step starts from the reference"
    assert first["loss"] == pytest.approx(0.6931472, abs=1e-5)
    assert abs(second["margin"]) > 1e-4


def test_the_learning_rate_warms_up_in_each_phase_of_malt(tmp_path: Path) -> None:
    of_phases = {"malt__search": 2, "malt__sft": 4, "malt__dpo_scale": 0.5, "train__steps": 10}
    config = config_of("malt", train__learning_rate=1.0, train__warmup=2, **of_phases)
    method = method_of(config, tmp_path, *build(config, binary_backbone()))
    rising = [0.5, 1, 1, 1]
    assert [method.rate(step) for step in range(1, 11)] == [0, 0, *rising, *(x / 2 for x in rising)]


@pytest.mark.parametrize("method", METHODS)
def test_answers_are_graded_with_the_answer_prefix_in_front(tmp_path: Path, method: str) -> None:
    class Prefixed(FirstCharacter):
        def __init__(self) -> None:
            super().__init__("I")
            self.asked = [replace(q, answer_prefix="It is ") for q in self.asked]

    config = config_of(method)
    system, task = build(config, binary_backbone())[0], Prefixed()
    result = method_of(config, tmp_path, system, task).step(torch.optim.AdamW(checkpoint.parameters(system)), 1, 0.0)
    assert result.metrics.reward == 1.0


def test_the_optimiser_starts_anew_with_dpo(tmp_path: Path) -> None:
    config = config_of("malt")
    system, task = build(config, binary_backbone())
    method = method_of(config, tmp_path, system, task)
    optimizer = torch.optim.AdamW(checkpoint.parameters(system))
    updates: list[set[int]] = []
    for step in range(1, 7):
        method.step(optimizer, step, 0.0)
        updates.append({int(state["step"]) for state in optimizer.state.values()})
    assert updates == [set(), set(), {1}, {2}, {1}, {2}]


@pytest.mark.parametrize("method", METHODS)
def test_a_question_that_comes_round_again_is_sampled_anew(tmp_path: Path, method: str) -> None:
    config = config_of(method)
    system, task = build(config, make_backbone(seed=3))[0], FirstCharacter("", size=8)  # all questions in every step
    steps = method_of(config, tmp_path, system, task)
    optimizer = torch.optim.AdamW(checkpoint.parameters(system), lr=0.0, weight_decay=0.0)
    said = lambda step: {(t.question_id, *(c.text for c in t.calls)) for t in steps.step(optimizer, step, 0.0).traces}
    first, second = said(1), said(2)
    assert {q for q, *_ in first} == {q for q, *_ in second}
    assert not first & second


def test_trees_that_are_missing_are_noticed(tmp_path: Path, backbone: Backbone) -> None:
    train(config_of("malt", train__steps=4), tmp_path / "run", backbone=backbone)
    trees = tmp_path / "run" / "trees.jsonl"
    trees.write_text("".join(trees.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(CheckpointError, match="holds 15 trees, not 16"):
        train(config_of("malt"), tmp_path / "run", backbone=backbone, resume=True)


def test_a_nan_is_noticed_where_all_rewards_are_equal(tmp_path: Path) -> None:
    for method in METHODS:
        system = build(config_of(method), binary_backbone())[0]
        system.adapters.stacks()[0].data[0] = float("nan")
        steps = method_of(config_of(method), tmp_path, system, FirstCharacter(""))
        with pytest.raises(DivergenceError, match="step 1"):
            steps.step(torch.optim.AdamW(checkpoint.parameters(system)), 1, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_a_nan_weight_stops_the_run(tmp_path: Path, method: str) -> None:
    system, task = build(config_of(method), binary_backbone())
    steps = method_of(config_of(method), tmp_path, system, task)
    optimizer = torch.optim.AdamW(checkpoint.parameters(system))
    for step in (1, 2):
        steps.step(optimizer, step, 0.0)
    with torch.no_grad():
        system.adapters.stacks()[0][0, 0, 0] = float("nan")
    before = snapshot(system)
    with pytest.raises(DivergenceError, match="step 3"):
        steps.step(optimizer, 3, 0.0)
    for name, old in before.items():
        for a, b in zip(old, snapshot(system)[name], strict=True):
            assert torch.equal(a.nan_to_num(9.0), b.nan_to_num(9.0))


# -- run folders -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return binary_backbone()


@pytest.fixture(scope="module", params=METHODS)
def undisturbed(request: pytest.FixtureRequest, backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / request.param
    train(config_of(request.param), out, backbone=backbone)
    return out


def method_in(run_folder: Path) -> str:
    return json.loads((run_folder / "config.json").read_text())["method"]


class Stop(Exception):
    pass


@pytest.mark.parametrize("k, every", [(1, 1), (2, 4), (3, 1), (4, 1), (5, 1), (5, 4)])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    undisturbed: Path, backbone: Backbone, tmp_path: Path, k: int, every: int
) -> None:
    def stop(metrics: StepMetrics) -> None:
        if metrics.step == k:
            raise Stop

    config = config_of(method_in(undisturbed), train__checkpoint_every=every)
    with pytest.raises(Stop):
        train(config, tmp_path / "run", backbone=backbone, on_step=stop)
    train(config, tmp_path / "run", backbone=binary_backbone(), resume=True)
    same_run(tmp_path / "run", undisturbed)
    for file in ("trees.jsonl", "reference.json"):
        if (undisturbed / file).exists():
            assert (tmp_path / "run" / file).read_text() == (undisturbed / file).read_text()


def test_a_run_is_loaded_again_as_the_system_it_trained(undisturbed: Path, backbone: Backbone) -> None:
    last, task, config = load_run(undisturbed, "last", backbone)
    assert isinstance(last, Team)
    assert config == as_saved(config_of(method_in(undisturbed)))
    assert last.name == f"{undisturbed.name} (last)"
    fresh, _ = build(config, backbone)
    assert changed(snapshot(fresh), snapshot(last)) == set(last.adapters.names)
    asked = task.questions("test")[:4]
    calls = {"malt": 3, "collm-cc": 2}[config.method]
    assert [len(t.calls) for t in last.answer(asked)] == [calls] * 4
    assert last.trainable_parameters == calls * last.adapters.parameters_per_adapter


def test_a_run_of_one_method_is_not_continued_as_another(undisturbed: Path, backbone: Backbone) -> None:
    other = {"malt": "collm-cc", "collm-cc": "malt"}[method_in(undisturbed)]
    with pytest.raises(CheckpointError, match="method was"):
        train(config_of(other), undisturbed, backbone=backbone, resume=True)


def test_a_damaged_head_of_the_critic_is_named(backbone: Backbone, tmp_path: Path) -> None:
    train(config_of("collm-cc", train__steps=1), tmp_path / "run", backbone=backbone)
    for file in (tmp_path / "run").rglob("extras.safetensors"):
        file.write_bytes(b"no")
    with pytest.raises(CheckpointError, match="extras"):
        load_run(tmp_path / "run", "last", backbone)


def test_what_training_sampled_is_counted_by_the_formula(undisturbed: Path) -> None:
    cost = training_cost(read_metrics(undisturbed))
    if method_in(undisturbed) == "malt":  # 2 steps of 8 questions, trees of two children a node
        assert (cost.rollouts, cost.calls, cost.updates) == (2 * 8 * 8, 2 * 8 * (2 + 4 + 8), 4)
        trees = read_json_lines(undisturbed / "trees.jsonl")
        assert cost.generated_tokens == sum(len(c[3]) for t in trees for c in t["calls"])
        assert cost.prompt_tokens == sum(len(c[1]) + len(c[2]) for t in trees for c in t["calls"])
    else:  # 6 steps of 8 questions, 4 joint answers of 2 actors each
        assert (cost.rollouts, cost.calls, cost.updates) == (6 * 8 * 4, 6 * 8 * 4 * 2, 6)
    assert cost.generated_tokens > 0


def test_the_test_figures_say_how_many_calls_and_what_training_cost(
    undisturbed: Path, backbone: Backbone, tmp_path: Path
) -> None:
    config = config_of(method_in(undisturbed))
    system, task = train(config, tmp_path / "run", backbone=backbone)
    final = evaluate_run(tmp_path / "run", system, task, 4)
    assert final.training == training_cost(read_metrics(tmp_path / "run"))
    rows = [(r.calls, r.votes, r.decoding) for r in final.results if r.checkpoint == "best"]
    if config.method == "malt":
        assert rows == [(3, None, "greedy"), (3, None, "sampled"), (9, 3, "sampled")]
    else:
        assert rows == [(2, None, "greedy"), (2, None, "sampled")]
    assert (tmp_path / "run" / "curve.png").is_file()


@pytest.mark.parametrize("method", METHODS)
def test_the_command_line_trains_evaluates_and_asks(tmp_path: Path, method: str, capsys: Any) -> None:
    recipe, out = tmp_path / "r.toml", tmp_path / "run"
    recipe.write_text(
        f'method = "{method}"\n[task]\noptions = {{depth = 1, train_size = 32, validation_size = 8, test_size = 8}}\n'
        "[sampling]\nmessage_tokens = 4\nanswer_tokens = 4\n"
        + {"malt": "[malt]\nsearch = 1\nsft = 1\nbranching = 2\n", "collm-cc": "[collm]\nactors = 3\n"}[method]
        + "[train]\nsteps = 3\nquestions = 2\nrollouts = 2\nvalidation_questions = 4\n"
    )
    cli.main(["train", str(recipe), "--out", str(out), "--threads", "1", "--test-limit", "4"])
    cli.main(["eval", str(out), "--json", str(tmp_path / "one.json")])
    cli.main(["eval", str(out), "--votes", "3", "--json", str(tmp_path / "three.json")])
    one, three = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("one", "three"))
    assert (one["calls"], three["calls"]) == (3, 9)
    assert "vote of 3" in three["system"]
    cli.main(["ask", str(out), "1+1"])
    assert "answer" in capsys.readouterr().out
    assert load_run(out)[2].method == method
