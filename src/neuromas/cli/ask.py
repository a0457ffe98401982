"""`neuromas ask`: one question to a run, and everything its nodes say on the way."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro


def main(
    system: Annotated[str, tyro.conf.Positional],
    question: Annotated[str, tyro.conf.Positional],
    checkpoint: Literal["best", "last"] = "best",
    recipe: Path | None = None,
    backbone: str | None = None,
    sampled: bool = False,
    blank: tuple[str, ...] = (),
    prompts: bool = False,
    seed: int = 0,
    json: Path | None = None,
    threads: int | None = None,
) -> None:
    """Ask one question and see the whole trace.

    Args:
        system: A run folder, or `direct` (the bare backbone, one call).
        question: The question's text.
        checkpoint: Which state of the run: best on validation, or last.
        recipe: Where `direct` takes task, backbone and sampling from.
        backbone: The model of `direct`.
        sampled: Sample instead of decoding greedily.
        blank: Nodes whose message is delivered empty.
        prompts: Show every node's whole prompt too.
        seed: Of sampling.
        json: Write the trace to this file.
        threads: CPU threads; by default all cores.
    """
    from neuromas.cli.show import print_trace
    from neuromas.cli.systems import load_system
    from neuromas.errors import ConfigError
    from neuromas.evaluate.baselines.logit import Logit
    from neuromas.files import write_json
    from neuromas.types import Question

    network, task = load_system(system, None, recipe, backbone, checkpoint, threads)
    if isinstance(network, Logit):
        raise ConfigError("logit scores a task's options and writes nothing; ask `direct` or a run folder instead")
    unknown = set(blank) - set(network.topology.nodes)
    if unknown:
        raise ConfigError(f"blank names {sorted(unknown)}, but the nodes are {', '.join(network.topology.nodes)}")
    asked = Question("asked", question, "")
    if system != "direct" or recipe is not None:  # ask as the task does that the network was trained on
        pattern = task.questions("test")[0]
        asked = replace(pattern, id="asked", text=question, answer="", metadata={})
    trace = network.answer([asked], greedy=not sampled, seed=seed, blank=blank)[0]
    print_trace(asked, trace, decode=network.backbone.tokenizer.decode if prompts else None)
    if json is not None:
        write_json(json, trace.to_dict())
