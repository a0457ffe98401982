"""A user's own table as a task: rows, splits, graders, and what is said about mistakes in it."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from neuromas.errors import TaskError
from neuromas.tasks import SPLITS, load_task
from neuromas.tasks.words import normalise

ROWS = [{"land": f"Land {n}", "city": f"City {n}"} for n in range(60)]
SMALL = {"test_size": 10, "validation_size": 8}


def task(folder: Path, rows: list[dict[str, Any]] = ROWS, **settings: Any) -> Any:
    """The task of a table of `rows`; settings over question = "land", answer = "city"."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = {"data": "rows.jsonl", "question": "land", "answer": "city", **SMALL, **settings}
    file = folder / "own.toml"
    file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items()))
    return load_task(str(file))


def test_the_splits_hold_every_row_once_and_are_the_same_in_any_order_of_rows(tmp_path) -> None:
    own = task(tmp_path)
    texts = {split: [q.text for q in own.questions(split)] for split in SPLITS}
    assert [len(texts[split]) for split in SPLITS] == [42, 8, 10]
    assert sorted(text for split in SPLITS for text in texts[split]) == sorted(row["land"] for row in ROWS)
    again = task(tmp_path, ROWS[::-1])
    assert {split: [q.text for q in again.questions(split)] for split in SPLITS} == texts
    assert [q.text for q in task(tmp_path, seed=1).questions("test")] != texts["test"]


def test_a_question_that_stands_twice_stands_in_one_split_only(tmp_path) -> None:
    own = task(tmp_path, [*ROWS, *({**row, "land": row["land"].upper() + " "} for row in ROWS)])
    seen = [normalise(q.text) for split in SPLITS for q in own.questions(split)]
    assert len(seen) == len(set(seen)) == 60


def test_a_test_file_of_its_own_is_tested_on_and_never_trained_on(tmp_path) -> None:
    (tmp_path / "held.csv").write_text("land,city\nLand 3,City 3\nLand 99,City 99\n")
    own = task(tmp_path, test="held.csv")
    assert [q.text for q in own.questions("test")] == ["Land 3", "Land 99"]
    assert "Land 3" not in [q.text for split in ("train", "validation") for q in own.questions(split)]


def test_csv_and_parquet_hold_the_same_questions_as_lines_of_json(tmp_path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    lines = task(tmp_path).questions("test")
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["land", "city"])
        writer.writeheader()
        writer.writerows(ROWS)
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    assert task(tmp_path, data="rows.csv").questions("test") == lines
    assert task(tmp_path, data="rows.parquet").questions("test") == lines


GRADES = [  # settings, gold answer, replies that are right, replies that are wrong
    ({"grader": "exact"}, "Port Louis", ["port  louis.", "'Port Louis'"], ["Louis", "It is Port Louis", "", "."]),
    ({"grader": "exact", "answer_prefix": "It is"}, "Rome", ["It is Rome", " Rome"], ["It is not Rome"]),
    ({"grader": "contains"}, "Rome", ["I think rome it is", "Rome"], ["Jerome", ""]),
    ({"grader": "number"}, "1,020", ["so #### 1020", "1020.0"], ["1021", "no number"]),
    ({"grader": "yes-no"}, "yes", ["Yes.", "YES, no doubt"], ["No", "perhaps"]),
]


@pytest.mark.parametrize(("settings", "gold", "right", "wrong"), GRADES)
def test_each_grader_scores_what_it_says(settings, gold, right, wrong, tmp_path) -> None:
    own = task(tmp_path, [{**row, "city": gold} for row in ROWS], **settings)
    question = own.questions("test")[0]
    assert [own.grade(question, text).reward for text in right] == [1.0] * len(right)
    assert [own.grade(question, text).reward for text in wrong] == [0.0] * len(wrong)
    assert own.grade(question, question.answer_prefix + " " + question.answer).reward == 1
    for hostile in ("\x00\ud800", "9" * 100_000, "no" * 50_000, "(" * 50_000):
        own.grade(question, hostile)


@pytest.mark.parametrize("gold", ["b", "B", "1", "Lyon"])
def test_options_become_lettered_choices_and_the_answer_may_be_letter_text_or_index(gold, tmp_path) -> None:
    rows = [{**row, "city": gold, "list": ["Paris", "Lyon", "Nice"]} for row in ROWS]
    own = task(tmp_path, rows, grader="choice", choices="list")
    question = own.questions("test")[0]
    assert question.text.endswith("\nA. Paris\nB. Lyon\nC. Nice")
    assert (own.grade(question, "(B)").reward, own.grade(question, "A").reward) == (1, 0)
    assert own.floors("test").chance == pytest.approx(1 / 3)


def test_options_of_a_recipe_override_the_file(tmp_path) -> None:
    name = task(tmp_path).name
    assert len(load_task(name, test_size=5).questions("test")) == 5


WRONG = [
    ({"grader": "clever"}, ROWS, "grader is 'clever'"),
    ({"colour": "red"}, ROWS, "colour: no such setting"),
    ({"grader": "choice"}, ROWS, "needs the column"),
    ({"choices": "city"}, ROWS, "the others have none"),
    ({"question": "nation"}, ROWS, "has no 'nation'"),
    ({"data": "elsewhere.jsonl"}, ROWS, "cannot read"),
    ({"test_size": 60}, ROWS, "leaves nothing to train on"),
    ({"grader": "number"}, [*ROWS[:1], {"land": "x", "city": "none"}], "cannot read"),
    ({"grader": "choice", "choices": "land"}, [{"land": ["a", "b"], "city": "z"}], "no option, no letter"),
    ({}, [{"land": "x", "city": ""}], "cannot read"),
    ({}, [], "has no rows"),
]


@pytest.mark.parametrize(("settings", "rows", "told"), WRONG)
def test_what_is_wrong_is_named(settings, rows, told, tmp_path) -> None:
    with pytest.raises(TaskError, match=told):
        task(tmp_path, rows, **settings).questions("train")


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path) -> None:
    with pytest.raises(TaskError, match=r"absent.toml.* does not exist"):
        load_task(str(tmp_path / "absent.toml"))
    (tmp_path / "bad.toml").write_text("data = ")
    with pytest.raises(TaskError, match="cannot be read as TOML"):
        load_task(str(tmp_path / "bad.toml"))


def test_the_example_of_the_documentation_is_a_task(tmp_path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "own_data.md").read_text()
    (tmp_path / "capitals.toml").write_text(page.split('```toml title="capitals.toml"\n')[1].split("```")[0])
    rows = [{"country": f"Land {n}", "capital": f"City {n}"} for n in range(200)]
    (tmp_path / "capitals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = load_task(str(tmp_path / "capitals.toml"))
    assert [len(own.questions(split)) for split in SPLITS] == [50, 100, 50]


@pytest.mark.parametrize(
    ("grader", "counts"), [("number", True), ("contains", True), ("exact", False), ("yes-no", True), ("choice", True)]
)
def test_a_task_says_whether_its_grader_reads_an_answer_behind_thoughts(grader: str, counts: bool, tmp_path) -> None:
    rows: list[dict[str, Any]] = [{"land": f"Land {n}", "city": ("yes", "no")[n % 2]} for n in range(60)]
    if grader == "number":
        rows = [{"land": f"Land {n}", "city": str(n)} for n in range(60)]
    if grader == "choice":
        rows = [{"land": f"Land {n}", "city": "AB"[n % 2], "options": ["x", "y"]} for n in range(60)]
    own = task(tmp_path, rows, grader=grader, **({"choices": "options"} if grader == "choice" else {}))
    assert own.counts_thinking() is counts and own.describe()["counts_thinking"] is counts
