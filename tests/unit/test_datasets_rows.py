"""What the `datasets` library writes and holds is read: folders of `save_to_disk`, their splits, nested features."""

import json
from pathlib import Path
from typing import Any

import pytest

from neuromas.errors import TaskError
from neuromas.tasks import golds, load_task
from neuromas.tasks.rows import RowsTask

datasets = pytest.importorskip("datasets", reason="needs the package datasets (the extra `hub`)")

ROWS: list[dict[str, Any]] = [
    {
        "q": f"{n}+{n}?",
        "a": str(2 * n),
        "several": [str(2 * n), f"{2 * n} in all"],
        "turns": [{"role": "user", "content": f"What is {n}+{n}?"}],
        "options": {"text": ["even", "odd"], "label": ["A", "B"]},
        "letter": "AB"[n % 2],
        "squad": {"text": [str(2 * n)], "answer_start": [0]},
    }
    for n in range(40)
]


@pytest.fixture
def table() -> Any:
    return datasets.Dataset.from_list(ROWS)


def own(folder: Path, **settings: Any) -> Any:
    said = {"data": "saved", "question": "q", "answer": "a", "test_size": 5, "validation_size": 5} | settings
    said = {key: value for key, value in said.items() if value is not None}
    (folder / "own.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items()))
    return load_task(str(folder / "own.toml"))


def asked(task: Any) -> dict[str, list[str]]:
    return {q.text: golds.right(q) for split in ("train", "validation", "test") for q in task.questions(split)}


@pytest.mark.parametrize("shards", [1, 3])
def test_a_saved_folder_holds_all_its_rows(shards: int, table: Any, tmp_path: Path) -> None:
    table.save_to_disk(tmp_path / "saved", num_shards=shards)
    assert asked(own(tmp_path)) == {row["q"]: [row["a"]] for row in ROWS}


@pytest.mark.parametrize("change", ["select", "shuffle", "filter"])
def test_a_selection_of_rows_is_those_rows(change: str, table: Any, tmp_path: Path) -> None:
    changed = {
        "select": lambda: table.select(range(5, 35, 2)),
        "shuffle": lambda: table.shuffle(seed=1),
        "filter": lambda: table.filter(lambda row: row["letter"] == "A"),
    }[change]()
    changed.save_to_disk(tmp_path / "saved")
    assert asked(own(tmp_path)) == {row["q"]: [row["a"]] for row in changed}


def test_the_splits_of_a_folder_are_read_by_name(table: Any, tmp_path: Path) -> None:
    splits = datasets.DatasetDict({"train": table.select(range(30)), "test": table.select(range(30, 40))})
    splits.save_to_disk(tmp_path / "saved")
    task = own(tmp_path, test="test", test_size=None)
    assert {q.text for q in task.questions("test")} == {row["q"] for row in ROWS[30:]}
    with pytest.raises(TaskError, match="has no split 'dev'; it has train, test"):
        own(tmp_path, split="dev").questions("train")


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({"question": "turns"}, ("What is 3+3?", ["6"])),
        ({"answer": "several"}, ("3+3?", ["6", "6 in all"])),
        ({"answer": "squad"}, ("3+3?", ["6"])),
        ({"answer": "letter", "choices": "options", "grader": "choice"}, ("3+3?\nA. even\nB. odd", ["B"])),
    ],
)
def test_nested_features_are_understood(settings: Any, first: Any, table: Any, tmp_path: Path) -> None:
    table.save_to_disk(tmp_path / "saved")
    found = asked(own(tmp_path, **settings))
    assert found[first[0]] == first[1] and len(found) == 40


def test_rows_in_memory_are_a_task(table: Any) -> None:
    columns = {"question": "q", "answer": "a"}
    assert asked(RowsTask(table, **columns)) == {row["q"]: [row["a"]] for row in ROWS}
    assert asked(RowsTask(table.to_iterable_dataset(), **columns)) == {row["q"]: [row["a"]] for row in ROWS}
    splits = datasets.DatasetDict({"train": table.select(range(30)), "test": table.select(range(30, 40))})
    assert {q.text for q in RowsTask(splits, **columns).questions("test")} == {row["q"] for row in ROWS[30:]}


@pytest.mark.parametrize("write", ["to_parquet", "to_json", "to_csv"])
def test_files_that_it_writes_are_read(write: str, table: Any, tmp_path: Path) -> None:
    name = {"to_parquet": "rows.parquet", "to_json": "rows.jsonl", "to_csv": "rows.csv"}[write]
    getattr(table.select_columns(["q", "a"]), write)(tmp_path / name)
    assert asked(own(tmp_path, data=name)) == {row["q"]: [row["a"]] for row in ROWS}


CLASSES = ["neg", "neutral", "pos"]


def classes(names: list[str], cells: list[Any] | None = None, **columns: Any) -> Any:
    """40 rows whose answers are numbers of classes."""
    made = {"q": [f"Q{n}?" for n in range(40)], "a": [n % len(names) for n in range(40)] if cells is None else cells}
    table = datasets.Dataset.from_dict(made | columns)
    listed = isinstance(made["a"][0], list)
    feature = datasets.ClassLabel(names=names)
    return table.cast_column("a", datasets.Sequence(feature) if listed else feature)


def kept(table: Any, how: str, folder: Path) -> str:
    """The table as a file or folder that the library writes; its name."""
    if how == "save_to_disk":
        table.save_to_disk(folder / "saved")
        return "saved"
    table.to_parquet(folder / "rows.parquet")
    return "rows.parquet"


@pytest.mark.parametrize("how", ["save_to_disk", "to_parquet"])
def test_a_class_is_its_name(how: str, tmp_path: Path) -> None:
    found = asked(own(tmp_path, data=kept(classes(CLASSES), how, tmp_path)))
    assert found == {f"Q{n}?": [CLASSES[n % 3]] for n in range(40)}
    assert asked(RowsTask(classes(CLASSES), question="q", answer="a")) == found
    several = classes(CLASSES, [[2, 0]] * 40)
    assert asked(RowsTask(several, question="q", answer="a"))["Q0?"] == ["pos", "neg"]


@pytest.mark.parametrize(
    ("names", "options", "right"),
    [
        (CLASSES, ["pos", "neg", "neutral"], "BCA"),  # the name is the text of an option
        (["A", "B", "C"], ["x", "y", "z"], "ABC"),  # the name is a letter
        (["0", "1", "2"], ["x", "y", "z"], "ABC"),
        (["ending 0", "ending 1", "ending 2"], ["x", "y", "z"], "ABC"),  # the name says nothing: the place of the class
    ],
)
def test_a_class_names_an_option(names: list[str], options: list[str], right: str, tmp_path: Path) -> None:
    data = kept(classes(names, o=[options] * 40), "to_parquet", tmp_path)
    found = asked(own(tmp_path, data=data, grader="choice", choices="o"))
    assert {text.partition("?")[0]: letters for text, letters in found.items()} == {
        f"Q{n}": [right[n % 3]] for n in range(40)
    }


def test_a_yes_that_is_class_0_is_yes_and_a_class_without_a_name_no_answer(tmp_path: Path) -> None:
    data = kept(classes(["yes", "no"]), "to_parquet", tmp_path)
    assert asked(own(tmp_path, data=data, grader="yes-no"))["Q0?"] == ["Yes"]
    kept(classes(CLASSES, [0] * 39 + [-1]), "to_parquet", tmp_path)
    with pytest.raises(TaskError, match="row 40 has no 'a': the cell is empty"):
        own(tmp_path, data=data).questions("test")


SPLITS = {"train": 30, "validation": 7, "test": 6}


def splits(**names: int) -> Any:
    tables = {
        name: datasets.Dataset.from_list([{"q": f"{name} {n}?", "a": name} for n in range(count)])
        for name, count in names.items()
    }
    return datasets.DatasetDict(tables)


def test_the_splits_of_a_saved_folder_are_never_mixed(tmp_path: Path) -> None:
    splits(**SPLITS).save_to_disk(tmp_path / "saved")
    task = own(tmp_path, test_size=None, validation_size=None)
    for split, count in SPLITS.items():
        assert [q.answer for q in task.questions(split)] == [split] * count
    fewer = own(tmp_path, test_size=None, validation_size=3)
    assert [len(fewer.questions(split)) for split in SPLITS] == [30, 3, 6]
    carved = own(tmp_path, test_size=4, validation_size=None)
    assert [len(carved.questions(split)) for split in SPLITS] == [26, 7, 4]


def test_the_splits_of_the_hub_are_never_mixed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = splits(train=30, dev=7, test=6)
    monkeypatch.setattr(datasets, "load_dataset", lambda path, config, split: found if split is None else found[split])
    task = own(tmp_path, data="org/name", test_size=None, validation_size=None)
    assert {q.answer for q in task.questions("train")} == {"train"}
    assert {q.answer for q in task.questions("validation")} == {"dev"} and len(task.questions("validation")) == 7
    assert {q.answer for q in task.questions("test")} == {"test"} and len(task.questions("test")) == 6
    turned = own(tmp_path, data="org/name", split="test", test="dev", validation_size=2)
    assert [{q.answer for q in turned.questions(split)} for split in SPLITS] == [{"test"}, {"test"}, {"dev"}]


def test_rows_with_splits_are_taken_as_they_are() -> None:
    task = RowsTask(splits(**SPLITS), question="q", answer="a")
    assert {split: [q.answer for q in task.questions(split)] for split in SPLITS} == {
        split: [split] * count for split, count in SPLITS.items()
    }


def test_a_validation_row_that_is_asked_elsewhere_is_left_out(tmp_path: Path) -> None:
    rows = {name: [{"q": f"{name} {n}?", "a": "x"} for n in range(10)] for name in SPLITS}
    rows["validation"][0] = rows["test"][0]
    rows["train"][0] = rows["validation"][1]
    task = RowsTask(rows, question="q", answer="a")
    assert [len(task.questions(split)) for split in SPLITS] == [9, 9, 10]
