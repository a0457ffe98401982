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

from neuromas.errors import ConfigError, require
from neuromas.network.forward import Network
from neuromas.network.stopping import cut
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
    needed = ("`neuromas harness`", "pip install -e '.[harness]'", "", ConfigError)
    harness, manager = (require(module, *needed) for module in ("lm_eval", "lm_eval.tasks"))
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
            answers[i] = cut(trace.answer, stops_of(requests[i][1].get("until")))[0]
    return [answers[i] for i in range(len(requests))]


def stops_of(until: str | Sequence[str] | None) -> list[str]:
    """The stop strings of a task of the harness, which gives one, several, or none."""
    return [*filter(None, [until] if isinstance(until, str) else until or [])]


_LIMITS = ("max_gen_toks", "max_new_tokens", "max_completion_tokens", "max_tokens")  # of one number, by precedence
_DEFAULTS: dict[str, tuple[object, ...]] = {  # settings that a network does not have -> values that ask for nothing
    "num_beams": (1,), "num_return_sequences": (1,), "repetition_penalty": (1,), "no_repeat_ngram_size": (0,),
    "use_cache": (True, False), "pad_token_id": (), "eos_token_id": (), "seed": (), "n": (1,), "best_of": (1,),
    "frequency_penalty": (0,), "presence_penalty": (0,), "length_penalty": (1,), "early_stopping": (False,),
}  # fmt: skip
_SAMPLING: dict[str, tuple[object, ...]] = {  # the same of settings that a greedy answer does not read
    "top_k": (0, -1), "min_p": (0,), "typical_p": (1,), "epsilon_cutoff": (0,), "eta_cutoff": (0,),
}  # fmt: skip


def _sampling(settings: dict[str, Any]) -> tuple[bool, float, float, int | None]:
    """(sampled, temperature, top_p, most tokens) of a request, whose settings have the names of transformers.

    Raises ConfigError that names a setting which asks for what a network does not do.
    """
    given = {name: value for name, value in settings.items() if value is not None and name != "until"}
    warm = given.pop("temperature", 1.0 if given.get("do_sample") else 0.0)
    sampled = given.pop("do_sample", warm > 0) and warm > 0 and given.get("top_k") != 1  # the likeliest of one is it
    top_p, limits = given.pop("top_p", 1.0), [given.pop(name, None) for name in _LIMITS]
    for name, value in given.items():
        if value in _DEFAULTS.get(name, ()) or (name in _SAMPLING and (not sampled or value in _SAMPLING[name])):
            continue
        raise ConfigError(
            f"the task generates with {name} = {value!r}, which a network does not do; leave it out of the task's "
            "generation_kwargs, or choose another task"
        )
    tokens = next((int(limit) for limit in limits if limit), None)
    return bool(sampled), float(warm) if sampled else 1.0, float(top_p), tokens
