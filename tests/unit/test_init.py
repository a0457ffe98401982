"""From a table to a run: what is guessed, what `neuromas init` writes, and the schemas of such files."""

import codecs
import csv
import io
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import neuromas as nm
from neuromas import cli
from neuromas.config import RunConfig
from neuromas.errors import TaskError
from neuromas.recipe import toml_value
from neuromas.schema import KINDS, schema
from neuromas.tasks import SPLITS, load_task
from neuromas.tasks.guess import guess

ROOT = Path(__file__).parents[2]
N = 20


def table(file: Path, head: Sequence[str], rows: Sequence[Sequence[Any]], delimiter: str = ",", bom: str = "") -> Path:
    """A CSV file."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([head, *rows])
    file.write_bytes(bom.encode() + text.getvalue().encode())
    return file


TABLES = [  # header, the row of a number, and the settings that must be guessed
    (["country", "capital"], lambda n: [f"Land {n}", f"City {n}"], {"question": "country", "answer": "capital"}),
    (["Nr", "Frage", "Antwort"], lambda n: [n, f"Wo ist {n}?", f"Ort {n}"], {"question": "Frage", "answer": "Antwort"}),
    (["answer", "prompt"], lambda n: [f"x{n}", f"say x{n}"], {"question": "prompt", "answer": "answer"}),
    (["which", "index"], lambda n: [f"number {n}", n], {"question": "which", "answer": "index", "grader": "number"}),
    (["Problem", "Note", "Result"], lambda n: [f"{n}+1?", "", n + 1], {"answer": "Result", "grader": "number"}),
    (["q", "a"], lambda n: [f"{n} apples?", f"{n} = so #### {n}"], {"question": "q", "grader": "number"}),
    (["sum", "true?"], lambda n: [f"{n}+1={n}?", "FALSE" if n % 2 else "True"], {"grader": "yes-no"}),
    (
        ["text", "label"],
        lambda n: [f"text {n}", ["good", "bad"][n % 2]],
        {"grader": "exact", "instruction": "Answer with one of: bad, good."},
    ),
    (
        ["Question", "A", "B", "C", "Answer"],
        lambda n: [f"q {n}", "x", "y", "" if n == 3 else "z", "AB"[n % 2]],
        {"choices": ["A", "B", "C"], "grader": "choice", "question": "Question", "answer": "Answer"},
    ),
    (
        ["question", "Option 1", "Option 2", "correct"],
        lambda n: [f"q {n}", f"x{n}", f"y{n}", 1 + n % 2],
        {"choices": ["Option 1", "Option 2"], "answer": "correct"},
    ),
    (
        ["question", "choices", "answer"],
        lambda n: [f"q {n}", json.dumps([f"x{n}", f"y{n}"]), f"y{n}"],
        {"choices": "choices", "grader": "choice"},
    ),
]


@pytest.mark.parametrize(("head", "row", "expected"), TABLES, ids=[",".join(head) for head, _, _ in TABLES])
def test_a_table_tells_its_columns_and_grader_and_every_gold_scores(head, row, expected, tmp_path) -> None:
    file = table(tmp_path / "rows.csv", head, [row(n) for n in range(N)])
    found = guess(file, {}).settings
    assert {key: found[key] for key in expected} == expected
    own = load_task(str(file))
    assert [len(own.questions(split)) for split in SPLITS] == [12, 4, 4]
    for question in own.questions("train"):
        assert own.grade(question, question.answer).reward == 1


def test_what_is_told_is_not_guessed(tmp_path) -> None:
    file = table(tmp_path / "rows.csv", ["a", "b", "c"], [[f"a{n}", f"b{n}", f"c {n} d"] for n in range(N)])
    assert guess(file, {}).settings["question"] == "c"
    told = load_task(str(file), question="a", answer="b", test_size=2)
    assert (told.questions("test")[0].text[0], len(told.questions("test"))) == ("a", 2)


FAULTS = [
    (["question", "answer"], 2, "2 rows"),
    (["answer"], N, "no column seems to hold the questions"),
    (["question"], N, "no column seems to hold the answers"),
]


@pytest.mark.parametrize(("head", "rows", "message"), FAULTS)
def test_a_table_that_is_no_task_is_refused(head, rows, message, tmp_path) -> None:
    file = table(tmp_path / "rows.csv", head, [[f"{name} {n}" for name in head] for n in range(rows)])
    with pytest.raises(TaskError, match=message):
        load_task(str(file))


def test_other_files_and_columns_are_named_in_the_error(tmp_path) -> None:
    (tmp_path / "rows.xlsx").write_text("")
    file = table(tmp_path / "rows.csv", ["question", "answer"], [[f"q{n}", n] for n in range(N)])
    for name, options, message in (
        ("rows.xlsx", {}, "save the sheet as CSV"),
        ("gone.csv", {}, "does not exist"),
        (file.name, {"answer": "reply"}, "no column 'reply'; it has question, answer"),
    ):
        with pytest.raises(TaskError, match=message):
            load_task(str(tmp_path / name), **options)


def test_a_folder_of_splits_keeps_its_test(tmp_path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for split, first in (("train", 0), ("test", 50)):
        table(folder / f"{split}.csv", ["q", "a"], [[f"{split} {n}", n] for n in range(first, first + 10)])
    task = load_task(str(folder))
    assert [len(task.questions(split)) for split in SPLITS] == [8, 2, 10]
    assert {q.text[:4] for q in task.questions("test")} == {"test"}


def test_long_answers_are_warned_of(tmp_path) -> None:
    file = table(tmp_path / "rows.csv", ["question", "answer"], [[f"q{n}", f"{n} and " * 12] for n in range(N)])
    assert "reward.py:score" in guess(file, {}).warnings[0]


@pytest.fixture
def started(tmp_path, monkeypatch, capsys) -> tuple[Path, str]:
    """A folder in which `neuromas init` has met a table as Excel writes it for much of Europe, and what it printed."""
    folder = tmp_path / "my data"
    folder.mkdir()
    rows = [[f"[/x] Land {n}", f"Stadt {n}"] for n in range(N)]
    table(folder / "städte.csv", ["Land", "Hauptstadt"], [*rows, ["", ""]], ";", codecs.BOM_UTF8.decode())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEUROMAS_CACHE", str(tmp_path / "cache"))
    cli.main(["init", "my data/städte.csv", "--backbone", "tiny"])
    return folder, capsys.readouterr().out


def test_init_writes_a_recipe_that_runs_as_it_is_and_overwrites_nothing(started, capsys) -> None:
    folder, shown = started
    assert shown.count("answer: Stadt") == 5
    assert "neuromas train 'my data/städte_recipe.toml' --out 'runs/städte'" in shown
    assert "best constant" in shown and "[/x]" in shown
    config = RunConfig.load(Path("my data/städte_recipe.toml"))
    assert (config.task.name, config.backbone.name) == ("my data/städte.toml", "tiny")
    settings = {"train.steps": 1, "train.rollouts": 2, "sampling.message_tokens": 2, "sampling.answer_tokens": 2}
    run = nm.train("my data/städte_recipe.toml", out="runs/städte", settings=settings, progress=False)
    assert run.evaluate("test").n == 4
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(SystemExit):
        cli.main(["init", "my data/städte.csv"])
    assert "not overwritten" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_the_schema_beside_the_files_is_the_one_of_the_code_and_admits_them(started) -> None:
    for kind, file in zip(("task", "recipe"), ("städte.toml", "städte_recipe.toml"), strict=True):
        path = started[0] / file
        place = path.read_text().partition("\n")[0].removeprefix("#:schema ")
        assert json.loads((started[0] / place).read_text()) == schema(kind)
        jsonschema.validate(tomllib.loads(path.read_text()), schema(kind))


@pytest.mark.parametrize("file", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda file: file.stem)
def test_published_recipes_fit_the_schema(file: Path) -> None:
    data = tomllib.loads(file.read_text())
    kind = "comparison" if "systems" in data else "recipe"
    jsonschema.validate(data, schema(kind))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data | {"tpology": "2"}, schema(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_that_the_docs_hold_is_the_one_of_the_code(kind: str, capsys) -> None:
    cli.main(["schema", kind])
    assert json.loads(capsys.readouterr().out) == schema(kind)
    assert json.loads((ROOT / "docs" / "schemas" / f"{kind}.json").read_text()) == schema(kind), "run `make generate`"
    assert schema("recipe")["$defs"]["TrainConfig"]["properties"]["steps"]["description"] == "Updates."


@pytest.mark.parametrize("text", ["a", 'quo"te\\', "tab\t\x7f\x01é😀", "two\nlines", ["A", "B"], 3])
def test_texts_come_back_from_toml(text: Any) -> None:
    assert tomllib.loads(f"x = {toml_value(text)}") == {"x": text}
