"""Copy finished comparisons into docs/results: raw lines (compressed), recipe, report and plot.

usage: python tools/publish_comparison.py RECIPE FOLDER [RECIPE FOLDER …]    (folders of `neuromas compare`)

The report is written anew from the copied lines alone, so `neuromas compare docs/results/NAME --report` gives it again.
"""

import gzip
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from neuromas.evaluate.report import write_report
from neuromas.evaluate.table import ANSWERS, CELLS
from neuromas.files import read_json_lines

TARGET = Path(__file__).parents[1] / "docs" / "results"
# Tasks whose questions are ours to spread.
OURS = ("compositional", "reasoning-gym", "steps.toml", "words.toml", "products.toml", "larger.toml")
LONG = 40  # characters; a longer answer is a program


def main(recipe: Path, folder: Path) -> None:
    target = TARGET / recipe.stem
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(recipe, target / "recipe.toml")
    shutil.copyfile(folder / CELLS, target / CELLS)
    lines = (json.dumps(publishable(line), ensure_ascii=False) + "\n" for line in read_json_lines(folder / ANSWERS))
    with gzip.GzipFile(target / f"{ANSWERS}.gz", "wb", mtime=0) as file:  # mtime: the same lines give the same bytes
        for line in lines:
            file.write(line.encode())
    write_report(target)
    for unwanted in ("report.html", "results.json"):  # large, and made again by --report
        (target / unwanted).unlink()
    print(target)


def publishable(line: dict[str, Any]) -> dict[str, Any]:
    """Without what was written about a benchmark's question: it may quote the question, which is not ours to spread."""
    if line["task"].startswith(OURS):
        return line
    short = lambda text: f"sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]}" if len(text) > LONG else text
    kept = {key: line[key] and short(line[key]) for key in ("answer", "parsed")}
    return line | kept | {"reply": "", "messages": None}


if __name__ == "__main__":
    if len(sys.argv) < 3 or len(sys.argv) % 2 == 0:
        sys.exit(__doc__)
    for recipe, folder in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        main(Path(recipe), Path(folder))
