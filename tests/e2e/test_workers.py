"""Several workers make one run: the same update, the same figures, errors in common, and nothing but gradients sent."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed

from helpers import FirstCharacter, binary_backbone, make_backbone, make_network, questions, run_config
from neuromas.config import TrainConfig
from neuromas.errors import CheckpointError, ConfigError, TaskError
from neuromas.evaluate.run import evaluate
from neuromas.files import read_json_lines
from neuromas.network.backbone import Backbone
from neuromas.run import checkpoint
from neuromas.run.final import evaluate_run
from neuromas.run.folder import flat
from neuromas.run.loop import train
from neuromas.train.step import train_step
from neuromas.types import Grade
from neuromas.workers import ALONE, Workers
from parallel import together

HALF = "".join(map(chr, range(64)))
ROUNDING = 1e-5  # of the largest entry of a gradient: sums are formed in another order
DRIFT = 1e-4  # of the largest entry of a tensor, and of a figure, after some steps of AdamW, which divides by gradients


@pytest.fixture(autouse=True, scope="module")
def products_that_round_alike() -> Iterator[None]:
    """oneDNN's products, which earlier tests may have chosen, round by the number of rows; AdamW magnifies that."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return binary_backbone()


def tensors(run: Path) -> dict[str, torch.Tensor]:
    """Adapters and the optimiser's moments of a run's last checkpoint."""
    newest = checkpoint.newest(run / "checkpoints")
    assert newest is not None
    files = sorted(newest.rglob("*.safetensors"))
    return {f"{file.relative_to(newest)}|{k}": v for file in files for k, v in load_file(file).items()}


def figures(run: Path) -> list[dict[str, float]]:
    lines = [flat(line) for line in read_json_lines(run / "metrics.jsonl")]
    return [{k: v for k, v in line.items() if not k.startswith("seconds")} for line in lines]


def same_up_to_rounding(one: Path, other: Path) -> None:
    mine, theirs = tensors(one), tensors(other)
    assert mine.keys() == theirs.keys()
    for key, value in theirs.items():
        assert (mine[key] - value).abs().max() <= DRIFT * value.abs().max(), key
    assert len(figures(one)) == len(figures(other))
    for line, expected in zip(figures(one), figures(other), strict=True):
        assert line == pytest.approx(expected, rel=DRIFT, abs=DRIFT)
    samples = [[r["trace"]["answer"] for r in read_json_lines(run / "samples.jsonl")] for run in (one, other)]
    assert samples[0] == samples[1]


# -- one run, however many make it -------------------------------------------------------------------------

RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "warm start": {"train__warm_start": 3, "train__drop_solved": 1, "train__start_questions": 3},
    "every option": {
        "topology": "1-1+skip", "train__estimator": "running_mean", "train__kl": 0.05, "train__entropy": 0.01,
        "train__weight_decay": 0.1, "train__node_dropout": 0.3, "train__balanced": True,
        "train__micro_tokens": 100,
    },
    "critic": {"train__estimator": "critic"},
    "counterfactual": {"topology": "2", "train__estimator": "counterfactual"},
    "difference": {"topology": "2", "train__estimator": "difference"},
    "growth": {
        "stages": [{"steps": 2, "promote": 0.01, "window": 1}, {"topology": "2", "anneal": 2, "freeze": 1}],
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "name, size",
    [
        *(pytest.param(name, 2, marks=[] if name in ("every option", "growth") else pytest.mark.slow) for name in RUNS),
        ("plain", 3),
    ],
)
def test_a_run_by_workers_is_that_of_one_process(name: str, size: int, backbone: Backbone, tmp_path: Path) -> None:
    config = run_config(train__steps=4, **RUNS[name])
    train(config, tmp_path / "one", backbone=backbone)
    together(size, lambda workers: train(config, tmp_path / "many", backbone=backbone, workers=workers) and None)
    same_up_to_rounding(tmp_path / "many", tmp_path / "one")


def test_a_run_goes_on_with_more_workers_or_with_fewer(backbone: Backbone, tmp_path: Path) -> None:
    train(run_config(), tmp_path / "one", backbone=backbone)
    run = tmp_path / "changing"
    for steps, size in ((2, 2), (3, 1), (5, 4), (6, 1)):
        config = run_config(train__steps=steps)
        begun = run.exists()
        together(size, lambda w, c=config, b=begun: train(c, run, resume=b, backbone=backbone, workers=w) and None)
    same_up_to_rounding_but_for_validations(run, tmp_path / "one")


def same_up_to_rounding_but_for_validations(one: Path, other: Path) -> None:
    """Each of the shorter runs validated at its own end."""
    mine, theirs = tensors(one), tensors(other)
    for key, value in theirs.items():
        assert (mine[key] - value).abs().max() <= DRIFT * value.abs().max(), key
    plain = lambda run: [{k: v for k, v in line.items() if "validation" not in k} for line in figures(run)]
    for line, expected in zip(plain(one), plain(other), strict=True):
        assert line == pytest.approx(expected, rel=DRIFT, abs=DRIFT)


def test_the_test_figures_of_workers_are_those_of_one_process(backbone: Backbone, tmp_path: Path) -> None:
    def whole(out: Path, workers: Workers) -> Any:
        network, task = train(run_config(train__steps=2), out, backbone=backbone, workers=workers)
        return evaluate_run(out, network, task, workers=workers).results

    alone = whole(tmp_path / "one" / "run", ALONE)
    two = together(2, lambda workers: whole(tmp_path / "two" / "run", workers))
    assert two[0] == two[1] == alone
    answers = [read_json_lines(tmp_path / n / "run" / "answers.jsonl") for n in ("one", "two")]
    assert answers[0] == answers[1] != []


def test_only_the_first_worker_writes(backbone: Backbone, tmp_path: Path) -> None:
    """The second has a folder of its own, in which nothing appears."""
    folder = lambda workers: tmp_path / f"{workers.rank}"
    config = run_config(train__steps=2)
    together(2, lambda workers: train(config, folder(workers), backbone=backbone, workers=workers) and None)
    assert (tmp_path / "0" / "metrics.jsonl").exists()
    assert not (tmp_path / "1").exists()


# -- one step ----------------------------------------------------------------------------------------------


class Alternating(FirstCharacter):
    """Rewards 1, 0, 1, 0 … for the rollouts of the questions `ids`, 1 for all others."""

    def __init__(self, *ids: str) -> None:
        super().__init__("")
        self.ids, self.graded = ids, 0

    def grade(self, question, text):
        self.graded += question.id in self.ids
        return Grade(float(question.id not in self.ids or self.graded % 2), text[:1])


def a_step(workers: Workers, *ids: str, **settings: Any) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
    """Adapters after a step of AdamW, and the clipped gradients it was made of."""
    network = make_network("2")
    optimizer = torch.optim.AdamW(network.adapters.stacks(), lr=1e-3)
    config = TrainConfig(**({"questions": 4, "rollouts": 4} | settings))
    train_step(network, optimizer, Alternating(*ids), questions(4), config, step=1, seed=0, workers=workers)
    return [p.detach() for p in network.adapters.stacks()], [p.grad for p in network.adapters.stacks()]


@pytest.mark.parametrize("ids", [("q0", "q1", "q2", "q3"), ("q3",)], ids=["both learn", "one worker learns"])
def test_the_update_of_workers_is_that_of_one_process_also_where_one_has_no_gradient(ids: tuple[str, ...]) -> None:
    _, alone = a_step(ALONE, *ids)
    (one, gradients), (two, _) = together(2, lambda workers: a_step(workers, *ids))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True)), "workers must hold the same bits"
    for mine, expected in zip(gradients, alone, strict=True):
        assert mine is not None
        assert expected is not None
        assert (mine - expected).abs().max() <= ROUNDING * expected.abs().max()
        assert expected.abs().max() > 0


def test_where_nobody_has_a_gradient_no_adapter_gets_one() -> None:
    assert all(g is None for _, gradients in [a_step(ALONE), *together(2, a_step)] for g in gradients)


def test_a_question_asked_twice_gets_the_rollouts_it_gets_from_one_process() -> None:
    def step(workers: Workers) -> Any:
        network, asked = make_network("2"), questions(1) * 4
        optimizer = torch.optim.AdamW(network.adapters.stacks())
        config = TrainConfig(questions=4, rollouts=2)
        return train_step(
            network, optimizer, FirstCharacter(HALF), asked, config, step=1, seed=0, workers=workers
        ).traces

    answers = lambda traces: [(t.rollout, t.answer) for t in traces]
    assert answers([t for traces in together(2, step) for t in traces]) == answers(step(ALONE))


def test_what_workers_send_is_one_buffer_of_the_adapters_and_figures_that_do_not_grow_with_the_tokens() -> None:
    def counted(workers: Workers, rollouts: int) -> tuple[list[int], int]:
        sums, objects = [], []
        reduce, gather = distributed.all_reduce, distributed.all_gather_object
        distributed.all_reduce = lambda x, *a, **k: (sums.append(x.numel() * x.element_size()), reduce(x, *a, **k))[1]
        distributed.all_gather_object = lambda to, x: (objects.append(len(pickle.dumps(x))), gather(to, x))[1]
        a_step(workers, "q0", rollouts=rollouts)
        distributed.all_reduce, distributed.all_gather_object = reduce, gather
        return sums, sum(objects)

    adapters = make_network("2").adapters
    for few, many in zip(*(together(2, lambda w, g=g: counted(w, g)) for g in (4, 32)), strict=True):
        assert few[0] == many[0] == [4 * adapters.trainable_parameters]
        rewards = 8 * 2 * (32 - 4)  # the only thing sent of each rollout, beside new answers
        assert many[1] - few[1] < rewards + 1000


# -- errors ------------------------------------------------------------------------------------------------


class Broken(FirstCharacter):
    def grade(self, question, text):
        if question.id == "q3":
            raise TaskError("q3 cannot be graded")
        return super().grade(question, text)


def test_an_error_of_one_worker_is_that_of_all_before_anything_changes() -> None:
    def step(workers: Workers) -> Any:
        network = make_network("2")
        before = [p.detach().clone() for p in network.adapters.stacks()]
        optimizer, config = torch.optim.AdamW(network.adapters.stacks()), TrainConfig(questions=4, rollouts=4)
        with pytest.raises(TaskError, match="q3 cannot be graded"):
            train_step(network, optimizer, Broken(HALF), questions(4), config, step=1, seed=0, workers=workers)
        return all(torch.equal(a, b) for a, b in zip(before, network.adapters.stacks(), strict=True))

    assert together(2, step) == [True, True]


def test_a_folder_that_may_not_be_continued_is_refused_by_all_workers(backbone: Backbone, tmp_path: Path) -> None:
    config = run_config(train__steps=2)
    train(config, tmp_path / "run", backbone=backbone)
    found = together(2, lambda workers: train(config, tmp_path / "run", backbone=backbone, workers=workers))
    assert all(isinstance(error, CheckpointError) and "already holds a run" in str(error) for error in found)


@pytest.mark.parametrize(
    "workers, changes, message",
    [
        (5, {}, "--workers is 5, but workers share the questions of a step, and train.questions is 4"),
        (0, {}, "choose 1 to 4"),
        (2, {"method": "malt", "train__steps": 80}, "method 'malt' trains in one process"),
    ],
)
def test_workers_that_cannot_share_a_run_are_refused(workers: int, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_config(**changes).check_workers(workers)


# -- shares ------------------------------------------------------------------------------------------------


def test_the_shares_are_the_whole_in_order_and_differ_by_one_at_most() -> None:
    for n in range(20):
        for size in range(1, 8):
            shares = [list(Workers(rank, size).share(range(n))) for rank in range(size)]
            assert [item for share in shares for item in share] == list(range(n))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_an_evaluation_with_fewer_questions_than_workers_is_whole() -> None:
    task = FirstCharacter(HALF, size=2)
    network = make_network("1", make_backbone())
    alone = evaluate(network, task, "test").records
    assert together(3, lambda workers: evaluate(network, task, "test", workers=workers).records) == [alone] * 3
