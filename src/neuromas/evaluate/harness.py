"""A network as a model of EleutherAI's lm-evaluation-harness, so that any of its generative tasks runs on it.

The harness renders a prompt; the network reads it as a question without an instruction; its answer is cut at the
task's stop strings. Tasks that score given continuations (`loglikelihood`) are refused: what a network thinks of a text
that it did not write depends on messages that are sampled.
"""

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuromas.errors import ConfigError
from neuromas.network.forward import Network
from neuromas.tasks.loaded import digest
from neuromas.types import Question


def evaluate(
    network: Network,
    tasks: Sequence[str],
    *,
    include: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The harness's report on `tasks`, among it `results` and `samples`. Raises ConfigError.

    include: a folder of further task files (YAML). limit: use only the first `limit` items of each task.
    """
    try:
        harness, manager = (importlib.import_module(f"lm_eval{part}") for part in ("", ".tasks"))
    except ImportError as error:
        raise ConfigError(f"the harness is not installed ({error}); run `pip install -e '.[harness]'`") from error
    known = manager.TaskManager(include_path=None if include is None else str(include))
    if unknown := [name for name in tasks if not known.match_tasks([name])]:
        raise ConfigError(f"the harness has no task {unknown[0]!r}; `lm-eval ls tasks` lists them, --include adds some")
    return harness.simple_evaluate(
        model=as_model(network, seed), tasks=list(tasks), task_manager=known, limit=limit, bootstrap_iters=1000
    )


def as_model(network: Network, seed: int = 0) -> Any:
    """An `lm_eval.api.model.LM` that answers through `network`."""
    base: Any = importlib.import_module("lm_eval.api.model").LM

    class NetworkModel(base):
        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            return generate_until(network, [request.args for request in requests], seed)

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            raise ConfigError(
                "this task scores given continuations, which a network of nodes cannot: its messages are sampled; "
                "choose a task whose output_type is generate_until"
            )

        loglikelihood_rolling = loglikelihood

    return NetworkModel()


def generate_until(network: Network, requests: Sequence[tuple[str, dict[str, Any]]], seed: int) -> list[str]:
    """An answer to each (prompt, settings of the generation), in order; those with equal settings go together."""
    groups: dict[tuple[bool, float, float, int | None], list[int]] = {}
    for i, (_, settings) in enumerate(requests):
        groups.setdefault(_sampling(settings), []).append(i)
    answers: dict[int, str] = {}
    for (sampled, temperature, top_p, tokens), members in groups.items():
        limits, decoding = network.limits, network.decoding
        if tokens is not None:
            limits = replace(limits, answer_tokens=tokens)
        if sampled:
            decoding = replace(decoding, temperature=temperature, top_p=top_p)
        variant = Network(network.topology, network.backbone, network.adapters, limits, decoding, words=network.words)
        questions = [Question(f"harness-{digest(requests[i][0])[:16]}", requests[i][0], "") for i in members]
        for i, trace in zip(members, variant.answer(questions, greedy=not sampled, seed=seed), strict=True):
            answers[i] = cut(trace.answer, requests[i][1].get("until") or [])
    return [answers[i] for i in range(len(requests))]


def cut(text: str, until: str | Sequence[str]) -> str:
    """The text before the first of the stop strings."""
    stops = [until] if isinstance(until, str) else until
    return text[: min([at for stop in stops if stop and (at := text.find(stop)) >= 0], default=len(text))]


def _sampling(settings: dict[str, Any]) -> tuple[bool, float, float, int | None]:
    """(sampled, temperature, top_p, most tokens) of a request, whose settings have the names of transformers."""
    temperature = float(settings.get("temperature") or 0.0)
    sampled = bool(settings.get("do_sample", temperature > 0)) and temperature > 0
    tokens = settings.get("max_gen_toks") or settings.get("max_new_tokens")
    return sampled, temperature if sampled else 1.0, float(settings.get("top_p") or 1.0), tokens and int(tokens)
