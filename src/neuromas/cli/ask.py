"""`neuromas ask`: one question to a run, and everything its nodes say on the way."""

from pathlib import Path
from typing import Annotated, Any

import tyro

from neuromas.cli.options import Natural, SystemOptions


def main(
    system: Annotated[str, tyro.conf.Positional],
    question: Annotated[str, tyro.conf.Positional],
    source: SystemOptions,
    sampled: bool = False,
    blank: tuple[str, ...] = (),
    prompts: bool = False,
    seed: Natural = 0,
    json: Path | None = None,
) -> None:
    """Ask one question and see the whole trace.

    Args:
        system: A run folder, an export on the hub (OWNER/NAME), or a baseline (see `neuromas baselines`).
        question: The question's text.
        source: Options of the system.
        sampled: Sample instead of decoding greedily.
        blank: Nodes whose message is delivered empty.
        prompts: Show every node's whole prompt too.
        seed: Seed of sampling.
        json: Write the trace to this file.
    """
    from neuromas.cli.show import print_trace
    from neuromas.cli.systems import load_system, question_of
    from neuromas.errors import ConfigError
    from neuromas.files import write_json
    from neuromas.network.backbone import Backbone
    from neuromas.network.forward import Network

    if system == "logit":
        raise ConfigError("logit scores a task's options and writes nothing; ask `direct` or a run folder")
    loaded = load_system(system, source)
    decoding: dict[str, Any] = {"greedy": not sampled, "seed": seed}
    if blank:
        nodes = loaded.system.topology.nodes if isinstance(loaded.system, Network) else ()
        unknown = set(blank) - set(nodes)
        if unknown:
            raise ConfigError(f"blank names {sorted(unknown)}, but the nodes are {', '.join(nodes) or 'none'}")
        decoding["blank"] = blank
    decode = None
    if prompts:
        if not isinstance(loaded.backbone, Backbone):
            raise ConfigError("--prompts decodes the prompts' tokens, which an endpoint does not send; leave it out")
        decode = loaded.backbone.tokenizer.decode
    asked = question_of(loaded, system, source.recipe, question)
    trace = loaded.system.answer([asked], **decoding)[0]
    if json is not None:
        write_json(json, trace.to_dict())
    print_trace(asked, trace, decode=decode)
