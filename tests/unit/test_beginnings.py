"""Ways to begin: an adapter made elsewhere, right rollouts imitated, easier questions; and the report before step 1."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import neuromas
from helpers import (
    FirstCharacter,
    binary_backbone,
    forward,
    make_backbone,
    make_network,
    plain_model,
    questions,
    run_config,
)
from neuromas.cli.training import TrainingView
from neuromas.config import TrainConfig
from neuromas.errors import CheckpointError, NeuromasError
from neuromas.files import write_json_lines
from neuromas.network.backbone import Backbone
from neuromas.network.turns import asks_of
from neuromas.run.build import build, fill_adapters, load_run
from neuromas.run.final import evaluate_run
from neuromas.run.folder import read_metrics, saved_config
from neuromas.run.grow import grow_run
from neuromas.run.loop import train
from neuromas.run.method import staged_task, training_questions
from neuromas.run.stages import stages_of
from neuromas.run.start import began, summary
from neuromas.tasks import load_task
from neuromas.train.init import fill
from neuromas.train.optimizer import NodeAdamW
from neuromas.train.schedule import Schedule
from neuromas.train.selection import Selection
from neuromas.train.step import train_step
from neuromas.train.warm import Pool, imitate, right_ones
from neuromas.types import Grade, Question

peft = pytest.importorskip("peft")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return binary_backbone()


def lora(folder: Path, **settings: Any) -> Any:
    """Write a PEFT folder with random weights for the backbone of `make_network`; returns PEFT's model."""
    chosen: dict[str, Any] = {"r": 2, "lora_alpha": 5, "target_modules": ["q_proj", "v_proj"]} | settings
    config = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **chosen)
    model = peft.get_peft_model(plain_model(), config).eval()
    model.save_pretrained(folder)
    return model


# -- an adapter made elsewhere ------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"r": 4}, {"target_modules": ["o_proj"]}])
def test_a_node_that_begins_with_a_peft_folder_says_what_peft_says(tmp_path: Path, settings: dict[str, Any]) -> None:
    model = lora(tmp_path, **settings)
    network = make_network("single", noise=0, rank=4, alpha=3.0)
    untrained = forward(network, questions(3), rollouts=2, seed=0)
    fill(network.adapters, "out", tmp_path)
    for trace in forward(network, questions(3), rollouts=2, seed=0):
        (call,) = trace.calls
        prompt = call.prefix_ids + call.own_ids
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + call.completion_ids])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1)[range(len(call.completion_ids)), call.completion_ids]
        assert call.logprobs == pytest.approx(expected.tolist(), abs=1e-5)
    assert forward(network, questions(3), rollouts=2, seed=0)[0].calls[0].logprobs != untrained[0].calls[0].logprobs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r": 8}, r"has rank 8, and adapter.rank is 4; set it to 8"),
        ({"target_modules": ["q_proj", "up_proj"]}, r"add \['up_proj'\] to adapter.targets"),
        ({"use_dora": True}, r"use_dora = True, which a node cannot compute"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save = \['lm_head'\]"),
    ],
)
def test_an_adapter_that_does_not_fit_is_told_with_a_remedy(tmp_path: Path, settings: Any, message: str) -> None:
    lora(tmp_path, **settings)
    with pytest.raises(CheckpointError, match=message):
        fill(make_network("single", rank=4).adapters, "out", tmp_path)


def test_a_folder_without_safetensors_or_of_another_backbone_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be read .* as PEFT's save_pretrained writes it"):
        fill(make_network("single").adapters, "out", tmp_path)
    lora(tmp_path)
    with pytest.raises(CheckpointError, match="was made for another backbone"):
        fill(make_network("single", rank=3, backbone=make_backbone(hidden_size=64)).adapters, "out", tmp_path)


@pytest.mark.parametrize("tied", [False, True])
def test_every_node_or_the_named_ones_begin_with_the_adapter_and_the_run_says_so(backbone, tmp_path, tied) -> None:
    lora(tmp_path / "lora")
    folder = str(tmp_path / "lora")
    config = run_config(adapter__init_from=folder, adapter__tied=tied, train__steps=1, train__learning_rate=1e-9)
    network, task = train(config, tmp_path / "run", backbone=backbone)
    plain, _ = build(run_config(adapter__tied=tied), backbone)
    for n in range(len(network.adapters.names)):
        for key in network.adapters.shapes:
            mine, untrained = (bank.pair(key)[0][n] for bank in (network.adapters, plain.adapters))
            assert torch.equal(mine, untrained) == ("o_proj" in key or "k_proj" in key)
    final = evaluate_run(tmp_path / "run", network, task, limit=8)
    assert final.began == f"every node from the adapter {folder}"
    assert final.results[0].accuracy == final.results[2].accuracy, "the row untrained begins as the run did"


def test_named_nodes_alone_begin_with_an_adapter(backbone, tmp_path: Path) -> None:
    lora(tmp_path)
    config = run_config(adapter__init_from={"out": str(tmp_path)})
    network, _ = build(config, backbone)
    fill_adapters(config, network)
    key = next(key for key in network.adapters.shapes if "q_proj" in key)
    _, B = network.adapters.pair(key)
    assert [bool(B[network.adapters.index[node]].any()) for node in ("1.1", "out")] == [False, True]
    with pytest.raises(NeuromasError, match=r"names 9.9, and the adapters are 1.1, out"):
        fill_adapters(run_config(adapter__init_from={"9.9": str(tmp_path)}), network)


# -- the report before the first update ---------------------------------------------------------------------


def test_a_run_reports_what_it_starts_from_and_trains_as_without_the_report(backbone, tmp_path: Path) -> None:
    seen: list[Any] = []
    config = run_config(train__start_questions=3, train__steps=2)
    train(config, tmp_path / "with", backbone=backbone, on_start=seen.append)
    train(run_config(train__steps=2), tmp_path / "without", backbone=backbone, on_start=seen.append)
    (start,) = seen
    said = json.loads((tmp_path / "with" / "start.json").read_text())
    assert said == start.to_dict() and not (tmp_path / "without" / "start.json").exists()
    assert (start.n, start.rollouts, len(start.samples)) == (3, 4, 3)
    assert start.all_wrong + start.mixed + start.all_right == pytest.approx(1)
    assert start.calls == 3 * 5 * 2 and 0 < start.parse_rate < 1
    lines = [[json.loads(line) for line in (tmp_path / run / "metrics.jsonl").open()] for run in ("with", "without")]
    assert [{**line, "seconds": 0} for line in lines[0]] == [{**line, "seconds": 0} for line in lines[1]]
    network, task = train(config, tmp_path / "with", backbone=backbone, resume=True)
    assert evaluate_run(tmp_path / "with", network, task, 4).start == start


@pytest.mark.parametrize(
    ("groups", "shares", "advice"),
    [
        ([[0, 0], [0, 0]], (1.0, 0.0, 0.0), "0% of 2 questions have a right rollout"),
        ([[1, 1], [1, 1]], (0.0, 0.0, 1.0), "are all right already"),
        ([[0, 1], [0, 0]], (0.5, 0.5, 0.0), None),
        ([[0.5, 0.5], [1, 1]], (0.0, 0.5, 0.5), None),
    ],
)
def test_the_report_tells_opposite_states_apart(groups: list[list[float]], shares: Any, advice: str | None) -> None:
    config = run_config(train__rollouts=2)
    traces = [forward(make_network("1"), [question], rollouts=3, seed=0) for question in questions(len(groups))]
    grades = [[Grade(reward, "7") for reward in (0, *group)] for group in groups]
    found = summary(config, list(zip(questions(len(groups)), traces, grades, strict=True)), 1.0)
    assert (found.all_wrong, found.mixed, found.all_right) == shares
    others = [text for text in found.advice if "cut off" not in text]
    assert [advice in text for text in others] == ([] if advice is None else [True])


@pytest.mark.parametrize(
    ("cut", "rewards", "advised"), [(2, [0, 0, 0], True), (1, [0, 0, 0], False), (3, [1, 1, 1], False)]
)
def test_answers_that_their_limit_cuts_off_are_told_where_few_are_right(
    cut: int, rewards: list[int], advised: bool
) -> None:
    """A chat model says "The answer is 15" where there is room for a number only."""
    traces = forward(make_network("1"), questions(1), rollouts=3, seed=0)
    for at, trace in enumerate(traces):
        trace.calls[-1].truncated = at < cut
    answered = [(questions(1)[0], traces, [Grade(reward, "7") for reward in rewards])]
    found = summary(run_config(train__rollouts=2), answered, 1.0)
    assert found.answers_cut == cut / 3 and f"{cut / 3:.0%} of the answers cut off" in str(found)
    assert any("answer_prefix" in text for text in found.advice) == advised


def test_the_terminal_shows_the_report_with_markup_and_control_characters_disarmed(capsys) -> None:
    trace = forward(make_network("1"), questions(1), rollouts=3, seed=0)
    trace[1].calls[0].text = "[bold]hi\x1b[2J"
    found = summary(run_config(train__rollouts=2), [(questions(1)[0], trace, [Grade(0, None)] * 3)], 1.0)
    with TrainingView(3) as view:
        view.begins(found)
    shown = " ".join(capsys.readouterr().out.split())
    assert "[bold]hi\N{REPLACEMENT CHARACTER}[2J" in shown and "\x1b[2J" not in shown
    assert "groups all wrong 100%" in shown and "adapter.init_from" in shown


def test_a_program_is_told_too_where_its_bar_is_shown(backbone, tmp_path: Path, capsys) -> None:
    config = run_config(train__start_questions=3, train__steps=1)
    run = neuromas.train(config, backbone=backbone, out=tmp_path / "run", progress=True)
    shown = capsys.readouterr().err
    assert run.start is not None and str(run.start) in shown and f"warning: {run.start.advice[0]}" in shown


# -- from a smaller network ---------------------------------------------------------------------------------


def test_a_single_model_grows_into_a_network_that_begins_with_what_it_learned(backbone, tmp_path: Path) -> None:
    train(run_config(topology="single", train__steps=2), tmp_path / "single", backbone=backbone)
    grow_run(tmp_path / "single", {"topology": "1", "anneal": 1}, tmp_path / "two", steps=2, backbone=backbone)
    small, *_ = load_run(tmp_path / "single", "last", backbone)
    begun, *_ = load_run(tmp_path / "two", "last", backbone)
    at = [network.adapters.index["out"] for network in (small, begun)]
    for key in small.adapters.shapes:
        assert torch.equal(small.adapters.pair(key)[1][at[0]], begun.adapters.pair(key)[1][at[1]])
    config = saved_config(tmp_path / "two")
    network, task = train(config, tmp_path / "two", resume=True, backbone=backbone)
    assert network.topology.name == "1"
    final = evaluate_run(tmp_path / "two", network, task, limit=4)
    assert final.began == "grown from the run single after step 2"


# -- a warm start -------------------------------------------------------------------------------------------


def test_a_warm_start_imitates_the_right_rollouts_of_all_its_steps_each_question_alike(tmp_path: Path) -> None:
    network = make_network("1")
    rollouts = network.forward(asks_of(questions(2), 3, 0, network.decoding))
    pool = Pool(tmp_path / "right.jsonl")
    pool.add(1, right_ones(rollouts[:3], [1, 0, 1]), 0.6)
    pool.add(2, right_ones(rollouts[3:], [0, 1, 0]), 0.3)
    rows = pool.batch(9)
    assert [weight for _, weight in rows] == [0.25] * 4 + [0.5] * 2, "two nodes a rollout; three rollouts"
    assert Pool(tmp_path / "right.jsonl", write=False).batch(9) == rows and pool.best == 0.6
    assert {utterance.node for utterance, _ in pool.batch(1)} == {"1.1", "out"} and len(pool.batch(1)) == 2

    imitate(network, rows, 40, 2, [])  # in several passes
    found = [stack.grad.clone() for stack in network.adapters.stacks() if stack.grad is not None]
    network.adapters.zero_grad()
    calls = [r.calls[node] for r in (rollouts[0], rollouts[2], rollouts[4]) for node in ("1.1", "out")]
    logprobs = network.replay(calls)
    (-sum(weight * part.sum() for (_, weight), part in zip(rows, logprobs, strict=True))).backward()
    for mine, stack in zip(found, network.adapters.stacks(), strict=True):
        torch.testing.assert_close(mine, stack.grad, atol=1e-5, rtol=1e-3)


def test_a_warm_start_ends_when_it_is_good_enough_and_goes_on_where_it_was_stopped(backbone, tmp_path: Path) -> None:
    config = run_config(train__warm_start=4, train__steps=5, train__warm_start_until=0.99)
    train(config, tmp_path / "whole", backbone=backbone)
    lines = read_metrics(tmp_path / "whole")
    assert [m.estimator for m in lines[1:]] == ["self_distillation"] * 4 + ["leave_one_out"]
    until = max(m.reward or 0 for m in lines[1:3])
    train(run_config(train__steps=2, train__warm_start=4), tmp_path / "cut", backbone=backbone)
    train(run_config(train__steps=5, train__warm_start=4), tmp_path / "cut", backbone=backbone, resume=True)
    assert [m.reward for m in read_metrics(tmp_path / "cut")] == [m.reward for m in lines]
    early = run_config(train__warm_start=4, train__steps=4, train__warm_start_until=until)
    train(early, tmp_path / "early", backbone=backbone)
    last = next(m.step for m in lines if (m.reward or 0) >= until)
    kinds = [m.estimator for m in read_metrics(tmp_path / "early")][1:]
    assert kinds == ["self_distillation"] * last + ["leave_one_out"] * (4 - last)
    tokens = sum(m.generated_tokens or 0 for m in lines[1:5])
    assert "warm start of 4 steps on" in (said := began(config, lines, [])) and f"({tokens:,} tokens sampled)" in said


# -- questions ----------------------------------------------------------------------------------------------


def test_solved_questions_are_left_out_until_all_are_and_a_resumed_selection_asks_the_same(tmp_path: Path) -> None:
    asked, config = questions(6), run_config(train__questions=2)
    selection = Selection(Schedule(asked, config), 2, tmp_path / "visits.jsonl", start=0)
    plain = Schedule(asked, config)
    seen: list[str] = []
    for step in range(1, 13):
        chosen = selection.next(2)
        seen += [q.id for q in chosen]
        selection.done(step, [(q.id, q.id in ("q0", "q1")) for q in chosen])
        if step == 3:
            assert seen == [q.id for s in (1, 2, 3) for q in plain.questions(s)], "nothing is solved yet"
    assert all(seen.count(id) == 2 for id in ("q0", "q1")), "twice all right, then never again"
    again = Selection(Schedule(asked, config), 2, tmp_path / "visits.jsonl", start=0, write=False)
    assert [q.id for q in again.next(4)] == [q.id for q in selection.next(4)]
    for step in range(13, 40):
        selection.done(step, [(q.id, True) for q in selection.next(2)])
    assert len(selection.next(6)) == 6, "all solved: all are asked"


def test_questions_without_a_right_rollout_are_joined_by_others_which_all_count(tmp_path: Path) -> None:
    network, others = make_network("1"), questions(20)[8:]
    drawn: list[int] = []

    def more(count: int) -> list[Question]:
        drawn.append(count)
        return [others.pop(0) for _ in range(count)]

    optimizer = NodeAdamW(network.adapters)
    config = TrainConfig(rollouts=3, resample=2)
    task = FirstCharacter("".join(map(chr, range(60))))
    done = train_step(network, optimizer, task, questions(4), config, step=1, seed=0, more=more)
    groups = [done.grades[i : i + 3] for i in range(0, len(done.grades), 3)]
    wrong = [all(g.reward == 0 for g in group) for group in groups]
    assert drawn == [sum(wrong[:4]), sum(wrong[4 : 4 + drawn[0]])] and 0 < drawn[0] < 4
    assert done.metrics.rollouts == 3 * (4 + sum(drawn)) and done.metrics.wrong_groups == sum(wrong) / len(wrong)
    alone = train_step(network, optimizer, task, questions(4), config, step=1, seed=0)
    assert alone.metrics.rollouts == 12, "nobody gives more"


def test_a_run_with_both_filters_is_resumed_to_the_same_numbers(backbone, tmp_path: Path) -> None:
    filters = {"train__drop_solved": 1, "train__resample": 1}
    train(run_config(**filters), tmp_path / "whole", backbone=backbone)
    train(run_config(train__steps=3, **filters), tmp_path / "cut", backbone=backbone)
    train(run_config(**filters), tmp_path / "cut", backbone=backbone, resume=True)
    whole, cut = (read_metrics(tmp_path / run) for run in ("whole", "cut"))
    assert [(m.reward, m.rollouts) for m in whole] == [(m.reward, m.rollouts) for m in cut]
    assert max(m.rollouts or 0 for m in whole) > 16
    with pytest.raises(NeuromasError, match="train.resample asks further questions"):
        run_config(**filters).check_workers(2)


def own_task(folder: Path, name: str, rows: list[dict[str, Any]], **settings: Any) -> str:
    write_json_lines(folder / f"{name}.jsonl", rows)
    said = {"data": f"{name}.jsonl", "test_size": 8, "validation_size": 8, "max_answer_tokens": 2} | settings
    (folder / f"{name}.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items()))
    return str(folder / f"{name}.toml")


def test_a_stage_trains_on_easier_rows_or_another_task_and_never_on_what_is_tested(backbone, tmp_path: Path) -> None:
    rows = [{"question": f"{a}+{b}", "answer": str((a + b) % 2), "hard": a} for a in range(8) for b in range(8)]
    whole = own_task(tmp_path, "whole", rows, difficulty="hard")
    easy = own_task(tmp_path, "easy", rows[:40], seed=1)
    stages = [{"options": {"hardest": 2}, "steps": 1}, {"task": easy, "promote": 0.01, "window": 1, "steps": 2}, {}]
    config = run_config(task__name=whole, task__options={}, stages=stages, train__steps=4, train__questions=8)
    _, task = train(config, tmp_path / "run", backbone=backbone)
    parts = stages_of(config)
    first, second = (training_questions(staged_task(config, stage) or task, task) for stage in parts[:2])
    assert {q.metadata["difficulty"] for q in first} == {0, 1, 2} and len(task.questions("train")) > len(first) > 8
    held = {q.text for split in ("validation", "test") for q in task.questions(split)}
    assert {q.text for q in load_task(easy).questions("train")} & held, "else nothing would have to be left out"
    assert second and not {q.text for q in [*first, *second]} & held
    assert [m.stage for m in read_metrics(tmp_path / "run")[1:]] == [0, 1, 2, 2]
    assert began(config, [], []) == "questions of their own in stages 0, 1 of 3"
    with pytest.raises(NeuromasError, match="hardest is -1, and the easiest row to train on has 0"):
        load_task(whole, hardest=-1).questions("train")
    with pytest.raises(NeuromasError, match="name the column with the numbers"):
        load_task(easy, hardest=1)
