"""`neuromas ask`: questions to a run, and everything its nodes say on the way."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from neuromas.cli import goes_on
from neuromas.cli.options import Natural, SystemOptions
from neuromas.cli.show import bar, console, print_trace
from neuromas.errors import ConfigError
from neuromas.files import write_json

if TYPE_CHECKING:
    from neuromas.cli.systems import Loaded


def main(
    system: Annotated[str, tyro.conf.Positional],
    source: SystemOptions,
    question: Annotated[str | None, tyro.conf.Positional] = None,
    file: Path | None = None,
    column: str | None = None,
    out: Path | None = None,
    sampled: bool = False,
    blank: tuple[str, ...] = (),
    prompts: bool = False,
    seed: Natural = 0,
    json: Path | None = None,
) -> None:
    """Ask a question and see the whole trace; without a question, ask what is typed, or piped in, line by line.

    Args:
        system: A run folder, an export on the hub (OWNER/NAME), or a baseline (see `neuromas baselines`).
        source: Options of the system.
        question: The question's text.
        file: Table whose rows are asked; answers and messages go to OUT, and a second call goes on there.
        column: Column of the questions in FILE; by default that of the run's task, or guessed.
        out: Table of answers to FILE: .csv, .tsv or .jsonl.
        sampled: Sample instead of decoding greedily.
        blank: Nodes whose message is delivered empty.
        prompts: Show every node's whole prompt too.
        seed: Seed of sampling.
        json: Write the trace to this file.
    """
    from neuromas.cli.batch import typed_questions
    from neuromas.cli.systems import load_system
    from neuromas.network.backbone import Backbone

    if system == "logit":
        raise ConfigError("logit scores a task's options and writes nothing; ask `direct` or a run folder")
    if (file is None) != (out is None) or (file is not None and (question or json or prompts)):
        raise ConfigError("--file and --out go together, and without a question, --json or --prompts")
    if json is not None and question is None:
        raise ConfigError("--json writes the trace of one question; give the question, or use --file and --out")
    loaded = load_system(system, source)
    decoding: dict[str, Any] = {"greedy": not sampled, "seed": seed} | _blanked(loaded, blank)
    if file is not None and out is not None:
        _ask_file(loaded, file, out, column, decoding)
        return
    decode = None
    if prompts:
        if not isinstance(loaded.backbone, Backbone):
            raise ConfigError("--prompts decodes the prompts' tokens, which an endpoint does not send; leave it out")
        decode = loaded.backbone.tokenizer.decode
    for text in typed_questions() if question is None else [question]:
        asked = loaded.asked(text)
        trace = loaded.system.answer([asked], **decoding)[0]
        if json is not None:
            write_json(json, trace.to_dict())
        print_trace(asked, trace, decode=decode)


def _blanked(loaded: "Loaded", blank: tuple[str, ...]) -> dict[str, Any]:
    """The option of `answer` for nodes whose message is delivered empty. Raises ConfigError for an unknown node."""
    from neuromas.network.forward import Network

    nodes = loaded.system.topology.nodes if isinstance(loaded.system, Network) else ()
    if unknown := set(blank) - set(nodes):
        raise ConfigError(f"blank names {sorted(unknown)}, but the nodes are {', '.join(nodes) or 'none'}")
    return {"blank": blank} if blank else {}


def _ask_file(loaded: "Loaded", file: Path, out: Path, column: str | None, decoding: dict[str, Any]) -> None:
    from neuromas.cli.batch import answer_file

    goes_on()
    with bar(f"{loaded.system.name} on {file.name}") as progress:
        count = answer_file(loaded, file, out, column, decoding, progress)
    console.print(f"{out}: {count} answers", markup=False)
