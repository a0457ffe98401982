"""Stop texts: a turn ends with the token that completes one; what was written stays as it was, its text is cut."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import neuromas as nm
from helpers import binary_backbone, forward, make_backbone, questions, run_config
from neuromas.compare.plan import make_plan
from neuromas.compare.spec import Spec
from neuromas.config import TrainConfig
from neuromas.errors import ConfigError
from neuromas.network.generate import Completion, generate
from neuromas.network.packed import Group
from neuromas.network.sampling import Decoding
from neuromas.network.stopping import cut, ending, shortened
from neuromas.results import StepMetrics
from neuromas.run.folder import read_metrics
from neuromas.run.loop import train
from neuromas.serve.job import Job
from neuromas.serve.schema import CompletionRequest
from neuromas.train.step import train_step

TASK = nm.load_task("compositional", depth=2)
ASKED = TASK.questions("test")[:3]


@pytest.fixture(scope="module")
def backbone() -> nm.Backbone:
    return nm.Backbone.load("tiny")


def network_of(backbone: nm.Backbone, *stop: str) -> nm.Network:
    return nm.Network.create("1", backbone, limits=nm.Limits(12, 12, stop=stop))


def a_stop(network: nm.Network) -> str:
    """Two characters from the middle of the first message."""
    text = forward(network, ASKED, rollouts=1, seed=0)[0].calls[0].text
    assert len(text) > 3
    return text[1:3]


def prefix_until(ids: Sequence[int], stop: str, decode: Any) -> int:
    return next(n for n in range(1, len(ids) + 1) if stop in decode(ids[:n]))


def test_a_turn_ends_with_the_token_that_completes_the_text_and_says_what_stands_before(backbone) -> None:
    network = network_of(backbone)
    free, stop, decode = forward(network, ASKED, rollouts=2, seed=0), a_stop(network), backbone.template.decode
    ended = forward(network_of(backbone, stop), ASKED, rollouts=2, seed=0)
    hits = 0
    for before, after in zip((t.calls[0] for t in free), (t.calls[0] for t in ended), strict=True):
        n = len(before.completion_ids)
        if stop in before.text:
            n, hits = prefix_until(before.completion_ids, stop, decode), hits + 1
            assert (after.text, after.truncated) == (before.text.partition(stop)[0], False)
        assert after.completion_ids == before.completion_ids[:n]
        torch.testing.assert_close(torch.tensor(after.logprobs), torch.tensor(before.logprobs[:n]), atol=1e-5, rtol=0)
        assert len(after.entropies) == n
    assert hits


def test_the_reader_is_given_the_cut_text_and_the_update_scores_what_was_written(backbone) -> None:
    stop = a_stop(network_of(backbone))
    network = network_of(backbone, stop)
    (trace, *_) = forward(network, ASKED, rollouts=1, seed=0)
    message, answer = trace.calls
    assert stop not in backbone.template.decode(answer.own_ids)
    for call, logprobs in zip(trace.calls, network.replay(trace.calls), strict=True):
        assert len(logprobs) == len(call.completion_ids)
        torch.testing.assert_close(logprobs, torch.tensor(call.logprobs), atol=1e-5, rtol=1e-5)
    assert stop in network.backbone.template.decode(message.completion_ids)


@pytest.mark.parametrize("block", [1, 3, 8])
def test_blocks_of_looks_change_nothing(block: int, backbone) -> None:
    network = network_of(backbone)
    groups, rows = [Group(0, list(question.text.encode()), [[], [43, 49]]) for question in ASKED], 2 * len(ASKED)
    sample = lambda **options: generate(backbone, network.adapters, groups, range(rows), 12, Decoding(), **options)
    free, decode = sample(), backbone.template.decode
    stop = next(text[1:3] for c in free if len(text := decode(c.ids)) > 3)
    found = sample(block=block, ended=ending(decode, [stop]))
    expected = [shortened(c, ending(decode, [stop])) for c in free]
    assert [(c.ids, c.truncated) for c in found] == [(c.ids, c.truncated) for c in expected]
    assert [len(c.logprobs) for c in found] == [len(c.entropies) for c in found] == [len(c.ids) for c in found]
    assert [c.ids for c in found] != [c.ids for c in free]


def test_another_engine_is_cut_by_the_same_rule(backbone) -> None:
    network = network_of(backbone, a_stop(network_of(backbone)))
    own = forward(network, ASKED, rollouts=1, seed=0)

    class Whole:
        """Writes to the limit, as an engine does that knows no stop texts."""

        def generate(self, bank: Any, groups: Any, keys: Any, limit: int, how: Any) -> list[Completion]:
            return generate(backbone, bank, groups, keys, limit, how)

        def close(self) -> None: ...

    network.engine = Whole()
    engine = forward(network, ASKED, rollouts=1, seed=0)
    assert [[c.completion_ids for c in t.calls] for t in engine] == [[c.completion_ids for c in t.calls] for t in own]


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("one\ntwo", ["\n"], ("one", True)),
        ("a###b##", ["##", "b"], ("a", True)),
        ("none", ["x"], ("none", False)),
        ("ä€😀.", ["😀"], ("ä€", True)),
        ("\n", ["\n"], ("", True)),
    ],
)
def test_the_first_text_counts_and_is_found_when_its_last_byte_is_there(text, stops, expected) -> None:
    assert cut(text, stops) == expected
    template = make_backbone().template
    ids, ended = list(text.encode()), ending(template.decode, stops)
    assert ended is not None
    ends = [n for n in range(1, len(ids) + 1) if ended(ids[:n])]
    assert bool(ends) == expected[1]
    if ends:
        cuts = [n for n in range(1, len(ids) + 1) if cut(template.decode(ids[:n]), stops)[1]]
        assert ends[0] == cuts[0]


def test_a_step_of_training_counts_the_tokens_up_to_the_stop(backbone) -> None:
    stop = a_stop(network_of(backbone))
    found: list[StepMetrics] = []
    for network in (network_of(backbone), network_of(backbone, stop)):
        optimizer = torch.optim.SGD(network.adapters.stacks(), lr=0.01)
        config = TrainConfig(questions=3, rollouts=4)
        found.append(train_step(network, optimizer, TASK, ASKED, config, seed=0, step=1).metrics)
    assert found[1].generated_tokens < found[0].generated_tokens
    assert found[1].logprob_gap < 1e-4


def test_a_run_with_stop_texts_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    settings = {
        "train.questions": 2, "train.rollouts": 2, "train.validation_questions": 2, "train.learning_rate": 0.01,
        "sampling.stop": ["=", "\n"], "sampling.message_tokens": 12,
    }  # fmt: skip
    go = lambda name, steps, **more: nm.train(
        topology="1", task="compositional", steps=steps, out=tmp_path / name, settings=settings, progress=False, **more
    )
    whole = go("whole", 2)
    go("cut", 1)
    again = go("cut", 2, resume=True)
    numbers = lambda run: [(m.reward, m.generated_tokens, m.parse_rate) for m in run.metrics]
    assert numbers(again) == numbers(whole)
    assert nm.load(tmp_path / "cut").network.limits.stop == ("=", "\n")


def test_a_stream_never_shows_the_beginning_of_a_stop_text_that_is_cut() -> None:
    posted: list[Any] = []
    request = CompletionRequest(model="net", prompt="", stream=True, stop="!")
    template = make_backbone().template
    job = Job(questions(1)[0], request, 0, Decoding(), 0, "out", template.decode, posted.append, own_stops=("###",))
    for text in (b"a", b"ab#", b"ab##", b"ab##c", b"ab##c#"):
        assert job.wrote(0, "out", list(text))
    assert "".join(delta.text for delta in posted) == "ab##c"


def test_an_empty_stop_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="stop"):
        nm.RunConfig.make({"sampling": {"stop": [""]}})


def steps_and_checks(folder: Path) -> list[tuple[int, float | None]]:
    return [(m.step, m.validation and m.validation.accuracy) for m in read_metrics(folder)]


def test_patience_ends_a_run_that_does_not_get_better_and_a_resumed_one_alike(tmp_path: Path) -> None:
    small = {"train__learning_rate": 1e-9, "train__validate_every": 1}
    impatient = run_config(train__patience=2, **small)
    train(impatient, tmp_path / "whole", backbone=binary_backbone())
    assert [step for step, _ in steps_and_checks(tmp_path / "whole")] == [0, 1, 2], "equal is no better"
    train(impatient, tmp_path / "cut", backbone=binary_backbone(), on_step=lambda metrics: metrics.step < 1)
    train(impatient, tmp_path / "cut", backbone=binary_backbone(), resume=True)
    assert steps_and_checks(tmp_path / "cut") == steps_and_checks(tmp_path / "whole")
    train(run_config(train__patience=3, **small), tmp_path / "cut", backbone=binary_backbone(), resume=True)
    assert len(steps_and_checks(tmp_path / "cut")) == 4
    train(run_config(**small), tmp_path / "all", backbone=binary_backbone())
    assert steps_and_checks(tmp_path / "all")[:4] == steps_and_checks(tmp_path / "cut")


def test_patience_ends_a_stage_where_another_follows(tmp_path: Path) -> None:
    stages = [{"steps": 4}, {"topology": "2", "init": "zero", "steps": 4}]
    config = run_config(
        train__patience=1, train__learning_rate=1e-9, train__validate_every=1, train__steps=8, stages=stages
    )
    train(config, tmp_path / "run", backbone=binary_backbone())
    assert [m.stage for m in read_metrics(tmp_path / "run")] == [None, 0, 1]


def test_a_comparison_has_no_patience() -> None:
    spec = {"tasks": [{"name": "compositional"}], "train": {"patience": 1}, "systems": {"net": {"topology": "2"}}}
    with pytest.raises(ConfigError, match=r"train.patience.*equally many samples"):
        make_plan(Spec.make(spec))
