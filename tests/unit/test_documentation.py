"""The documentation says what the code is: generated parts, files, commands and options that it names; and the runner
of its examples leaves nothing out without a reason."""

import importlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from documentation import DOCS, ROOT, Shell, blocks, follow, small
from neuromas.cli import COMMANDS
from neuromas.results import FitCost, NodeMetrics, Result, StepMetrics, TrainingCost, ValidationMetrics
from neuromas.types import Floors
from tools.generate_docs import MISSING, PAGES, arguments, generated

TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
HISTORY = ("docs/LOG.md",)  # says what was so; it is not rewritten
CURRENT = {name: text for name, text in TEXTS.items() if name not in HISTORY}


@pytest.mark.parametrize("name", TEXTS)
def test_generated_parts_say_what_the_code_says(name: str) -> None:
    assert generated(TEXTS[name]) == TEXTS[name], f"{name} is behind the code; run `make generate` and commit it"
    assert MISSING not in TEXTS[name], f"{name} has a row without a text; write it there, or in the code"


def test_a_change_of_the_code_changes_the_page() -> None:
    page = TEXTS["docs/settings.md"]
    assert generated(page.replace("| `0.001` |", "| `0.002` |")) == page
    assert "`train.steps`" in page and "`neuromas plan" in TEXTS["README.md"]


@pytest.mark.parametrize("name", CURRENT)
def test_files_that_a_page_names_exist(name: str) -> None:
    """Code spans such as `network/forward.py`, below the root, the package, or the folders that pages speak of."""
    places = [ROOT, ROOT / "src" / "neuromas", DOCS, ROOT / "tests", ROOT / "tests" / "unit", ROOT / "docs/results"]
    own = set(re.findall(r'^```\w+ title="([^"]+)"', CURRENT[name], re.MULTILINE))
    for path in re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:py|toml|md))`", CURRENT[name]):
        if path in own or "/" not in path or path.startswith("runs/"):  # an example's own, or of no stated folder
            continue
        assert any((place / path).exists() for place in places), f"{name} names {path}, which does not exist"


def typed(text: str) -> Iterator[list[str]]:
    """The words of every command line of this project that a page shows, in a block or in a sentence."""
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    spans = re.findall(r"`([^`\n]+)`", text)
    for line in [*lines, *spans]:
        words = line.split(" #")[0].split()
        if words and words[0] in ("neuromas", "make"):
            yield words


@pytest.mark.parametrize("name", CURRENT)
def test_commands_and_options_that_a_page_names_exist(name: str) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for words in typed(CURRENT[name]):
        verbs = [word for word in words[1:] if re.fullmatch(r"[a-z][\w-]*", word)][:1]
        if words[0] == "make":
            assert not verbs or verbs[0] in targets, f"{name}: {' '.join(words)}"
        elif verbs and words[1] == verbs[0]:
            assert verbs[0] in COMMANDS, f"{name}: {' '.join(words)}"
            known = {argument.option for argument in arguments(verbs[0])}
            given = [re.split(r"[=…]", word.strip("[]()"))[0] for word in words if word.strip("[(").startswith("--")]
            unknown = {option for option in given if option.replace("--no-", "--") not in known} - {"--help"}
            assert not unknown, f"{name}: {' '.join(words)}: no {', '.join(unknown)}"


def test_the_readme_names_options_that_its_commands_have() -> None:
    rows = re.findall(r"^\| `neuromas (\w+).*?` \|.*?\| (.*) \|$", TEXTS["README.md"], re.MULTILINE)
    assert {name for name, _ in rows} == COMMANDS.keys()
    for name, text in rows:
        known = {argument.option for argument in arguments(name)}
        assert set(re.findall(r"--[\w-]+", text)) <= known, f"neuromas {name}"


def test_the_text_of_the_package_leads_nowhere_that_an_index_does_not_have() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["authors"] and project["readme"] in TEXTS
    assert re.findall(r"\]\((?!https://)|<img|!\[", TEXTS[project["readme"]]) == []


@pytest.mark.parametrize("record", [StepMetrics, NodeMetrics, ValidationMetrics, Result, Floors, TrainingCost, FitCost])
def test_the_page_of_metrics_explains_every_field_of_the_records(record: type) -> None:
    explained = set(re.findall(r"[\w]+", "".join(re.findall(r"`[^`]+`", TEXTS["docs/metrics.md"]))))
    names = {field.name for field in fields(record)}
    assert names <= explained, f"docs/metrics.md does not explain {names - explained} of {record.__name__}"


@pytest.mark.parametrize("page", sorted(DOCS.glob("reference/*.md")), ids=lambda page: page.name)
def test_the_reference_names_what_exists(page: Path) -> None:
    for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        assert exists(name), f"{page.name} shows {name}, which does not exist"


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    try:
        return importlib.import_module(name) is not None
    except ModuleNotFoundError:
        module, _, last = name.rpartition(".")
        return hasattr(importlib.import_module(module), last)


def test_every_page_stands_in_the_navigation_of_the_site() -> None:
    """Else a strict build of the site (tests/e2e/test_site.py) ends with a warning."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    named = set(re.findall(r"[\w./-]+\.md", navigation))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    outside = {
        "overview.md",
        "notebook.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "benchmarks/README.md",
    }  # tools/docs_site.py
    assert pages <= named <= pages | outside


@pytest.mark.parametrize("name", TEXTS)
def test_a_page_says_of_each_example_whether_it_runs(name: str) -> None:
    if name != "CONTRIBUTING.md":  # commands for those who know them
        blocks(TEXTS[name])


def test_long_pages_stay_short_where_they_are_read_first() -> None:
    assert len(TEXTS["docs/architecture.md"].splitlines()) <= 150
    table = re.search(r"^\| claim .*?\n\n", TEXTS["docs/LOG.md"], re.DOTALL | re.MULTILINE)
    assert table and len(table[0].strip().splitlines()) <= 15, "docs/LOG.md opens with at most 15 lines"
    assert table.start() < TEXTS["docs/LOG.md"].index("\n---\n"), "the table comes before the first entry"


# The runner of the examples

PAGE = """# Page

```toml title="a.toml"
x = 1
```

```sh
grep 1 \\
  a.toml
```

```text
what it prints
```

<!-- not run: needs a server -->
```sh
curl example.org
```

```python
said = open("a.toml").read()
assert said == "x = 1\\n"
```
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path, seconds=60)
    yield made
    made.close()


def test_files_commands_and_code_are_found_in_order_and_output_is_not_run() -> None:
    found = [(block.language, block.title) for block in blocks(PAGE)]
    assert found == [("toml", "a.toml"), ("sh", ""), ("python", "")]


def test_a_page_is_followed(shell: Shell, tmp_path: Path) -> None:
    shell.run('python() { python3 "$@"; }')  # no environment is activated here
    assert "x = 1" in follow(shell, tmp_path, "page.md", PAGE)
    with pytest.raises(AssertionError, match=r"(?s)page.md:21.*line 23.*AssertionError"):
        follow(shell, tmp_path, "page.md", PAGE.replace('== "x = 1', '== "x = 2'))


def test_a_command_that_fails_is_a_mistake_of_the_page(shell: Shell, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"page.md:2: 'false' failed"):
        follow(shell, tmp_path, "page.md", "\n```sh\ntrue\nfalse\n```\n")
    with pytest.raises(AssertionError, match="failed"):
        shell.run("neuromas --help")  # which is not there before it is installed and activated


def test_a_server_is_waited_for_and_can_be_stopped(shell: Shell) -> None:
    assert "at http://127.0.0.1:1" in shell.run("(sleep 0.2; echo at http://127.0.0.1:1; sleep 60) &  # a server")
    shell.run('kill %1; wait %1; test -z "$(jobs -r)"')


def test_a_shell_knows_nothing_of_this_process(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell.run("echo [$VIRTUAL_ENV$PYTHONPATH]").strip() == "[]"


@pytest.mark.parametrize(
    "block",
    [
        "```toml\nx = 1\n```\n",
        "```\nplain\n```\n",
        "<!-- not run: -->\n```bash\nls\n```\n",
        "<!-- not run: too far away -->\n\n```bash\nls\n```\n",
        '```python title="a.py" hl_lines="1"\nx\n```\n',
    ],
)
def test_a_block_that_would_be_passed_over_in_silence_is_a_mistake(block: str) -> None:
    with pytest.raises(AssertionError):
        blocks(block)


def test_numbers_that_are_not_on_the_page_cannot_be_made_small() -> None:
    assert small("steps = 60", {"60": "1"}) == "steps = 1"
    with pytest.raises(AssertionError, match="steps = 61"):
        small("steps = 60", {"steps = 61": "steps = 1"})
