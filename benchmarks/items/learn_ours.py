"""This project learning a problem: one JSON line per validation. Seconds are those of training steps alone."""

import json
import tempfile
from pathlib import Path

from benchmarks.items.learning import config, options
from benchmarks.problems import PROBLEMS
from neuromas.results import StepMetrics
from neuromas.run.loop import train


def main() -> None:
    args = options()
    spent = 0.0

    def on_step(metrics: StepMetrics) -> None:
        nonlocal spent
        spent += sum(metrics.seconds.values())
        if metrics.validation is not None:
            line = {"step": metrics.step, "seconds": round(spent, 3), "accuracy": metrics.validation.accuracy}
            print(json.dumps(line), flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        train(config(PROBLEMS[args.problem], args.rate, args.seed, args), Path(scratch) / "run", on_step=on_step)


if __name__ == "__main__":
    main()
