"""The published report of growth is what its published lines say."""

import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parents[2] / "docs/results/growth_tiny"
TOOL = Path(__file__).parents[2] / "tools/growth_report.py"


def test_the_published_report_is_made_of_the_published_lines(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, TOOL, RESULTS, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == (RESULTS / "report.md").read_text(encoding="utf-8")
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {path.name for path in RESULTS.glob("*.png")}
