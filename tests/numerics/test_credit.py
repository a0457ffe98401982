"""Credit: estimators that tell nodes apart, on a network small enough to enumerate, and the wiring on a real one.

Two hidden nodes say one of two messages each; the output reads both and gives one of three answers. All that a step
can draw is listed with its probability: the messages, an alternative to each, and the output's random number u, which
a branch shares with its rollout. u is cut where any context's answer changes, so the intervals are exact.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import FirstCharacter, binary_backbone, make_backbone, make_network, questions
from neuromas.config import TrainConfig
from neuromas.errors import ConfigError
from neuromas.network.forward import Limits, Network
from neuromas.network.generate import replay
from neuromas.network.packed import Group
from neuromas.network.prompt import Prompt
from neuromas.tasks.base import Task
from neuromas.train import critic, objectives
from neuromas.train.step import train_step
from neuromas.types import Grade, Message

TABLE = Path(__file__).parents[2] / "docs" / "estimators.md"
F64 = torch.float64
A, B, OUT = range(3)


@dataclass(frozen=True)
class Outcome:
    """One way a rollout and its branches can come out."""

    chance: float
    said: tuple[int, int, int]  # messages of a and b, and the answer
    reward: float
    without: tuple[float, float]  # rewards with a's or b's message withheld
    drawn: tuple[tuple[int, ...], ...] = ((), ())  # alternatives of a and of b, …
    drawn_answers: tuple[tuple[int, ...], ...] = ((), ())  # … and what the output made of them
    calls: int = 3  # every call is one token


class TwoLayers:
    """Parameters: two logits for each hidden node, three for the output in each of four contexts."""

    rewards_O = torch.tensor([1.0, 0.25, 0.0], dtype=F64)  # of the answer alone

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(5)
        self.theta = (1.5 * torch.randn(16, dtype=F64, generator=generator)).requires_grad_()
        self.blank = torch.randn(2, 2, 3, dtype=F64, generator=generator)  # of the answer without a, without b

    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        a, b, out = self.theta[:2], self.theta[2:4], self.theta[4:].view(2, 2, 3)
        return a.log_softmax(-1), b.log_softmax(-1), out.log_softmax(-1)

    def logprob(self, node: int, said: tuple[int, int, int]) -> Tensor:
        a, b, out = self.tables()
        return (a[said[A]], b[said[B]], out[said])[node]

    @cached_property
    def scores(self) -> dict[tuple[int, tuple[int, int, int]], Tensor]:
        every = itertools.product(range(3), itertools.product(range(2), range(2), range(3)))
        return {(n, s): torch.autograd.grad(self.logprob(n, s), self.theta)[0] for n, s in every}

    @cached_property
    def exact(self) -> Tensor:
        a, b, out = self.tables()
        joint = (a[:, None, None] + b[:, None] + out).exp()
        return torch.autograd.grad((joint * self.rewards_O).sum(), self.theta)[0]

    def mean_reward(self) -> float:
        a, b, out = (t.detach().exp() for t in self.tables())
        return torch.einsum("a,b,abo,o->", a, b, out, self.rewards_O).item()

    def answer(self, u: float, a: int | None, b: int | None) -> int:
        """Inverse of the cumulative distribution; None: the message is withheld, and the other one is still read."""
        out = self.theta[4:].view(2, 2, 3)
        logits = self.blank[A, b] if a is None else self.blank[B, a] if b is None else out[a, b]
        return int((logits.detach().softmax(-1).cumsum(-1) <= u).sum())

    def intervals(self) -> list[tuple[float, float]]:
        """(a point inside, length) of each piece of [0, 1] in which no context's answer changes."""
        every = torch.cat([self.theta.detach()[4:].view(4, 3), self.blank.view(4, 3)]).softmax(-1).cumsum(-1)
        ends = sorted({0.0, 1.0, *every[:, :2].flatten().tolist()})
        return [((lo + hi) / 2, hi - lo) for lo, hi in itertools.pairwise(ends)]

    def outcomes(self, draws: int = 0) -> list[Outcome]:
        """Everything a rollout with `draws` alternatives at each hidden node can be."""
        pa, pb, _ = (t.detach().exp() for t in self.tables())
        found: list[Outcome] = []
        for a, b, (u, length) in itertools.product(range(2), range(2), self.intervals()):
            o = self.answer(u, a, b)
            without = tuple(self.rewards_O[self.answer(u, *m)].item() for m in ((None, b), (a, None)))
            for more in itertools.product(itertools.product(range(2), repeat=draws), repeat=2):
                chance = length * (pa[a] * pb[b]).item()
                for x, y in zip(*more, strict=True):
                    chance *= (pa[x] * pb[y]).item()
                results = tuple(self.answer(u, x, b) for x in more[A]), tuple(self.answer(u, a, y) for y in more[B])
                calls = 3 + 2 * draws + sum(x != a for x in more[A]) + sum(y != b for y in more[B])
                found.append(Outcome(chance, (a, b, o), self.rewards_O[o].item(), without, more, results, calls))
        return found


def moments(toy: TwoLayers, estimator: str, G: int, K: int = 0, baseline: float = 0.0) -> tuple[Tensor, Tensor, float]:
    """Mean [16] and variance [16] of the library's gradient, and calls of a group, over all groups of G rollouts."""
    outcomes = merged(toy.outcomes(K), estimator)
    sets = list(itertools.combinations_with_replacement(range(len(outcomes)), G))  # in any order: X of them
    chance = torch.tensor([o.chance for o in outcomes], dtype=F64)
    orders = [math.factorial(G) / math.prod(map(math.factorial, Counter(s).values())) for s in sets]
    chance_X = chance[torch.tensor(sets)].prod(1) * torch.tensor(orders, dtype=F64)
    rewards_XG = torch.tensor([o.reward for o in outcomes], dtype=F64)[torch.tensor(sets)]
    each_XT = gradient(toy, estimator, outcomes, torch.tensor(sets), rewards_XG, baseline)
    mean = (chance_X[:, None] * each_XT).sum(0)
    variance = (chance_X[:, None] * (each_XT - mean).square()).sum(0)
    calls = sum(o.chance * o.calls for o in outcomes) * G
    if estimator == "difference":  # a silenced node is not called; its reader always is, for no message is empty
        calls += 2 * G
    return mean, variance, calls


def gradient(
    toy: TwoLayers, estimator: str, outcomes: list[Outcome], sets: Tensor, rewards_XG: Tensor, baseline: float
) -> Tensor:
    """The library's estimate [X, 16] in each set of rollouts: its advantages times the scores."""
    score = torch.stack([torch.stack([toy.scores[n, o.said] for n in range(3)]) for o in outcomes])[sets]
    if estimator == "counterfactual":
        answers = torch.tensor([[(o.said[OUT], *o.drawn_answers[n]) for n in (A, B)] for o in outcomes])
        rewards = toy.rewards_O[answers[sets]]
        weights_XGNK = objectives.counterfactual(rewards)
        again = [
            [torch.stack([toy.scores[n, o.said], *(toy.scores[n, heard(n, m)] for m in o.drawn[n])]) for n in (A, B)]
            for o in outcomes
        ]
        scores = torch.stack([torch.stack(x) for x in again])[sets]
        hidden = torch.einsum("xgnk,xgnkt->xt", weights_XGNK, scores)
        passes = [
            [
                o.said,
                *((x, o.said[B], z) for x, z in zip(o.drawn[A], o.drawn_answers[A], strict=True)),
                *((o.said[A], y, z) for y, z in zip(o.drawn[B], o.drawn_answers[B], strict=True)),
            ]
            for o in outcomes
        ]
        tree = torch.cat([rewards_XG[..., None], rewards[..., 1:].flatten(2)], 2)
        answered = torch.stack([torch.stack([toy.scores[OUT, said] for said in tree]) for tree in passes])[sets]
        out = torch.einsum("xgb,xgbt->xt", objectives.leave_tree_out(tree), answered)
        return (hidden + out) / sets.shape[1]
    if estimator == "difference":
        without = torch.tensor([[*o.without, 0.0] for o in outcomes], dtype=F64)[sets]
        weights = objectives.difference(rewards_XG, without)
    elif estimator == "critic":
        values = torch.full((len(sets),), baseline, dtype=F64)
        weights = objectives.critic(rewards_XG, values)[..., None].expand(-1, -1, 3)
    else:
        weights = objectives.advantages(rewards_XG, 3, estimator, baseline)
    return torch.einsum("xgn,xgnt->xt", weights, score) / sets.shape[1]


def heard(node: int, message: int) -> tuple[int, int, int]:
    """A hidden node's score is a function of its own message alone."""
    return (message, 0, 0) if node == A else (0, message, 0)


def merged(outcomes: list[Outcome], estimator: str) -> list[Outcome]:
    """The same distribution in fewer pieces: those that the estimator cannot tell apart are one."""
    apart = {
        "difference": lambda o: (o.said, o.without),
        "counterfactual": lambda o: (o.said, o.drawn, o.drawn_answers),
    }.get(estimator, lambda o: o.said)
    found: dict[Any, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(apart(outcome), []).append(outcome)
    return [replace(same[0], chance=sum(o.chance for o in same)) for same in found.values()]


@pytest.fixture(scope="module")
def toy() -> TwoLayers:
    return TwoLayers()


def test_the_toys_outcomes_are_all_there_are(toy: TwoLayers) -> None:
    for draws in (0, 1, 2):
        assert sum(o.chance for o in toy.outcomes(draws)) == pytest.approx(1)
    of = toy.outcomes()
    assert sum(o.chance * o.reward for o in of) == pytest.approx(toy.mean_reward())
    assert len({o.without for o in of}) > 3
    assert any(o.without[A] != o.reward for o in of)


@pytest.mark.parametrize(("G", "K"), [(2, 1), (3, 1), (2, 2)])
def test_counterfactual_is_unbiased_for_every_node(toy: TwoLayers, G: int, K: int) -> None:
    torch.testing.assert_close(moments(toy, "counterfactual", G, K)[0], toy.exact)


@pytest.mark.parametrize("G", [2, 3])
def test_difference_is_unbiased_for_every_node(toy: TwoLayers, G: int) -> None:
    torch.testing.assert_close(moments(toy, "difference", G)[0], toy.exact)


def test_difference_would_be_biased_if_the_replay_read_what_the_node_had_said(toy: TwoLayers) -> None:
    """Where the reward without the message depends on it, e.g. by replaying with other messages, the proof fails."""
    leaky = TwoLayers()
    wrong = lambda draws=0: [replace(o, without=(float(o.said[A]), o.without[B])) for o in toy.outcomes(draws)]
    leaky.outcomes = wrong  # type: ignore[method-assign]
    assert (moments(leaky, "difference", 2)[0] - leaky.exact).norm() > 0.1 * leaky.exact.norm()


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_critic_is_unbiased_whatever_it_says(toy: TwoLayers, value: float) -> None:
    torch.testing.assert_close(moments(toy, "critic", 2, baseline=value)[0], toy.exact)


def table() -> list[str]:
    """The rows of docs/estimators.md on the network of two layers, computed; a call is a token here."""
    toy = TwoLayers()
    b = toy.mean_reward()
    kinds: list[tuple[str, str, int, dict[str, Any]]] = [
        ("leave_one_out", "leave_one_out", 2, {}),
        ("leave_one_out", "leave_one_out", 4, {}),
        ("leave_one_out", "leave_one_out", 8, {}),
        ("critic", "critic, V = E[R]", 4, {"baseline": b}),
        ("critic", "critic, V = E[R] + 0.2", 4, {"baseline": b + 0.2}),
        ("difference", "difference", 4, {}),
        ("counterfactual", "counterfactual, K = 1", 2, {"K": 1}),
        ("counterfactual", "counterfactual, K = 1", 3, {"K": 1}),
        ("counterfactual", "counterfactual, K = 2", 2, {"K": 2}),
    ]
    rows: list[str] = []
    for name, label, G, options in kinds:
        mean, variance, calls = moments(toy, name, G, **options)
        error = (mean - toy.exact).norm() / toy.exact.norm()
        hidden, out = variance[:4].sum().item(), variance[4:].sum().item()
        rows.append(
            f"| {label} | {G} | {error:.3f} | {calls:.1f} | {hidden:.4f} | {out:.4f} | "
            f"{hidden * calls:.2f} | {out * calls:.2f} |"
        )
    return rows


def test_the_published_table_of_credit_is_the_computed_one() -> None:
    """Remake it with: python -c "from test_credit import table; print(*table(), sep='\\n')"."""
    lines = TABLE.read_text(encoding="utf-8").split("## Telling nodes apart")[1].splitlines()
    assert [line for line in lines if line.startswith(("| l", "| c", "| d"))] == table()


def test_counterfactual_is_less_noisy_for_hidden_nodes_at_equal_calls(toy: TwoLayers) -> None:
    """Than the shared advantage with more rollouts than its calls would buy; `difference` is not, here."""
    _, shared, shared_calls = moments(toy, "leave_one_out", 8)
    _, branched, calls = moments(toy, "counterfactual", 2, K=1)
    _, silenced, silenced_calls = moments(toy, "difference", 4)
    noise = lambda variance, calls: (variance[:4].sum() * calls).item()
    assert noise(branched, calls) < 0.5 * noise(shared, shared_calls)
    assert noise(silenced, silenced_calls) > noise(shared, shared_calls)


def test_counterfactual_is_noisier_where_the_better_message_depends_on_what_a_sibling_happened_to_say() -> None:
    """The answer is right when the two messages differ, and neither node leans to one: three times the noise of the
    shared advantage at equal calls, for both numbers of alternatives; when they have come to differ it is not twice."""
    noise: dict[tuple[float, str, int], float] = {}
    for lean in (0.0, 2.0):
        toy = TwoLayers()
        right, wrong = [3.0, 0.0, 0.0], [0.0, 0.0, 3.0]
        hidden = [lean / 2, -lean / 2, -lean / 2, lean / 2]
        toy.theta = torch.tensor([*hidden, *wrong, *right, *right, *wrong], dtype=F64).requires_grad_()
        for name, G, K in (("leave_one_out", 8, 0), ("counterfactual", 2, 1), ("counterfactual", 2, 2)):
            _, variance, calls = moments(toy, name, G, K)
            noise[lean, name, K] = variance[:4].sum().item() * calls
    relative = lambda lean, K: noise[lean, "counterfactual", K] / noise[lean, "leave_one_out", 0]
    assert relative(0.0, 1) == pytest.approx(3.07, abs=0.01)
    assert relative(0.0, 2) == pytest.approx(3.07, abs=0.01)
    assert relative(2.0, 1) == pytest.approx(1.66, abs=0.01)


def test_golden_advantages_of_trees() -> None:
    rewards = torch.tensor([[[[1.0, 0.0, 0.5], [1.0, 1.0, 1.0]]]], dtype=F64)  # one rollout, two nodes, three draws
    expected = torch.tensor([[[[0.25, -0.25, 0.0], [0.0, 0.0, 0.0]]]], dtype=F64)
    torch.testing.assert_close(objectives.counterfactual(rewards), expected)
    trees = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]], dtype=F64)
    expected = torch.tensor([[[0.25, -0.25], [-0.375, -0.375], [0.375, 0.375]]], dtype=F64)
    torch.testing.assert_close(objectives.leave_tree_out(trees), expected)
    torch.testing.assert_close(
        objectives.leave_tree_out(trees[..., :1])[..., 0], objectives.leave_one_out(trees[..., 0])
    )
    without = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]], dtype=F64)
    found = objectives.difference(torch.tensor([[1.0, 0.0]], dtype=F64), without)
    torch.testing.assert_close(found, torch.tensor([[[0.0, 1.0, 1.0], [0.0, -1.0, -1.0]]], dtype=F64))
    found = objectives.critic(torch.tensor([[1.0, 0.0]]), torch.tensor([0.25]))
    torch.testing.assert_close(found, torch.tensor([[0.75, -0.25]]))


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1 / 3])
def test_equal_rewards_in_a_tree_give_advantages_of_exactly_zero(reward: float) -> None:
    full = lambda *shape: torch.full(shape, reward, dtype=F64)
    assert (objectives.counterfactual(full(2, 3, 2, 3)) == 0).all()
    assert (objectives.leave_tree_out(full(2, 3, 5)) == 0).all()
    assert (objectives.difference(full(2, 3), full(2, 3, 4) / 7) == 0).all()


def test_trees_of_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 draws"):
        objectives.counterfactual(torch.zeros(1, 1, 1, 1))
    with pytest.raises(ValueError, match="at least 2 rollouts"):
        objectives.leave_tree_out(torch.zeros(1, 1, 3))
    with pytest.raises(ValueError, match="expected 4 axes"):
        objectives.counterfactual(torch.zeros(1, 1, 1))
    with pytest.raises(ValueError, match="expected 3 axes"):
        objectives.difference(torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="expected 1 axes"):
        objectives.critic(torch.zeros(1, 2), torch.zeros(1, 1))


# -- on a real network -------------------------------------------------------------------------------------


class OneIsRight(FirstCharacter):
    """Reward 1 for "1", a part for silence: every answer of `binary_backbone` has its own reward."""

    def grade(self, question: Any, text: str) -> Grade:
        return Grade({"1": 1.0, "0": 0.0}.get(text, 0.4), text or None)


def enumerable() -> Network:
    """Every node writes one token, 0, 1 or the end."""
    network = make_network("2", binary_backbone(), noise=0.5)
    network.backbone.output.layer.bias.data[network.backbone.output.layer.bias < 0] = -40.0  # nothing else, ever
    network.limits = Limits(1, 1, 512)
    return network


def exact_gradient(network: Network, task: Task, absent: Sequence[str] = ()) -> list[Tensor]:
    """Of the expected reward, over all the ways a pass can come out (27, where nobody is absent)."""
    shape = network.topology.without(absent)
    tokens, total = (ord("0"), ord("1"), min(network.backbone.end_ids)), torch.zeros(())
    (question,) = questions(1)
    decode, render = network.backbone.template.decode, network.backbone.template.render
    for said in itertools.product(tokens, repeat=len(shape.nodes)):
        groups: list[Group] = []
        for node in shape.nodes:
            at = shape.position(node)
            heard = [Message(u, decode([said[shape.nodes.index(u)]])) for u in at.upstream]
            prompt: Prompt = render(at, question, heard, reserve=1)
            groups.append(Group(network.adapters.index[node], prompt.prefix_ids, [prompt.own_ids]))
        logprobs, _ = replay(network.backbone, network.adapters, groups, [[t] for t in said], 1.0)
        reward = task.grade(question, decode([said[-1]])).reward
        total = total + logprobs.sum().exp() * reward
    total.backward()
    found = [p.grad.clone() for p in network.adapters.stacks() if p.grad is not None]
    network.adapters.zero_grad(set_to_none=True)
    return found


def products(xs: list[Tensor], ys: list[Tensor]) -> Tensor:
    """Inner product of two gradients, node by node [3]."""
    return torch.stack([sum((x[n] * y[n]).sum() for x, y in zip(xs, ys, strict=True)) for n in range(3)])


SETTINGS = [
    {"estimator": "counterfactual"},
    pytest.param({"estimator": "counterfactual", "alternatives": 2}, marks=pytest.mark.slow),
    {"estimator": "difference"},
    pytest.param({"estimator": "critic"}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("absent", [(), pytest.param(("1.1",), marks=pytest.mark.slow)])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_the_gradients_of_many_steps_average_to_the_exact_one(settings: dict[str, Any], absent: Any) -> None:
    """Node by node, the mean over steps is within four standard errors of the truth, in the truth's direction and
    in one across it. Of two nodes the truth is many standard errors long. absent: in every other rollout."""
    network, task = enumerable(), OneIsRight("")
    truth = [
        (a + b) / 2 for a, b in zip(exact_gradient(network, task), exact_gradient(network, task, absent), strict=True)
    ]
    missing = lambda _question, rollout: absent if rollout % 2 else ()
    if settings["estimator"] == "critic":
        critic.attach(network)
    config = TrainConfig(rollouts=48, clip=1e9, **settings)
    generator = torch.Generator().manual_seed(0)
    across = [torch.randn(t.shape, generator=generator) * t.std() for t in truth]
    seen: list[Tensor] = []
    optimizer = torch.optim.SGD(network.adapters.stacks(), lr=0.0)
    for step in range(1, 25):
        train_step(network, optimizer, task, questions(1), config, step=step, seed=1, absent=missing)
        mine = [-p.grad for p in network.adapters.stacks() if p.grad is not None]
        seen.append(torch.stack([products(mine, truth), products(mine, across)]))
    found = torch.stack(seen)  # [step, direction, node]
    for direction, ys in enumerate((truth, across)):
        exact = products(truth, ys)
        mean, error = found[:, direction].mean(0), found[:, direction].std(0) / len(found) ** 0.5
        assert ((mean - exact).abs() < 4 * error).all(), (mean, exact, error)
        if direction == 0:
            assert (exact[1:] > 5 * error[1:]).all(), "too few draws to tell"


def a_step(**settings: Any) -> Any:
    network = make_network("2-2")
    if settings.get("estimator") == "critic":
        critic.attach(network)
    config = TrainConfig(questions=3, rollouts=3, **settings)
    optimizer = torch.optim.AdamW(network.adapters.stacks(), lr=1e-3)
    task = FirstCharacter("".join(map(chr, range(96))))
    return train_step(network, optimizer, task, questions(3), config, step=1, seed=0).metrics.to_dict()


def test_what_branches_cost_is_counted_in_the_steps_figures() -> None:
    plain, branched = a_step(), a_step(estimator="counterfactual")
    assert branched["rollouts"] == plain["rollouts"] == 9
    assert branched["branch_calls"] >= 9 * 4, "each hidden node speaks again in each rollout"
    for key in ("calls", "generated_tokens"):
        assert (
            branched[key] == plain[key] + branched[key.replace("calls", "branch_calls").replace("generated", "branch")]
        )
    assert branched["prompt_tokens"] > plain["prompt_tokens"]
    more = a_step(estimator="counterfactual", alternatives=2)
    assert more["branch_calls"] > 1.7 * branched["branch_calls"]
    assert "branch_calls" not in plain


def test_branches_report_what_each_node_decides() -> None:
    counterfactual, difference = a_step(estimator="counterfactual"), a_step(estimator="difference")
    for node in ("1.1", "1.2", "2.1", "2.2"):
        assert 0 <= counterfactual["nodes"][node]["decisive"] <= 1
        assert -1 <= difference["nodes"][node]["value"] <= 1
    assert any(counterfactual["nodes"][n]["decisive"] for n in ("2.1", "2.2"))
    assert not {"decisive", "value"} & (counterfactual["nodes"]["out"].keys() | difference["nodes"]["out"].keys())


@pytest.mark.parametrize("estimator", ["counterfactual", "difference"])
def test_with_one_node_there_is_nobody_to_tell_apart(estimator: str) -> None:
    network, task = make_network("single"), FirstCharacter("".join(map(chr, range(96))))
    grads: list[Tensor] = []
    for name in (estimator, "leave_one_out"):
        config = TrainConfig(rollouts=4, estimator=name)
        train_step(
            network, torch.optim.SGD(network.adapters.stacks(), lr=0), task, questions(3), config, step=1, seed=0
        )
        grads.append(network.adapters.gradient_norms())
    torch.testing.assert_close(*grads)


def test_penalties_count_rollouts_and_not_branches() -> None:
    """Without advantages, the KL and entropy terms of a step with branches are those of one without."""
    network, task = make_network("2"), FirstCharacter("")
    norms = [
        (train_step(
            network, torch.optim.SGD(network.adapters.stacks(), lr=0), task, questions(2),
            TrainConfig(rollouts=3, clip=1e9, kl=0.3, entropy=0.2, estimator=name), step=1, seed=0,
        ), network.adapters.gradient_norms())[1]
        for name in ("leave_one_out", "counterfactual")
    ]  # fmt: skip
    torch.testing.assert_close(*norms)


# -- the critic --------------------------------------------------------------------------------------------


def test_the_critic_learns_which_questions_are_easy_and_nothing_before_it_has_seen_any() -> None:
    network = make_network("2", make_backbone(seed=3))
    critic.attach(network)
    asked = questions(40, length=9)
    features = critic.features(network, asked)
    assert (critic.values(network, features) == 0).all()
    easy = torch.tensor([float(len(q.text) > 8) for q in asked], dtype=F64)
    for _ in range(12):
        critic.observe(network, features[:30], easy[:30, None].expand(-1, 4))
    values = critic.values(network, features[30:])
    assert ((values >= 0) & (values <= 1)).all()
    error = (values - easy[30:]).square().mean()
    assert error < 0.6 * (easy[:30].mean() - easy[30:]).square().mean(), "better than the mean, on questions never seen"


def test_the_critic_forgets() -> None:
    network = make_network("1")
    critic.attach(network)
    features = critic.features(network, questions(4))
    for reward in (0.0, 1.0):
        for _ in range(60):
            critic.observe(network, features, torch.full((4, 2), reward, dtype=F64))
    assert (critic.values(network, features) > 0.9).all()


def test_the_critics_features_are_those_of_the_bare_backbone() -> None:
    network = make_network("2")
    critic.attach(network)
    features = critic.features(network, questions(3))
    bare = make_network("2", noise=0.0)
    torch.testing.assert_close(features, critic.features(bare, questions(3)))
    assert features.unique(dim=0).shape == (3, 33)


def test_settings_that_the_estimator_does_not_use_are_refused() -> None:
    from neuromas.config import RunConfig

    for wrong in ({"alternatives": 3}, {"estimator": "difference", "alternatives": 3}):
        with pytest.raises(ConfigError, match=r"does not use; leave it out or set train\.estimator to"):
            RunConfig.make({"train": wrong})
    with pytest.raises(ConfigError, match="needs 2 or more"):
        RunConfig.make({"train": {"estimator": "counterfactual", "rollouts": 1}})
    RunConfig.make({"train": {"estimator": "critic", "rollouts": 1}})
    RunConfig.make({"train": {"estimator": "counterfactual", "alternatives": 3}})
