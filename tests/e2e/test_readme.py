"""The README's Python example runs as it stands, but for fewer steps."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def test_the_python_example_trains_and_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    short = code.replace('"steps": 40', '"steps": 1, "validation_questions": 8').replace('"test", 200', '"test", 8')
    assert short.count('"steps": 1,') == 1
    monkeypatch.chdir(tmp_path)
    exec(compile(short, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "'accuracy':" in printed and "NodeCall(node='out'" in printed
    assert (tmp_path / "runs" / "first" / "checkpoints" / "step-000001" / "topology.json").is_file()
