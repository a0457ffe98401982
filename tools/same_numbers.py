"""Compare the numbers of two checkouts of this project: the demo, a recipe that grows, and two trained baselines.

usage: python tools/same_numbers.py BEFORE [AFTER] --out DIR [--jobs demo grown baseline] [--quick]

Every job runs in either checkout through its command line, on one thread. Its results stay in DIR under a hash of the
checkout's sources, so a job whose results stand is not run again. Then every line of every metrics.jsonl is compared,
and the demo's summary.json: all fields but `seconds` and new ones, numbers exactly. Runs are paired by their settings,
since folders may have other names. Without AFTER the jobs of BEFORE are run and nothing is compared.

Exit code: 0 all numbers are the same; 1 some differ; 2 a job could not run.
"""

import argparse
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASELINES = ("tiny_compositional_collm", "tiny_compositional_malt")
RECIPES = {"grown": ("tiny_compositional_growth",), "baseline": BASELINES}  # job -> names of recipes
JOBS = ("demo", *RECIPES)
COUNTS = "steps|search|sft|anneal|validate_every|validation_questions"  # settings that a shrunk recipe divides
LAUNCHER = """
import pathlib, sys
import neuromas.cli
sources, *args = sys.argv[1:]
found = pathlib.Path(neuromas.cli.__file__)
if not found.is_relative_to(sources):
    sys.exit(f"python found neuromas in {found}, not below {sources}")
neuromas.cli.main(args)
"""


@dataclass(frozen=True)
class Sizes:
    """Lengths of the jobs. `shrink` divides the counts of steps and questions in the recipes."""

    seeds: int = 3
    steps: int = 40
    test: int = 512
    shrink: int = 1


QUICK = Sizes(seeds=1, steps=4, test=16, shrink=20)


@dataclass(frozen=True)
class Row:
    """The comparison of one run, or of one summary: a line of the table."""

    job: str
    run: str
    lines: int
    difference: str | None = None


class JobFailed(Exception):
    """A job could not run; the message says where its output is."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout of this project")
    parser.add_argument("after", type=Path, nargs="?", help="another checkout; may be left out")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS)
    parser.add_argument("--quick", action="store_true", help="sizes of a check that takes minutes")
    for name, default in vars(Sizes()).items():
        parser.add_argument(f"--{name}", type=int, help=f"by default {default}; with --quick {getattr(QUICK, name)}")
    args = parser.parse_args()
    given = {name: value for name in vars(QUICK) if (value := getattr(args, name)) is not None}
    sizes = Sizes(**vars(QUICK if args.quick else Sizes()) | given)
    checkouts = [path.resolve() for path in (args.before, args.after) if path is not None]
    rows: list[Row] = []
    failures: list[str] = []
    for job in [name for kind in args.jobs for name in RECIPES.get(kind, (kind,))]:
        try:
            folders = [run_job(job, checkout, args.out.resolve(), sizes) for checkout in checkouts]
            rows += compare_job(job, *folders) if len(folders) == 2 else ()
        except JobFailed as error:
            failures.append(f"{job}: {error}")
    if rows:
        print(table(rows))
    print("".join(f"could not run {failure}\n" for failure in failures), end="")
    return 2 if failures else int(any(row.difference for row in rows))


def run_job(job: str, checkout: Path, out: Path, sizes: Sizes) -> Path:
    """Run one job in a checkout and return the folder of its results. Raises `JobFailed`."""
    place = out / f"{checkout.name}-{sources_hash(checkout)}"
    demo = job == "demo"
    name = f"demo_{sizes.seeds}_{sizes.steps}_{sizes.test}" if demo else f"{job}_{sizes.shrink}_{sizes.test}"
    if (place / name).is_dir():
        return place / name
    unfinished = place / f"{name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    if demo:
        args = ["demo", "--seeds", str(sizes.seeds), "--steps", str(sizes.steps), "--workers", "1"]
    else:
        recipe = place / f"{name}.toml"
        recipe.write_text(shrunk(recipe_of(checkout, job).read_text(encoding="utf-8"), sizes.shrink), encoding="utf-8")
        args = ["train", str(recipe), "--threads", "1"]
    args += ["--out", str(unfinished), "--test" if demo else "--test-limit", str(sizes.test)]
    start, log = time.perf_counter(), place / f"{name}.log"
    print(f"{checkout}: {job} …", flush=True)
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [sys.executable, "-c", LAUNCHER, str(checkout / "src"), *args],
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        end = log.read_text(encoding="utf-8").strip().rpartition("\n")[2]
        raise JobFailed(f"in {checkout} it ended with exit code {done.returncode}, saying {end!r}; see {log}")
    unfinished.rename(place / name)
    print(f"{checkout}: {job} took {time.perf_counter() - start:.0f} s", flush=True)
    return place / name


def sources_hash(checkout: Path) -> str:
    """A hash of all files of the package in a checkout."""
    digest = hashlib.sha256()
    for path in sorted((checkout / "src" / "neuromas").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(checkout).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def recipe_of(checkout: Path, name: str) -> Path:
    """The recipe of this name in a checkout, published or of a study. Raises `JobFailed` where there is none."""
    for folder in ("recipes", "studies"):
        for path in sorted((checkout / folder).rglob(f"{name}.toml")):
            return path
    raise JobFailed(f"{checkout} has no recipe {name}.toml below recipes/ or studies/")


def shrunk(recipe: str, divisor: int) -> str:
    """A recipe that ends by its steps alone, not by the clock, with its counts divided (at least 1)."""
    recipe = re.sub(r"(?m)^stop_after_seconds = .*\n", "", recipe)
    smaller = lambda match: f"{match[1]} = {max(1, int(match[2]) // divisor)}"
    return re.sub(rf"(?m)^({COUNTS}) = (\d+)", smaller, recipe)


def compare_job(job: str, before: Path, after: Path) -> Iterator[Row]:
    """Compare every run of a job, and its summary where it has one."""
    ours, theirs = runs_of(before), runs_of(after)
    for key in sorted(ours.keys() | theirs.keys()):
        pair = ours.get(key, []), theirs.get(key, [])
        lines = max(map(len, pair))
        if not all(pair):
            yield Row(job, key, lines, f"no such run in {'the second' if pair[0] else 'the first'} checkout")
        else:
            yield Row(job, key, lines, difference_of_lines(*pair))
    summaries = [folder / "summary.json" for folder in (before, after)]
    if any(path.exists() for path in summaries):
        records = [json.loads(path.read_text(encoding="utf-8")) if path.exists() else None for path in summaries]
        yield Row(job, "summary.json", 1, difference(*records))


def runs_of(folder: Path) -> dict[str, list[Any]]:
    """Lines of metrics of each run below a folder, by the settings that tell it from the others.

    Raises `JobFailed` where two runs have the same settings and other numbers.
    """
    runs: dict[str, list[Any]] = {}
    for path in sorted(folder.rglob("metrics.jsonl")):
        config = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        key = settings_of(config)
        if difference_of_lines(runs.setdefault(key, lines), lines):
            raise JobFailed(f"two runs below {folder} have the settings {key} and other numbers")
    return runs


def settings_of(config: dict[str, Any]) -> str:
    """Method, topology (of every stage), adapter, seed and learning rate of a run, as text."""
    shapes = [config["topology"], *(s["topology"] for s in config.get("stages", ()) if s["topology"] is not None)]
    adapter, rate = config["adapter"], config["train"]["learning_rate"]
    shape = " → ".join(s if isinstance(s, str) else json.dumps(s) for s in shapes)
    tied = " tied" if adapter.get("tied") else ""
    return f"{config['method']} {shape}, rank {adapter['rank']}{tied}, rate {rate:g}, seed {config['seed']}"


def difference_of_lines(before: list[Any], after: list[Any]) -> str | None:
    """The first difference of two metrics.jsonl, with its step; None where they are the same."""
    for line, other in zip(before, after, strict=False):
        if text := difference(line, other):
            return f"step {line.get('step')}: {text}"
    return None if len(before) == len(after) else f"{len(before)} lines, then {len(after)}"


def difference(before: Any, after: Any, path: str = "") -> str | None:
    """The first field in which two records differ, with both values; `seconds` is left out at every depth.

    A field that only the second record has is new: there is nothing to compare it with.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() - {"seconds"}):
            inner = f"{path}/{key}" if path else key
            if key not in after:
                return f"{inner} is missing in the second"
            if text := difference(before[key], after[key], inner):
                return text
        return None
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return next((text for i, (a, b) in pairs if (text := difference(a, b, f"{path}[{i}]"))), None)
    both_nan = isinstance(before, float) and isinstance(after, float) and math.isnan(before) and math.isnan(after)
    return None if before == after or both_nan else f"{path} was {before!r}, is {after!r}"


def table(rows: list[Row]) -> str:
    """The comparison as a table of text, and a last line that counts."""
    width = max(len(f"{row.job}: {row.run}") for row in rows)
    lines = [f"{f'{r.job}: {r.run}':<{width}}  {r.lines:>4} lines  {r.difference or 'equal'}" for r in rows]
    different = sum(row.difference is not None for row in rows)
    total = sum(row.lines for row in rows)
    return "\n".join([*lines, f"{len(rows)} compared, {total} lines: {different or 'none'} different"])


if __name__ == "__main__":
    sys.exit(main())
