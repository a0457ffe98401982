"""This project learning a problem: one JSON line per validation. Seconds are those of training steps alone."""

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.items.learning import config, options
from benchmarks.problems import PROBLEMS
from neuromas.run.loop import train


def main() -> None:
    args = options()
    spent = 0.0

    def watch(line: dict[str, Any]) -> None:
        nonlocal spent
        spent += sum(line.get("seconds", {}).values())
        if "validation" in line:
            accuracy = line["validation"]["accuracy"]
            print(json.dumps({"step": line["step"], "seconds": round(spent, 3), "accuracy": accuracy}), flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        train(config(PROBLEMS[args.problem], args.rate, args.seed, args), Path(scratch) / "run", watch=watch)


if __name__ == "__main__":
    main()
