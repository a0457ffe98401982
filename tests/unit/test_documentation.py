"""The runner of the documentation's examples leaves nothing out without a reason."""

from pathlib import Path

import pytest

from documentation import DOCS, Reader, blocks, small

PAGE = """# Page

```toml title="a.toml"
x = 1
```

```python
from pathlib import Path
said = Path("a.toml").read_text()
```

```text
what it prints
```

<!-- not run: needs a server -->
```sh
curl example.org
```

```python
assert said == "x = 1\\n"
```
"""


def test_files_and_code_are_found_in_order_and_output_is_not_run() -> None:
    assert [(b.language, b.title) for b in blocks(PAGE)] == [("toml", "a.toml"), ("python", ""), ("python", "")]


def test_blocks_share_their_names_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Reader().follow("page", blocks(PAGE))
    with pytest.raises(AssertionError):
        Reader().follow("page", blocks(PAGE.replace('== "x = 1', '== "x = 2')))


def test_a_mistake_in_an_example_tells_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError) as told:
        Reader().follow("page.md", blocks("\n\n```python\nx = 1\n1 / 0\n```\n"))
    assert told.traceback[-1].lineno == 4  # from 0: the fifth line of the page


@pytest.mark.parametrize(
    "block",
    [
        "```toml\nx = 1\n```\n",
        "```\nplain\n```\n```yaml\nx: 1\n```\n",
        "<!-- not run: -->\n```bash\nls\n```\n",
        "<!-- not run: too far away -->\n\n```bash\nls\n```\n",
        '```python title="a.py" hl_lines="1"\nx\n```\n',
    ],
)
def test_a_block_that_would_be_passed_over_in_silence_is_a_mistake(block: str) -> None:
    with pytest.raises(AssertionError):
        blocks(block)


@pytest.mark.parametrize("command", ["curl example.org", "pip install x"])
def test_only_neuromas_and_python_are_run(command: str) -> None:
    with pytest.raises(AssertionError, match="only neuromas and python"):
        Reader().follow("page", blocks(f"```sh\n{command}\n```\n"))


def test_a_mistake_of_a_command_is_a_mistake_of_the_page() -> None:
    with pytest.raises(SystemExit):
        Reader().follow("page", blocks("```sh\nneuromas draw 0-1\n```\n"))


def test_numbers_that_are_not_on_the_page_cannot_be_made_small() -> None:
    assert small("steps = 60", {"60": "1"}) == "steps = 1"
    with pytest.raises(AssertionError, match="steps = 61"):
        small("steps = 60", {"steps = 61": "steps = 1"})


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_page_says_of_each_example_whether_it_runs(page: Path) -> None:
    if page.name in ("architecture.md", "serving.md"):  # fragments that explain, no instructions to follow
        return
    blocks(page.read_text(encoding="utf-8"))
