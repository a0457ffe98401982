"""`neuromas ask`: one question to a run, and everything its nodes say on the way."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from neuromas.cli.options import SystemOptions

if TYPE_CHECKING:
    from neuromas.cli.systems import Loaded


def main(
    system: Annotated[str, tyro.conf.Positional],
    question: Annotated[str, tyro.conf.Positional],
    source: SystemOptions,
    sampled: bool = False,
    blank: tuple[str, ...] = (),
    prompts: bool = False,
    seed: int = 0,
    json: Path | None = None,
) -> None:
    """Ask one question and see the whole trace.

    Args:
        system: A run folder, or a baseline (see `neuromas baselines`).
        question: The question's text.
        source: Options of the system.
        sampled: Sample instead of decoding greedily.
        blank: Nodes whose message is delivered empty.
        prompts: Show every node's whole prompt too.
        seed: Of sampling.
        json: Write the trace to this file.
    """
    from neuromas.cli.show import print_trace
    from neuromas.cli.systems import load_system, question_of
    from neuromas.errors import ConfigError
    from neuromas.files import write_json
    from neuromas.network.forward import Network

    if system == "logit":
        raise ConfigError("logit scores a task's options and writes nothing; ask `direct` or a run folder")
    loaded = load_system(system, source)
    subject = loaded.system
    silent: dict[str, Any] = {}
    if blank:
        nodes = subject.topology.nodes if isinstance(subject, Network) else ()
        unknown = set(blank) - set(nodes)
        if unknown:
            raise ConfigError(f"blank names {sorted(unknown)}, but the nodes are {', '.join(nodes) or 'none'}")
        silent = {"blank": blank}
    asked = question_of(loaded, system, source.recipe, question)
    decode = _decoder(loaded) if prompts else None
    trace = subject.answer([asked], greedy=not sampled, seed=seed, **silent)[0]
    print_trace(asked, trace, decode=decode)
    if json is not None:
        write_json(json, trace.to_dict())


def _decoder(loaded: "Loaded") -> Callable[[list[int]], str]:
    """Turns a prompt's ids into text."""
    from neuromas.errors import ConfigError
    from neuromas.network.backbone import Backbone

    if not isinstance(loaded.backbone, Backbone):
        raise ConfigError("--prompts decodes the prompts' tokens, and an endpoint tells none; leave it out")
    return loaded.backbone.tokenizer.decode
