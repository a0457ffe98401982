"""`neuromas grow`: a larger network out of a trained one."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from neuromas.cli.options import Amount, Factor, Natural, Positive
from neuromas.files import of_a_step, read_json_lines


def main(
    run: Annotated[Path, tyro.conf.Positional],
    topology: str,
    out: Path,
    init: Literal["fade", "copy", "zero", "noise"] = "fade",
    steps: Positive | None = None,
    anneal: Natural | None = None,
    freeze: Natural = 0,
    old_scale: Factor = 1.0,
    learning_rate: Amount | None = None,
    checkpoint: Literal["last", "best"] = "last",
) -> None:
    """Grow a trained network; `neuromas train --resume --out OUT` then trains it on.

    Args:
        run: The run folder of the trained network. It stays as it is.
        topology: The larger topology; it must contain the run's. See `neuromas draw`.
        out: A new run folder, with the history of the old one.
        init: Beginning of new nodes: faded in, a copy of a sibling, the bare backbone, or with noise.
        steps: Further steps; by default as many as the run has.
        anneal: Steps over which `fade` opens the new nodes; by default 20.
        freeze: First steps in which old nodes do not learn.
        old_scale: Learning rate of old message nodes, as a multiple.
        learning_rate: Learning rate of AdamW from here on; by default as before.
        checkpoint: State of the run: its last one, or the best on validation.
    """
    from neuromas.cli.training import print_growth
    from neuromas.run.grow import grow_run

    stage = {"topology": topology, "init": init, "freeze": freeze, "old_scale": old_scale}
    stage |= {"learning_rate": learning_rate} | ({} if anneal is None else {"anneal": anneal})
    done = max((line["step"] for line in read_json_lines(run / "metrics.jsonl", of_a_step)), default=0)
    further = done if steps is None else steps
    progress = grow_run(run, stage, out, steps=further, which=checkpoint)
    print_growth(progress.lineage[-1], f"neuromas train --resume --out {out}", further)
