"""What a table's cells mean: gold answers for each grader, options, conversations; and tables in every form."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from neuromas.errors import TaskError
from neuromas.tasks import cells, golds, load_task, numerals
from neuromas.tasks.base import Task
from neuromas.tasks.cells import Options, native
from neuromas.tasks.golds import ChoiceRow
from neuromas.tasks.rows import RowsTask
from neuromas.tasks.tables import read_file

SMALL = {"test_size": 1, "validation_size": 1}


def task(folder: Path, rows: list[dict[str, Any]] | None = None, **settings: Any) -> Any:
    """The task of a table of rows with the columns q and a."""
    if rows is not None:
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = {"data": "rows.jsonl", "question": "q", "answer": "a", **SMALL, **settings}
    (folder / "own.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items()))
    return load_task(str(folder / "own.toml"))


def answers(own: Task) -> dict[str, list[str]]:
    """For the text of each question its right answers."""
    every = [q for split in ("train", "validation", "test") for q in own.questions(split)]
    return {q.text: golds.right(q) for q in every}


NUMBERS: list[tuple[Any, str]] = [
    (1e-05, "0.00001"),
    (1e16, "10000000000000000"),
    (5, "5"),
    (5.0, "5"),
    (-0.0, "0"),
    (0.1, "0.1"),
    (-2.5e-7, "-0.00000025"),
    ("1e-05", "0.00001"),
    ("1e+16", "10000000000000000"),
    (".5", "0.5"),
    ("-.5", "-0.5"),
    ("5.", "5"),
    ("1,020", "1020"),
    ("1 020", "1020"),
    ("1{,}020", "1020"),
    ("1'020", "1020"),
    ("1.234,50", "1234.5"),
    ("10^5", "100000"),
    ("$29.00", "29"),
    ("€5", "5"),
    ("5 USD", "5"),
    (r"\$5", "5"),
    ("5%", "5"),
    (r"50\%", "50"),
    ("5 km/h", "5"),
    ("5 m^2", "5"),
    ("5 m2", "5"),
    ("9.81 m s^{-2}", "9.81"),
    ("90^\\circ", "90"),
    (r"5 \text{ cm}", "5"),
    ("72 clips", "72"),
    ("9 (apples)", "9"),
    ("5 [km/h]", "5"),
    ("50 m^2", "50"),
    ("145.0", "145"),
    ("033", "33"),
    (4e-7, "0.0000004"),
    ("4e-7", "0.0000004"),
    ("1.5e3", "1500"),
    (r"\boxed{$9{,}500}", "9500"),
    ("#### 5", "5"),
    ("#### 72", "72"),
    ("So it is\n#### 1,450", "1450"),
    ("48/2 = 24, 48+24 = 72.\n#### 72", "72"),
    (r"\boxed{5}", "5"),
    (r"so \boxed{5}.", "5"),
    (r"$\frac{1}{2}$", "1/2"),
    (r"\frac12", "1/2"),
    ("3 1/2", "7/2"),
    (r"2\frac{1}{2}", "5/2"),
    ("½", "1/2"),
    ("−5", "-5"),
    ("- 5", "-5"),
    ("x = 5", "5"),
    ("3 million", "3000000"),
    ("**5**", "5"),
    ("6/4", "6/4"),
    (r"\(5\)", "5"),
    (r"4 \times 10^{-7}", "0.0000004"),
]


@pytest.mark.parametrize(("cell", "gold"), NUMBERS)
def test_a_gold_number_is_read_by_its_value(cell: Any, gold: str) -> None:
    assert golds.read(cell, "number") == [gold]
    assert numerals.equal(gold, gold)


REFUSED: list[tuple[str, Any]] = [
    *(
        ("number", cell)
        for cell in (
            "none",
            "",
            r"2\sqrt{3}",
            r"\boxed{2\sqrt{3}}",
            "(3, 4)",
            "12:30",
            "1/0",
            "5 or 6",
            "5 (or 6)",
            "5 (apples); 6 (pears)",
            "5-6",
            "3 dozen",
            "5k",
            "5'11",
        )
    ),
    *(
        ("number", cell)
        for cell in ("3, 5", "3,5", "2024-05-01", "1.2.3", "18²", "2x", "x", "3+4", "2 ft 3 in", "inf", "5 to 6")
    ),
    *(
        ("number", cell)
        for cell in (float("nan"), float("inf"), True, {}, [], [5, None], {"value": 5, "aliases": ["x"]}, b"5")
    ),
    *(("yes-no", cell) for cell in ("There is no such thing", "not yes", "maybe", "", 2, 0.5, "yes or no")),
    *(("exact", cell) for cell in ("", " ", ".", [], {}, {"x": 1}, b"Rome", float("nan"), [["Rome"]], [None])),
    *(("contains", cell) for cell in ("?", b"Rome", {"a": "b"})),
]


@pytest.mark.parametrize(("grader", "cell"), REFUSED)
def test_what_a_grader_cannot_hold_is_refused(grader: Any, cell: Any) -> None:
    with pytest.raises(ValueError, match="cannot read|holds no answer"):
        golds.read(cell, grader)


@pytest.mark.parametrize(
    ("grader", "cell", "held"),
    [
        *(("yes-no", cell, ["Yes"]) for cell in (True, "true", "YES", " yes. ", 1, "1", 1.0)),
        *(("yes-no", cell, ["No"]) for cell in (False, "False", "no", 0, "0")),
        ("exact", ["Rome", "Roma"], ["Rome", "Roma"]),
        ("exact", {"text": ["Rome", "Rome"], "answer_start": [3, 9]}, ["Rome"]),
        ("exact", {"value": "Rome", "aliases": ["Roma", "Caput Mundi"]}, ["Rome", "Roma", "Caput Mundi"]),
        ("contains", 5, ["5"]),
        ("exact", 1e-05, ["0.00001"]),
        ("exact", True, ["True"]),
        ("number", ["1/2", 0.5], ["1/2", "0.5"]),
    ],
)
def test_golds_of_other_types_and_lists_of_right_ones(grader: Any, cell: Any, held: list[str]) -> None:
    assert golds.read(cell, grader) == held


LETTERED = {"grader": "choice", "choices": "options"}
DATA_SETS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {  # a row, settings, its right answers
    "HellaSwag": ({"endings": list("wxyz"), "label": "2"}, LETTERED | {"choices": "endings", "answer": "label"}, ["C"]),
    "MMLU-Pro": ({"options": [f"o{n}" for n in range(10)], "answer": "J"}, LETTERED | {"answer": "answer"}, ["J"]),
    "MMLU-Pro, index": ({"options": [f"o{n}" for n in range(10)], "index": 9}, LETTERED | {"answer": "index"}, ["J"]),
    "AQuA": ({"options": ["A)21", "B)21.5", "C)22", "D)22.5", "E)23"], "a": "E"}, LETTERED, ["E"]),
    "OpenBookQA": ({"options": {"text": list("wxyz"), "label": list("ABCD")}, "a": "D"}, LETTERED, ["D"]),
    "MedQA": ({"options": {"A": "x", "B": "y"}, "a": "B"}, LETTERED, ["B"]),
    "MedQA, text": ({"options": {"A": "x", "B": "y"}, "a": "y"}, LETTERED, ["B"]),
    "GSM8K": ({"a": "48/2 = <<48/2=24>>24\n#### 72"}, {"grader": "number"}, ["72"]),
    "SVAMP": ({"a": "145.0"}, {"grader": "number"}, ["145"]),
    "ASDiv": ({"a": "9 (apples)"}, {"grader": "number"}, ["9"]),
    "AIME": ({"a": "033"}, {"grader": "number"}, ["33"]),
    "BoolQ": ({"a": False}, {"grader": "yes-no"}, ["No"]),
    "SQuAD": ({"a": {"text": ["Rome"], "answer_start": [5]}}, {}, ["Rome"]),
    "TriviaQA": ({"a": {"value": "Rome", "aliases": ["Roma"], "normalized_value": "rome"}}, {}, ["Rome", "Roma"]),
    "NQ": ({"a": ["Rome", "Roma"]}, {"grader": "contains"}, ["Rome", "Roma"]),
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_rows_in_the_forms_of_known_data_sets_are_read(name: str, tmp_path: Path) -> None:
    row, settings, right = DATA_SETS[name]
    assert [*answers(task(tmp_path, [{"q": f"Q{n}", **row} for n in range(4)], **settings)).values()] == [right] * 4


def test_any_of_several_right_answers_scores(tmp_path: Path) -> None:
    own = task(tmp_path, [{"q": f"Q{n}", "a": ["Rome", "Roma"]} for n in range(6)])
    question = own.questions("test")[0]
    assert [own.grade(question, reply).reward for reply in ("rome", "Roma.", "Paris", "['Rome', 'Roma']")] == [
        1,
        1,
        0,
        0,
    ]
    many = task(
        tmp_path,
        [{"q": f"Q{n}", "a": ["A", "C"], "c": ["x", "y", "z"]} for n in range(6)],
        grader="choice",
        choices="c",
    )
    question = many.questions("test")[0]
    assert [many.grade(question, reply).reward for reply in "ABC"] == [1, 0, 1]


# -- options ------------------------------------------------------------------------------------------------

FORMS: list[
    tuple[list[tuple[Any, Any]], str, str]
] = [  # (answer, options) of all rows, the form of the column, the letters
    ([(0, ["4", "0", "2", "6"]), (1, ["0", "1", "2", "3"])], "index", "AB"),
    ([(3, ["3", "5", "7", "1"]), (1, ["1", "2", "3", "4"])], "index", "DB"),
    ([(4, ["w", "x", "y", "z"]), (1, ["w", "x", "y", "z"])], "number", "DA"),
    ([("2", ["w", "x", "y"]), ("0", ["w", "x", "y"])], "index", "CA"),
    ([("b", ["w", "x"]), ("(A)", ["w", "x"])], "letter", "BA"),
    ([("Lyon", ["Paris", "Lyon"]), ("Paris ", ["Paris", "Rome"])], "text", "BA"),
    ([("1998", ["1998", "2001"]), ("7", ["3", "7"])], "text", "AB"),
    (
        [("B", {"text": ["x", "y"], "label": ["A", "B"]}), ("2", {"text": ["x", "y"], "label": ["1", "2"]})],
        "label",
        "BB",
    ),
    ([(2, {"text": ["x", "y"], "label": ["1", "2"]}), (1, {"text": ["x", "y"], "label": [1, 2]})], "label", "BA"),
    ([("B", {"A": "x", "B": "y", "C": None}), ("A", {"A": "x", "B": "y", "C": "z"})], "label", "BA"),
    ([("y", {"A": "x", "B": "y"}), ("x", {"A": "x", "B": "z"})], "text", "BA"),
    ([("B", [{"label": "A", "text": "x"}, {"label": "B", "text": "y"}])], "label", "B"),
    ([("B", '["x", "y"]'), ("A", '{"A": "x", "B": "y"}')], "letter", "BA"),
    ([("2", {"1": "x", "2": "y"}), (1, {"1": "x", "2": "y"})], "label", "BA"),
    ([(0, {"0": "x", "1": "y"}), (1, {"0": "x", "1": "y"})], "label", "AB"),
    ([("b", {"a": "x", "b": "y"}), ("a", {"a": "x", "b": "y"})], "label", "BA"),
]


@pytest.mark.parametrize(("rows", "form", "letters"), FORMS)
def test_how_a_column_names_options_is_decided_once(rows: Any, form: str, letters: str, tmp_path: Path) -> None:
    table = [{"q": f"Q{n}", "a": answer, "c": options} for n, (answer, options) in enumerate(rows * 4)]
    own = task(tmp_path, table, grader="choice", choices="c")
    found = {text.split("\n")[0]: letter for text, letter in answers(own).items()}
    assert [found[f"Q{n}"] for n in range(len(rows))] == [[letter] for letter in letters]
    assert own.answer_form == form and own.describe()["answers_are"] == golds.FORMS[own.answer_form]


def row(cell: Any, texts: list[str], number: int = 1) -> ChoiceRow:
    return ChoiceRow(f"rows.csv, row {number}", cell, Options(texts))


def test_two_readings_that_disagree_are_refused_until_one_is_told() -> None:
    rows = [row("1", ["1", "0"]), row("0", ["1", "0"], 2)]
    with pytest.raises(ValueError, match=r"row 1: .*means different options.*set answer_is to 'text' or 'index'"):
        golds.form_of(rows, None)
    assert golds.form_of(rows, "index") == "index"
    numbers = [row(4, ["2", "4", "6", "8"]), row(2, ["2", "4", "6", "8"], 2)]
    with pytest.raises(ValueError, match="set answer_is to 'text' or 'number'"):
        golds.form_of(numbers, None)
    with pytest.raises(ValueError, match="as letters of options that is no option"):
        golds.form_of(rows, "letter")


def test_a_text_that_two_options_have_names_none() -> None:
    with pytest.raises(ValueError, match="row 1: the answer is 'x'.*no option"):
        golds.form_of([row("x", ["x", "x"]), row("y", ["x", "y"], 2)], "text")
    assert golds.form_of([row("A", ["x", "x"]), row("B", ["x", "y"], 2)], None) == "letter"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('[{"role": "user", "content": "Hi"}]', "Hi"),
        (' [ {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]', "Hi"),
        ('[{"role": "system", "content": "S"}, {"content": "Hi", "role": "user"}]', "S\nHi"),
        ('[{"role": "user", "content"', '[{"role": "user", "content"'),
        ("[1, 2] is a list", "[1, 2] is a list"),
        ('[{"name": "x"}]', '[{"name": "x"}]'),
    ],
)
def test_a_conversation_in_json_is_a_question_too(cell: str, text: str) -> None:
    assert cells.question(cell) == text


def test_a_column_of_two_ways_is_refused_at_the_row() -> None:
    with pytest.raises(ValueError, match="row 3: the answer is 'z'.*no option"):
        golds.form_of([row("A", ["x", "y"]), row("B", ["x", "y"], 2), row("z", ["y", "z"], 3)], None)


@pytest.mark.parametrize(
    "cell", ["A|B|C", ["x", None], ["x", ""], 5, {"text": ["x"], "label": ["A", "B"]}, {"x": "y"}, [], "[x"]
)
def test_cells_that_are_no_options_are_refused(cell: Any, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="rows.jsonl, row 1: column 'c' (is|has)"):
        task(tmp_path, [{"q": "Q", "a": "A", "c": cell}], grader="choice", choices="c").questions("test")


# -- questions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ([{"role": "user", "content": "Q1"}], "Q1"),
        ([{"role": "system", "content": "S"}, {"role": "user", "content": "Q1"}], "S\nQ1"),
        ([{"from": "human", "value": "Q1"}, {"from": "gpt", "value": "the answer"}], "Q1"),
        (
            [
                {"role": "user", "content": "Q1"},
                {"role": "assistant", "content": "A1"},
                {"role": "user", "content": [{"type": "text", "text": "Q2"}]},
            ],
            "User: Q1\nAssistant: A1\nUser: Q2",
        ),
        (" 3 + 4 ", "3 + 4"),
        (7, "7"),
    ],
)
def test_a_list_of_turns_is_the_question_that_the_server_would_ask(cell: Any, text: str) -> None:
    assert cells.question(cell) == text
    if isinstance(cell, list) and "role" in cell[0]:
        from neuromas.serve.schema import ChatRequest

        assert ChatRequest.model_validate({"model": "m", "messages": cell}).questions == [text]


@pytest.mark.parametrize(
    "cell",
    [
        "",
        " \n",
        [],
        {},
        {"role": "user", "content": "x"},
        b"Q",
        float("nan"),
        ["Q"],
        True,
        [{"role": "tool", "content": "x"}],
        [{"role": "assistant", "content": "x"}],
        [{"role": "user", "content": None}],
    ],
)
def test_what_is_no_question_is_refused(cell: Any) -> None:
    with pytest.raises(ValueError, match=r"^(is|has)"):
        cells.question(cell)


FAULTS: list[tuple[dict[str, Any], dict[str, Any], str]] = [  # the third row, settings, what is told
    ({"q": "", "a": "x"}, {}, "rows.jsonl, row 3: column 'q' is empty"),
    ({"q": "Q", "a": float("nan")}, {}, "row 3: column 'a' is nan"),
    ({"q": "Q", "a": "none"}, {"grader": "number"}, "row 3: column 'a' is 'none'.*'number'"),
    ({"q": "Q\ud800", "a": "x"}, {}, r"row 3: .*half of a surrogate pair"),
    ({"q": "Q", "a": "x\udc00"}, {}, r"row 3: .*half of a surrogate pair"),
    ({"q": "Q", "a": None}, {}, "row 3 has no 'a'"),
    ({"q": "Q", "a": "x", "d": float("nan")}, {"difficulty": "d"}, "row 3: column 'd' is nan"),
]


@pytest.mark.parametrize(("fault", "settings", "told"), FAULTS)
def test_a_fault_of_a_row_names_file_row_column_and_value(fault: Any, settings: Any, told: str, tmp_path: Path) -> None:
    rows = [{"q": f"Q{n}", "a": n, "d": n} for n in range(4)]
    with pytest.raises(TaskError, match=told):
        task(tmp_path, [*rows[:2], fault, *rows[2:]], **settings).questions("train")


# -- tables -------------------------------------------------------------------------------------------------

ROWS = [{"q": f"Question {n}, really?", "a": f"{n};x\ny"} for n in range(6)]
EXPECTED = {row["q"]: [row["a"]] for row in ROWS}


def separated(mark: str) -> str:
    return "".join(f'"{row["q"]}"{mark}"{row["a"]}"\r\n' for row in [{"q": "q", "a": "a"}, *ROWS])


LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
FILES = {
    "comma.csv": separated(","),
    "semicolon.csv": separated(";"),
    "return.csv": separated(",").replace("\r\n", "\r"),
    "told.csv": "sep=;\r" + separated(";").replace("\r\n", "\r"),
    "tab.csv": separated("\t"),
    "bar.csv": separated("|"),
    "tab.tsv": separated("\t"),
    "UPPER.CSV": separated(","),
    "mark.csv": "\ufeff" + separated(";"),
    "list.json": json.dumps(ROWS),
    "beside.json": json.dumps({"version": 1, "data": ROWS}),
    "mark.jsonl": "\ufeff" + LINES,
    "lines.json": LINES,
    "utf16.tsv": separated("\t"),
    "x.ndjson": LINES,
    "x.jsonl.gz": LINES,
    "x.csv.gz": separated(","),
}


@pytest.mark.parametrize("name", FILES)
def test_tables_in_every_form_hold_the_same_questions(name: str, tmp_path: Path) -> None:
    data = FILES[name].encode("utf-16" if name.startswith("utf16") else "utf-8")
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert answers(task(tmp_path, data=name)) == EXPECTED


def test_folders_and_arrow_files_are_read(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    nested = pyarrow.Table.from_pylist(
        [{"q": [{"role": "user", "content": row["q"]}], "a": {"text": [row["a"]]}} for row in ROWS]
    )
    for folder in ("saved/train", "files/data"):
        (tmp_path / folder).mkdir(parents=True)
    with pyarrow.ipc.new_stream(str(tmp_path / "saved/train/data-00000-of-00001.arrow"), nested.schema) as stream:
        stream.write_table(nested)
    with pyarrow.ipc.new_file(str(tmp_path / "footer.arrow"), nested.schema) as stream:
        stream.write_table(nested)
    (tmp_path / "saved/dataset_dict.json").write_text('{"splits": ["train"]}')
    (tmp_path / "saved/train/state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    for part in (0, 1):
        parquet.write_table(nested.slice(3 * part, 3), tmp_path / f"files/data/train-0000{part}-of-00002.parquet")
    parquet.write_table(nested.slice(0, 1), tmp_path / "files/data/test-00000-of-00001.parquet")
    for data in ("saved", "saved/train", "footer.arrow", "files"):
        assert answers(task(tmp_path, data=data)) == EXPECTED, data
    assert len(task(tmp_path, data="files", test="test").questions("test")) == 1
    (tmp_path / "brought.toml").write_text('data = "files"\nquestion = "q"\nanswer = "a"\nvalidation_size = 1')
    brought = load_task(str(tmp_path / "brought.toml")).questions("test")
    assert [question.text for question in brought] == [ROWS[0]["q"]], "the folder's own split"
    with pytest.raises(TaskError, match="has no split 'dev'; it has train"):
        task(tmp_path, data="saved", split="dev").questions("train")


BROKEN: list[tuple[str, bytes, str]] = [
    ("rows.csv", b"q,a\nQuestion 5, really?,5\n", "row 1 has 1 cells more than the header"),
    ("rows.csv", b"q,a\nQ\n", "row 1 has no 'a'"),
    ("rows.csv", b"q,a\n,5\n", "row 1: column 'q' is empty"),
    ("rows.csv", b"q,q,a\nQ,Q,5\n", "two columns called q"),
    ("rows.csv", b"q,a\n\xff\xfeQ,5\n", "cannot read"),
    ("rows.xlsx", b"PK", r"not a kind of file that is read; those are .jsonl, .json, .csv"),
    ("rows", b"q,a\nQ,5\n", "not a kind of file that is read"),
    ("rows.json", b"[1, 2]", "no list of objects"),
    ("rows.json", b"[", "not JSON"),
    ("rows.jsonl.gz", b"\x1f\x8b\x08", "no complete gzip"),
    ("rows.parquet", b"version https://git-lfs", "no readable .parquet"),
    ("rows.parquet", b"PAR1broken", "no readable .parquet"),
    ("rows.arrow", b"nonsense", "no readable .arrow"),
]


@pytest.mark.parametrize(("name", "content", "told"), BROKEN)
def test_a_file_that_is_no_table_is_refused_and_never_looked_for_elsewhere(
    name: str, content: bytes, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name.endswith((".parquet", ".arrow")):
        pytest.importorskip("pyarrow")
    monkeypatch.setattr("neuromas.tasks.own.read_hub", lambda *told: pytest.fail("the hub was asked"))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TaskError, match=told):
        task(tmp_path, data=name).questions("train")


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("q,a\n" + "".join(f"{n}{'x' * 200_000},5\n" for n in range(4)))
    assert len(answers(task(tmp_path, data="rows.csv"))) == 4


# -- the benchmarks' own files ------------------------------------------------------------------------------

SAME: list[tuple[str, dict[str, Any], list[str]]] = [
    ("mmlu_test.jsonl", {"grader": "choice", "choices": "choices"}, ["mmlu/*"]),
    ("arc_challenge_test.jsonl", {"grader": "choice", "choices": "choices", "answer": "answerKey"}, ["arc-challenge"]),
    ("bbh_navigate_test.jsonl", {"grader": "yes-no", "question": "input", "answer": "target"}, ["bbh/navigate"]),
    ("gsm8k_test.parquet", {"grader": "number"}, ["gsm8k"]),
]


@pytest.mark.parametrize(("file", "settings", "names"), SAME)
def test_the_benchmarks_as_own_tables_have_the_golds_of_the_tasks(
    file: str, settings: dict[str, Any], names: list[str], benchmark_data: Path, tmp_path: Path
) -> None:
    from neuromas.tasks.mmlu import SUBJECTS

    names = [f"mmlu/{subject}" for subject in SUBJECTS] if names == ["mmlu/*"] else names
    builtin = [(q.metadata.get("stem", q.text), q.answer) for name in names for q in load_task(name).questions("test")]
    path = str(benchmark_data.resolve() / file)
    said = {"data": path, "test": path, "question": "question", "answer": "answer"} | settings
    own = task(tmp_path, **said)
    with pytest.raises(TaskError, match="nothing to train on"):  # all rows are test rows here
        own.questions("test")
    _, found = own.load()
    tails = ("\nOptions:\n- Yes\n- No",)
    ours = [(q.metadata.get("stem", q.text.removesuffix(tails[0])), q.answer) for q in found]
    assert sorted(ours) == sorted(builtin) and len(ours) > 200


TRAINED: list[tuple[str, dict[str, Any], list[str]]] = [
    ("arc_challenge_train.jsonl", SAME[1][1], ["arc-challenge"]),
    ("bbh_navigate_train.jsonl", SAME[2][1], ["bbh/navigate"]),
    ("gsm8k_train.parquet", SAME[3][1], ["gsm8k"]),
]


@pytest.mark.parametrize(("file", "settings", "names"), TRAINED)
def test_their_training_rows_as_own_tables_have_the_golds_of_the_tasks(
    file: str, settings: dict[str, Any], names: list[str], benchmark_data: Path, tmp_path: Path
) -> None:
    parts = [load_task(name).questions(split) for name in names for split in ("train", "validation")]
    builtin = {question.text: question.answer for part in parts for question in part}
    said = {"data": str(benchmark_data.resolve() / file), "question": "question", "answer": "answer"} | settings
    pool, _ = task(tmp_path, **said, test_size=1).load()
    ours = {question.text.removesuffix("\nOptions:\n- Yes\n- No"): question.answer for question in pool}
    assert len(builtin) > 100 and {text: ours[text] for text in builtin} == builtin


NESTED = "question,answer,options\n" + "".join(
    f"\"[{{'role': 'user', 'content': 'Q{place}'}}]\",{letter},\"{{'A': 'x', 'B': 'it is, y'}}\"\n"
    for place, letter in enumerate("ABAB")
)
TABLES: list[tuple[str, str, str, list[str] | str]] = [
    # pandas writes nested cells as Python does
    ("rows.csv", NESTED, 'grader = "choice"\nchoices = "options"', ["A", "B", "A", "B"]),
    ("rows.csv", "sep=;\r\nquestion;answer\r\na;1\r\nb;2\r\nc;3\r\nd;1.234,5\r\n", "", ["1", "2", "3", "1234.5"]),
    (
        "rows.csv",
        "question;answer\r\na;0,25 €\r\nb;-2,5\r\nc;3\r\nd;1.234,000\r\n;\r\n",
        "",
        ["0.25", "-2.5", "3", "1234"],
    ),
    ("rows.csv", "question;answer\na;1\u00a0250,5\nb;2\nc;3\nd;4\n", "", ["1250.5", "2", "3", "4"]),
    ("rows.csv", "question;answer\na;1,250\nb;2\nc;3\nd;4\n", "", ["1250", "2", "3", "4"]),  # thousands, as ever
    ("rows.csv", 'question,answer\na,"0,25"\nb,2\nc,3\nd,4\n', "", "'0,25'"),  # commas separate its cells
    ("rows.csv", "question;answer\na;0,25\nb;x\nc;3\nd;4\n", "", "'0,25'"),  # not a column of numbers
    ("rows.jsonl", '{"question": "a", "answer": 1, "answer": 2}\n', "", "line 1 .*has 'answer' twice"),
    ("rows.json", '[{"question": "a", "question": "b", "answer": 1}]', "", "has 'question' twice"),
]


@pytest.mark.parametrize(("name", "text", "settings", "found"), TABLES)
def test_tables_as_other_programs_write_them(
    tmp_path: Path, name: str, text: str, settings: str, found: list[str] | str
) -> None:
    (tmp_path / name).write_text(text, newline="")
    file = tmp_path / "own.toml"
    known = settings or 'grader = "number"'
    file.write_text(
        f'data = "{name}"\nquestion = "question"\nanswer = "answer"\ntest_size = 1\nvalidation_size = 1\n{known}'
    )
    if isinstance(found, str):
        with pytest.raises(TaskError, match=found):
            load_task(str(file)).questions("train")
        return
    task = load_task(str(file))
    asked = [q for split in ("train", "validation", "test") for q in task.questions(split)]
    assert sorted(q.answer for q in asked) == sorted(found)


def test_numbers_of_single_precision_are_those_that_were_written(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"q": list("abcd"), "a": pa.array([0.1, 0.2, 3, 1e-7], pa.float32())})
    parquet.write_table(table, tmp_path / "rows.parquet")
    assert [row["a"] for row in read_file(tmp_path / "rows.parquet")] == [0.1, 0.2, 3.0, 1e-7]


def test_cells_of_numpy_are_read_as_those_of_python() -> None:
    np = pytest.importorskip("numpy")
    found = [np.float32(0.1), np.int64(5), np.bool_(True), np.array(["a", "b"]), {"text": np.array([0.5], "float32")}]
    assert [native(cell) for cell in found] == [0.1, 5, True, ["a", "b"], {"text": [0.5]}]
    rows = [{"question": np.str_(f"Q{place}"), "answer": np.float32(0.1)} for place in range(10)]
    assert {q.answer for q in RowsTask(rows).questions("train")} == {"0.1"}
