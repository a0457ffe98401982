"""The logit-scored control picks the option that the backbone finds most likely, and writes nothing."""

import json
import math
from pathlib import Path

import pytest
import torch

from helpers import CHATML, make_backbone, plain_logits, plain_model
from neuromas import cli
from neuromas.baselines.chat import Chat
from neuromas.baselines.logit import Logit
from neuromas.errors import ConfigError
from neuromas.evaluate.run import evaluate
from neuromas.network.forward import Limits
from neuromas.network.topology import Topology
from neuromas.tasks.base import Split, Task
from neuromas.tasks.choice import PREFIX, lettered
from neuromas.types import Grade, Question

STYLES = {"compact": ("compact", None, ""), "plain": ("plain", None, " "), "chat": ("chat", CHATML, " ")}


def asked(n: int = 5) -> list[Question]:
    return [
        lettered(f"q{i}", "Which " * (i + 1), ["red", "green", "blue", "none"][: 3 + i % 2], i % 3) for i in range(n)
    ]


def letters(question: Question) -> tuple[str, ...]:
    return tuple("ABCDEFG"[: len(question.metadata["options"])])


class Choice(Task):
    name, version, max_answer_tokens, answer_choices = "choice", 1, 4, ("A", "B", "C", "D")

    def questions(self, split: Split) -> list[Question]:
        return asked()

    def choices(self, question: Question) -> tuple[str, ...]:
        return letters(question)

    def grade(self, question: Question, text: str) -> Grade:
        said = text.removeprefix(question.answer_prefix).strip()
        return Grade(float(said == question.answer), said or None)


@pytest.mark.parametrize("style", STYLES)
def test_scores_are_the_plain_models_log_probabilities(style: str) -> None:
    name, template, space = STYLES[style]
    backbone = make_backbone(style=name, template=template)  # type: ignore[arg-type]
    system = Logit(Chat(backbone, Limits(4, 4)), letters)
    at = Topology.parse("single").position("out")
    for question in asked(3):
        prompt = backbone.template.render(at, question, [], reserve=2).prefix_ids
        expected: dict[str, float] = {}
        for letter in letters(question):
            ids = list((space + letter).encode())  # one token a byte
            with torch.no_grad():
                logp = plain_logits(plain_model(), prompt + ids).log_softmax(-1)
            expected[letter] = sum(float(logp[len(prompt) - 1 + i, token]) for i, token in enumerate(ids))
        scores = system.scores(question)
        assert scores == pytest.approx(expected, abs=1e-4)
        (trace,) = system.answer([question])
        best = max(scores, key=scores.__getitem__)
        assert trace.answer == f"{PREFIX}{space}{best}"


def test_one_call_no_generated_token_and_all_rollouts_alike() -> None:
    system = Logit(Chat(make_backbone(), Limits(4, 4)), letters)
    traces = system.answer(asked(4), seed=3, rollouts=2)
    assert [(t.question_id, t.rollout) for t in traces] == [(f"q{i}", g) for i in range(4) for g in (0, 1)]
    for trace in traces:
        assert (
            (len(trace.calls), trace.sequential_calls, trace.sequential_tokens)
            == (1, 1, trace.generated_tokens)
            == (1, 1, 0)
        )
        assert trace.prompt_tokens > 0
    assert [t.answer for t in traces[::2]] == [t.answer for t in traces[1::2]]
    assert system.trainable_parameters == 0


def test_batches_change_nothing() -> None:
    backbone, questions = make_backbone(), asked(7)
    answers = [
        [t.answer for t in Logit(Chat(backbone, Limits(4, 4, rows)), letters).answer(questions)] for rows in (1, 9, 512)
    ]
    assert answers[0] == answers[1] == answers[2]
    assert Logit(Chat(backbone, Limits()), letters).answer([]) == []


def test_a_biased_head_decides() -> None:
    model = plain_model()
    model.lm_head = torch.nn.Linear(32, 260).requires_grad_(False)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias.zero_()
        model.lm_head.bias[ord("C")] = 5.0
    from helpers import byte_tokenizer
    from neuromas.network.backbone import Backbone

    system = Logit(Chat(Backbone("biased", model, byte_tokenizer(), "compact"), Limits()), letters)
    assert {t.answer for t in system.answer(asked())} == {f"{PREFIX}C"}
    scores = system.scores(asked(1)[0])
    assert scores["C"] - scores["A"] == pytest.approx(5.0) and scores["A"] < -math.log(2)


def test_evaluation_counts_it_as_one_call_without_tokens() -> None:
    result = evaluate(Logit(Chat(make_backbone(), Limits(4, 4)), letters), Choice()).result
    assert (result.calls, result.generated_tokens, result.parse_rate) == (1.0, 0.0, 1.0)
    assert result.decoding == "scored" and result.trainable_parameters == 0


def test_questions_without_listed_answers_are_refused() -> None:
    with pytest.raises(ConfigError, match="question 'q' has no list of them; choose a task with options"):
        Logit(Chat(make_backbone(), Limits()), lambda q: None).answer([Question("q", "How many?", "3")])


def test_the_command_line_scores_the_options_of_a_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = ["--task", "compositional", "--limit", "5"]
    cli.main(["eval", "logit", *task, "--json", str(tmp_path / "out.json")])
    result = json.loads((tmp_path / "out.json").read_text())
    assert (result["system"], result["n"], result["generated_tokens"]) == ("logit (tiny)", 5, 0.0)
    for flag in ("--sampled", "--blank"):
        with pytest.raises(SystemExit):
            cli.main(["eval", "logit", *task, flag])
        assert "writes nothing" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["ask", "logit", "1+1"])
    assert "ask `direct`" in capsys.readouterr().err
