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
