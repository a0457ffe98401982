"""Arrow tables are read by their types: names of classes, short floats, maps, dictionaries, dates, views."""

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from neuromas.errors import TaskError
from neuromas.tasks import golds, load_task
from neuromas.tasks.tables import read_file

pa: Any = pytest.importorskip("pyarrow")
parquet: Any = pytest.importorskip("pyarrow.parquet")

ROWS = 40
CLASSES = {"names": ["neg", "pos"], "_type": "ClassLabel"}


def written(folder: Path, answers: Any, features: Any = None, **columns: Any) -> Path:
    table = pa.table({"q": [f"Q{n}" for n in range(ROWS)], "a": answers} | columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, folder / "rows.parquet")
    return folder / "rows.parquet"


def golds_of(folder: Path, **settings: Any) -> list[list[str]]:
    said = {"data": "rows.parquet", "question": "q", "answer": "a", "test_size": 5, "validation_size": 5} | settings
    (folder / "own.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items()))
    task: Any = load_task(str(folder / "own.toml"))
    found = {q.text: golds.right(q) for split in ("train", "validation", "test") for q in task.questions(split)}
    return [found[key] for key in sorted(found, key=lambda text: int(text.partition("\n")[0][1:]))]


CELLS = {
    "dictionary": (lambda: pa.array(["x", "y"] * 20).dictionary_encode(), {}, ["x"]),
    "dictionary of numbers": (lambda: pa.array([3, 4] * 20).dictionary_encode(), {"grader": "number"}, ["3"]),
    "large string": (lambda: pa.array(["x", "y"] * 20, pa.large_string()), {}, ["x"]),
    "string view": (lambda: pa.array(["x", "y"] * 20, pa.string_view()), {}, ["x"]),
    "fixed list": (lambda: pa.array([["x", "y"]] * 40, pa.list_(pa.string(), 2)), {}, ["x", "y"]),
    "single": (lambda: pa.array([0.1, 0.7] * 20, pa.float32()), {"grader": "number"}, ["0.1"]),
    "half": (lambda: pa.array([0.1, 0.7] * 20, pa.float16()), {"grader": "number"}, ["0.1"]),
    "list of singles": (lambda: pa.array([[0.1, 0.7]] * 40, pa.list_(pa.float32())),
                        {"grader": "number"}, ["0.1", "0.7"]),
    "decimal": (lambda: pa.array([Decimal("1.50")] * 40), {"grader": "number"}, ["1.5"]),
    "bool": (lambda: pa.array([True, False] * 20), {"grader": "yes-no"}, ["Yes"]),
    "date": (lambda: pa.array([datetime.date(2026, 11, 29)] * 40), {}, ["2026-11-29"]),
    "midnight": (lambda: pa.array([datetime.datetime(2026, 11, 29)] * 40), {}, ["2026-11-29"]),
    "time": (lambda: pa.array([datetime.datetime(2026, 11, 29, 9, 30)] * 40), {}, ["2026-11-29 09:30:00"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", CELLS)
def test_a_typed_cell_is_read_by_its_value(kind: str, tmp_path: Path) -> None:
    made, settings, first = CELLS[kind]
    written(tmp_path, made())
    assert golds_of(tmp_path, **settings)[0] == first


@pytest.mark.parametrize("answers", [[b"x"] * ROWS, [datetime.timedelta(1)] * ROWS, [None] * ROWS, [[["x"]]] * ROWS])
def test_a_typed_cell_that_is_no_answer_is_refused(answers: list[Any], tmp_path: Path) -> None:
    written(tmp_path, answers)
    with pytest.raises(TaskError, match=r"row 1.* 'a'.*(correct|remove) the row"):
        golds_of(tmp_path)


@pytest.mark.parametrize("names", [CLASSES["names"], {"0": "neg", "1": "pos"}])  # the second is of older versions
@pytest.mark.parametrize("nested", [None, "List", "Sequence", "list"])
def test_a_class_is_its_name_wherever_it_stands(names: Any, nested: str | None, tmp_path: Path) -> None:
    feature: Any = {"names": names, "_type": "ClassLabel"}
    if nested:
        feature = [feature] if nested == "list" else {"feature": feature, "_type": nested}
    written(tmp_path, [[1, 0] if nested else 1] * ROWS, {"a": feature})
    assert golds_of(tmp_path)[0] == (["pos", "neg"] if nested else ["pos"])


def test_a_class_in_a_record_and_in_a_record_of_lists_is_its_name(tmp_path: Path) -> None:
    cells = [{"text": 1, "more": {"said": [0]}}] * ROWS
    told = {"text": CLASSES, "more": {"feature": {"said": CLASSES}, "_type": "Sequence"}}
    (row, *_) = read_file(written(tmp_path, cells, {"a": told}))
    assert row["a"] == {"text": "pos", "more": {"said": ["neg"]}}


def test_what_the_table_no_longer_holds_as_a_class_is_left_as_it_is(tmp_path: Path) -> None:
    written(tmp_path, ["pos", "neg"] * 20, {"a": CLASSES})  # a column that was rewritten under its old description
    assert golds_of(tmp_path)[:2] == [["pos"], ["neg"]]


def test_a_benchmark_is_read_by_its_numbers(tmp_path: Path) -> None:
    file = written(tmp_path, [1] * ROWS, {"a": CLASSES})
    assert (read_file(file)[0]["a"], read_file(file, named=False)[0]["a"]) == ("pos", 1)


def test_options_that_are_a_map_are_understood(tmp_path: Path) -> None:
    options = pa.array([[("A", "x"), ("B", "y")]] * ROWS, pa.map_(pa.string(), pa.string()))
    written(tmp_path, ["B"] * ROWS, o=options)
    assert golds_of(tmp_path, grader="choice", choices="o")[0] == ["B"]


def test_questions_inside_other_records_are_refused_with_their_place(tmp_path: Path) -> None:
    squad = {"version": "1", "data": [{"title": "t", "paragraphs": [{"qas": [{"q": "Q", "a": "x"}]}]}] * 3}
    (tmp_path / "rows.json").write_text(json.dumps(squad))
    with pytest.raises(TaskError, match="has no 'q'.*inside 'paragraphs' there is one; write a row for each question"):
        golds_of(tmp_path, data="rows.json")
    (tmp_path / "rows.json").write_text(json.dumps({"train": [{"q": "Q"}], "test": [{"q": "R"}]}))
    with pytest.raises(TaskError, match="an object with train, test"):
        golds_of(tmp_path, data="rows.json")
