"""A measurement before the first update, so that who waits for a run knows if it can learn; and from what it began."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from neuromas.config import RunConfig
from neuromas.evaluate.run import record
from neuromas.files import write_json
from neuromas.results import GrowthRecord, StartRecord, StartSample, StepMetrics
from neuromas.run.checkpoint import Trained
from neuromas.run.folder import START
from neuromas.tasks.base import Task
from neuromas.tasks.reward import graded
from neuromas.train.warm import IMITATION
from neuromas.types import Grade, Question, Trace, answers_cut, messages_cut
from neuromas.workers import Workers

HOPELESS = 0.05  # share of questions with a right rollout below which the report says what to change
_QUESTIONS = 16  # asked where the settings leave their number open
_SECONDS = 30.0  # no further questions are asked after that time
_AT_ONCE = 4  # questions asked together
_SAMPLES = 3  # traces kept
_SOLVED = 0.95
_CUT = 0.5

Answered = tuple[Question, list[Trace], list[Grade]]  # the greedy answer first, then the sampled ones


def questions_of(config: RunConfig) -> int:
    """The number of questions that the report asks. Left open: none of the embedded backbone, for the tests' sake."""
    asked = config.train.start_questions
    return asked if asked is not None else 0 if config.backbone.name == "tiny" else _QUESTIONS


def report(config: RunConfig, out: Path, network: Trained, task: Task, workers: Workers) -> StartRecord | None:
    """Measure what the run starts from and write it to start.json; None where it is switched off.

    The draws have addresses of their own (step 0, validation questions), so the training is the same with it or
    without. After half a minute no further questions are asked.
    """
    questions, begin = task.questions("validation")[: questions_of(config)], time.perf_counter()
    answered: list[Answered] = []
    while len(answered) < len(questions) and not (answered and _late(begin, workers)):
        mine = list(workers.share(questions[len(answered) : len(answered) + _AT_ONCE]))
        answered += chain(*workers.each(lambda mine=mine: _ask(config, network, task, mine)))
    if not answered:
        return None
    layers = sorted({key.rpartition(".")[2] for key in network.adapters.shapes})
    told = f"{network.backbone.proof.line}; adapters on {', '.join(layers)}"
    found = replace(summary(config, answered, time.perf_counter() - begin), backbone=told)
    if workers.first:
        write_json(out / START, found.to_dict())
    return found


def _late(begin: float, workers: Workers) -> bool:
    return workers.from_first(lambda: time.perf_counter() - begin > _SECONDS)


def _ask(config: RunConfig, network: Trained, task: Task, questions: list[Question]) -> list[Answered]:
    G = config.train.rollouts
    greedy = network.answer(questions, greedy=True, seed=config.seed)
    sampled = network.answer(questions, greedy=False, seed=config.seed, rollouts=G)
    out: list[Answered] = []
    for i, question in enumerate(questions):
        traces = [greedy[i], *sampled[i * G : (i + 1) * G]]
        replies = [trace.answer for trace in traces]
        out.append((question, traces, graded(task, [question] * len(traces), replies, abstain=True)))
    return out


def summary(config: RunConfig, answered: list[Answered], seconds: float) -> StartRecord:
    """The record of what was answered."""
    n = len(answered)
    traces = [trace for _, all_traces, _ in answered for trace in all_traces]
    groups = [grades[1:] for _, _, grades in answered]
    sampled = [grade for group in groups for grade in group]
    found = StartRecord(
        began=began(config, [], []),
        n=n,
        rollouts=config.train.rollouts,
        sampled=sum(grade.reward for grade in sampled) / len(sampled),
        greedy=sum(grades[0].reward for _, _, grades in answered) / n,
        all_wrong=sum(all(grade.reward == 0 for grade in group) for group in groups) / n,
        mixed=sum(any(g.reward > 0 for g in group) and any(g.reward < 1 for g in group) for group in groups) / n,
        all_right=sum(all(grade.reward == 1 for grade in group) for group in groups) / n,
        parse_rate=sum(grade.parsed is not None for grade in sampled) / len(sampled),
        messages_cut=messages_cut(traces),
        answers_cut=answers_cut(traces),
        calls=sum(len(trace.calls) for trace in traces),
        generated_tokens=sum(trace.generated_tokens for trace in traces),
        seconds=round(seconds, 1),
        advice=[],
        samples=[StartSample(question=q.text, record=record(q, ts[1], gs[1])) for q, ts, gs in answered[:_SAMPLES]],
    )
    found.advice.extend(advice(found))
    return found


def advice(found: StartRecord) -> list[str]:
    """Changes to make before hours are spent; [] where the first steps have something to learn from."""
    out: list[str] = []
    if found.solvable < HOPELESS:
        out.append(
            f"{found.solvable:.0%} of {found.n} questions have a right rollout, so most groups teach nothing: begin "
            "with easier questions ([[stages]] with promote), or from an adapter that can do the parts "
            "(adapter.init_from), imitate right rollouts first (train.warm_start), change the instruction or the "
            "prompt, or raise train.rollouts"
        )
    elif found.all_right >= _SOLVED:
        out.append(
            f"{found.all_right:.0%} of the groups are all right already: nothing is left to learn; ask harder questions"
        )
    if found.parse_rate < 1 - _CUT:
        out.append(
            f"only {found.parse_rate:.0%} of the answers can be read: raise sampling.answer_tokens, or say in the "
            "task's instruction how to answer"
        )
    if (found.answers_cut or 0) > _CUT and found.sampled < _CUT:
        out.append(
            f"{found.answers_cut:.0%} of the answers are cut off by their limit, and few are right: let the reply "
            'begin where the answer stands (answer_prefix = "The answer is " in the task\'s file, or [prompt] answer), '
            "or raise sampling.answer_tokens"
        )
    if (found.messages_cut or 0) > _CUT:
        out.append(
            f"{found.messages_cut:.0%} of the messages are cut off by their limit: raise sampling.message_tokens, or, "
            'for a model that does not end them, set sampling.stop = ["\\n"]'
        )
    return out


def began(
    config: RunConfig, metrics: Sequence[StepMetrics], lineage: Sequence[GrowthRecord], changes: Sequence[str] = ()
) -> str:
    """From what a run began, and what its first steps did instead of plain reinforcement; as far as it has come.

    changes: of its questions and its reward, accepted on the way.
    """
    parts: list[str] = []
    if (start := config.adapter.init_from) is not None:
        folders = {"every node": start} if isinstance(start, str) else start
        parts.append("; ".join(f"{node} from the adapter {folder}" for node, folder in folders.items()))
    if origin := next((grown for grown in lineage if grown.run), None):
        parts.append(f"grown from the run {origin.run} after step {origin.step}")
    if warm := [m for m in metrics if m.estimator == IMITATION]:
        right = round(sum((m.accuracy or 0) * (m.rollouts or 0) for m in warm))
        tokens = sum(m.generated_tokens or 0 for m in warm)
        parts.append(f"warm start of {len(warm)} steps on {right} right rollouts ({tokens:,} tokens sampled)")
    elif config.train.warm_start:
        parts.append(f"warm start of up to {config.train.warm_start} steps")
    own = [str(number) for number, stage in enumerate(config.stages) if stage.task or stage.options]
    if own:
        parts.append(f"questions of their own in stages {', '.join(own)} of {len(config.stages)}")
    parts += [f"changed {change}" for change in changes]
    return ", ".join(parts) or "from the bare backbone"
