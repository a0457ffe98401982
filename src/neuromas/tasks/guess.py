"""Guesses of what a table is: its columns of questions, answers and options, the grader, the sizes of its splits."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuromas.errors import TaskError
from neuromas.recipe import TomlTable
from neuromas.tasks import cells, golds
from neuromas.tasks.golds import Grader
from neuromas.tasks.tables import RawRow, read_file, read_folder, splits_in, validation_in
from neuromas.tasks.words import normalise

# Names of columns, the most telling first; compared without case, accents and marks.
_QUESTIONS = """question questions prompt problem query instruction input text sentence review message frage pregunta
    domanda pergunta vraag q""".split()
_ANSWERS = """answer answers gold goldanswer correctanswer rightanswer finalanswer correct answerkey key target label
    labels class category sentiment output response completion solution result expected reply antwort respuesta reponse
    risposta resposta antwoord a""".split()
_OPTIONS = "choices options candidates alternatives".split()
_OPTION_STEMS = {"", "option", "opt", "op", "choice", "answer", "ending", "candidate"}
_MOST_LABELS = 10  # different answers that an instruction lists
_LONG = 8  # words of a usual answer above which its exact words are unlikely
_FILLED = 0.9  # share of rows in which a column with questions or answers has a cell
_LEAST_ROWS = 3


@dataclass(frozen=True)
class Guess:
    """The settings of a task, as far as its table tells them, with the reason for each."""

    settings: TomlTable  # of `OwnTaskFile`
    reasons: dict[str, str]  # for settings that were guessed
    warnings: list[str]


def guess(table: Path, told: TomlTable) -> Guess:
    """The settings of a table: a file, or a folder of one data set.

    told: settings that are known already. Raises TaskError where no column can hold the questions or the answers, or
    where there are too few rows; OSError and UnicodeDecodeError where the file cannot be read.
    """
    name = str(told.get("data", table.name))
    try:
        rows = _rows(table.parent / name)
    except FileNotFoundError as error:
        raise TaskError(f"{error.filename} does not exist; name a table that does") from error
    settings, reasons = {"data": name}, dict[str, str]()
    columns = _Columns(table, rows)

    def settle(key: str, found: Callable[[], tuple[Any, str]]) -> None:
        if key in told:
            settings[key] = told[key]
            columns.check(told[key])
            return
        settings[key], reasons[key] = found()

    settle("question", lambda: columns.question(told.get("answer")))
    options = columns.options(settings["question"]) if told.get("grader", "choice") == "choice" else None
    if "choices" in told or options:
        settle("choices", lambda: (options, "the options of each row"))
    used = [settings["question"], *_listed(settings.get("choices"))]
    settle("answer", lambda: columns.answer(used))
    answers = [row[settings["answer"]] for row in rows if not _empty(row.get(settings["answer"]))]
    _settle_words(settings, reasons, told, answers)
    brought = splits_in(table) if table.is_dir() else set[str]()
    if not told.get("test") and "test" in brought:
        settings["test"] = "test"
    sizes = _sizes(table, len({normalise(str(row.get(settings["question"]))) for row in rows}), "test" in settings)
    if validation_in(brought):
        del sizes["validation_size"]
    settings |= {key: told.get(key, size) for key, size in sizes.items()}
    return Guess(settings, reasons, _warnings(settings, answers))


def _settle_words(settings: TomlTable, reasons: dict[str, str], told: TomlTable, answers: Sequence[Any]) -> None:
    """Add to `settings` the grader of these answers, the instruction that goes with it, and the room for a reply."""
    grader, why = ("choice", "there are options") if "choices" in settings else _grader(answers)
    settings["grader"] = told.get("grader", grader)
    if "grader" not in told:
        reasons["grader"] = why
    texts = Counter(answer.strip() for answer in answers if isinstance(answer, str))
    few = len(texts) <= _MOST_LABELS and texts.total() == len(answers) >= 5 * len(texts)
    instruction = {
        "number": "Answer with the number alone.",
        "yes-no": "Answer with yes or no.",
        "exact": f"Answer with one of: {', '.join(sorted(texts))}." if few else "Reply with the answer alone.",
    }
    settings["instruction"] = told.get("instruction", instruction.get(settings["grader"], ""))
    if settings["grader"] != "choice":
        longest = max((len(str(answer).encode("utf-8", "surrogatepass")) for answer in answers), default=0)
        settings["max_answer_tokens"] = told.get("max_answer_tokens", max(32, -(-longest // 16) * 8))


def question_column(table: Path, rows: list[RawRow]) -> str:
    """The column of questions in a table that may have no answers. Raises TaskError where none seems to be it."""
    columns = _Columns(table, rows)
    return columns.all[0] if len(columns.all) == 1 else columns.question(None)[0]


class _Columns:
    """The columns of a table, by what their names and cells say of them."""

    def __init__(self, table: Path, rows: list[RawRow]) -> None:
        self._table, self._rows = table, rows
        self.all = list(dict.fromkeys(name for row in rows for name in row))
        self._names = {name: _plain_name(str(name)) for name in self.all}
        self._filled = [n for n in self.all if sum(not _empty(row.get(n)) for row in rows) >= _FILLED * len(rows)]

    def check(self, told: Any) -> None:
        """Raises TaskError for a column that is not there."""
        for name in _listed(told):
            if name not in self.all:
                raise TaskError(f"{self._table} has no column {name!r}; it has {', '.join(map(str, self.all))}")

    def question(self, answer: str | None) -> tuple[str, str]:
        """The column of questions with the reason: by its name, the first of two, or the one with the most words."""
        if named := self._named(_QUESTIONS, [answer]):
            return named, "by its name"
        free = [name for name in self._free() if name != answer]
        if not free or (len(free) < 2 and answer is None):
            self._refuse("questions", "question")
        if len(free) <= 2:
            return free[0], "the first column"
        words = {name: len({word for row in self._rows for word in str(row.get(name)).split()}) for name in free}
        return max(free, key=words.__getitem__), "the column with the most words"

    def answer(self, used: Sequence[str]) -> tuple[str, str]:
        """The column of answers with the reason: by its name, or the last one."""
        if named := self._named(_ANSWERS, used):
            return named, "by its name"
        free = [name for name in self._free() if name not in used]
        if not free:
            self._refuse("answers", "answer")
        return free[-1], "the last column"

    def options(self, question: str) -> str | list[str] | None:
        """The column in which every cell is a list of options, else the columns that hold one each."""
        lists = lambda name: all(_reads(cells.options, cell) for cell in self._cells(name))
        listed = [name for name in self._filled if name != question and lists(name)]
        if listed:
            return next((name for name in listed if self._names[name] in _OPTIONS), listed[0])
        families: dict[str, list[str]] = {}
        for name in self.all:
            if (hit := re.fullmatch(r"(\D*?)([a-j]|\d)", self._names[name])) and hit[1] in _OPTION_STEMS:
                families.setdefault(hit[1] + ("1" if hit[2].isdigit() else "a"), []).append(name)
        for family in families.values():
            if not any(name not in family and name != question for name in self._filled):
                continue  # nothing is left to hold the answers
            marks = "".join(self._names[name][-1] for name in family)
            if len(family) > 1 and marks in (
                "abcdefghij"[: len(marks)],
                "0123456789"[: len(marks)],
                "123456789"[: len(marks)],
            ):
                return family
        return None

    def _named(self, known: Sequence[str], used: Sequence[str | None]) -> str | None:
        free = {self._names[name]: name for name in reversed(self._filled) if name not in used}
        return next((free[name] for name in known if name in free), None)

    def _free(self) -> list[str]:
        """The columns that are filled, and are neither numbers of rows nor without a name."""
        named = [name for name in self._filled if self._names[name]]
        free = [name for name in named if not self._counts(name)]
        return free if len(free) > 1 else named

    def _counts(self, name: str) -> bool:
        """True where a column numbers its rows."""
        texts = [str(cell).strip() for cell in self._cells(name)]
        if self._names[name] in ("id", "index", "nr", "no", "row", "uid", "uuid", "idx"):
            return True
        return all(map(str.isdecimal, texts)) and [int(t) - int(texts[0]) for t in texts] == [*range(len(texts))]

    def _cells(self, name: str) -> list[Any]:
        return [row[name] for row in self._rows if not _empty(row.get(name))]

    def _refuse(self, what: str, setting: str) -> None:
        raise TaskError(
            f"{self._table}: no column seems to hold the {what} (it has {', '.join(map(str, self.all))}); name it "
            f"with {setting} = …, or --{setting}"
        )


def _rows(table: Path) -> list[RawRow]:
    rows = read_folder(table, "train") if table.is_dir() else read_file(table)
    if len(rows) < _LEAST_ROWS:
        raise TaskError(
            f"{table} has {len(rows)} rows, and training, validation and test need one each; give it "
            f"{_LEAST_ROWS} or more"
        )
    return rows


def _grader(answers: Sequence[Any]) -> tuple[Grader, str]:
    """The first grader that can hold every answer, with the reason."""
    words = {str(answer).strip(" .").lower() for answer in answers}
    if words <= {"yes", "no", "true", "false"}:
        return "yes-no", "every answer is yes or no"
    if all(_reads(golds.read, answer, "number") for answer in answers):
        return "number", "every answer is a number"
    return "exact", "the answers are texts"


def _reads(read: Callable[..., Any], cell: Any, *how: str) -> bool:
    """True where `read` takes a cell without a ValueError."""
    try:
        return bool(read(cell, *how))
    except ValueError:
        return False


def _sizes(table: Path, distinct: int, has_test: bool) -> dict[str, int]:
    """Sizes of the splits that are carved out: a fifth each, at most 200 for the test and 100 for validation."""
    if distinct < _LEAST_ROWS:
        raise TaskError(f"{table} asks {distinct} different questions; give it {_LEAST_ROWS} or more")
    fifth = max(1, distinct // 5)
    return {"validation_size": min(100, fifth)} | ({} if has_test else {"test_size": min(200, fifth)})


def _warnings(settings: TomlTable, answers: Sequence[Any]) -> list[str]:
    words = sorted(len(str(answer).split()) for answer in answers)
    if settings["grader"] != "exact" or not words or (usual := words[len(words) // 2]) <= _LONG:
        return []
    text = f"answers have {usual} words or so, which no reply meets word by word; grade them by a function of yours"
    return [f'{text} (grader = "reward.py:score", which is called with question and reply)']


def _plain_name(name: str) -> str:
    """A column's name without case, accents and marks."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKD", name.casefold()))


def _listed(columns: Any) -> list[str]:
    return [] if columns is None else [columns] if isinstance(columns, str) else list(columns)


def _empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, list) and not cell)
