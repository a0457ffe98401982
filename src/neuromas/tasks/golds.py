"""Gold answers: what they may be for each grader. Whatever else a table holds is refused before anything runs.

A gold answer is read by its type, never by the rules for replies: 1e-05 is the number 0.00001, and "none" is no number.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from neuromas.tasks import numerals, parsing, symbolic, words
from neuromas.tasks.cells import Options, plain, shown
from neuromas.tasks.features import Label
from neuromas.types import Question

Grader = Literal["exact", "contains", "number", "yes-no", "choice", "code", "math"]
AnswerForm = Literal["label", "letter", "text", "index", "number"]
FORMS: dict[AnswerForm, str] = {
    "label": "the labels of options",
    "letter": "letters of options",
    "text": "the text of options",
    "index": "indices of options, from 0",
    "number": "numbers of options, from 1",
}

_NEEDS = {
    "exact": "text",
    "contains": "text",
    "number": "one number, alone or with a unit",
    "math": "an expression that math-verify reads",
    "yes-no": "yes, no, true, false, 1 or 0",
}
_TRUTH = {**dict.fromkeys(("yes", "true", "1", "1.0"), "Yes"), **dict.fromkeys(("no", "false", "0", "0.0"), "No")}


def read(cell: Any, grader: Grader) -> list[str]:
    """The right answers that a cell holds, each in the form that the grader compares with. A list means any of them.

    SQuAD's {"text": […]} and TriviaQA's {"value": …, "aliases": […]} are lists too. Raises ValueError where one of them
    can never be given, or there is none.
    """
    several = cell
    if isinstance(cell, dict):
        value = cell.get("text", cell.get("value"))
        several = [*(value if isinstance(value, list) else [value]), *(cell.get("aliases") or [])]
    answers = [_one(answer, grader) for answer in (several if isinstance(several, list | tuple) else [several])]
    if not answers:
        raise ValueError("holds no answer")
    return list(dict.fromkeys(answers))


def alternatives(answers: Sequence[str]) -> dict[str, list[str]]:
    """The metadata of a question with these right answers, of which the first is its `answer`; see `right`."""
    return {"answers": list(answers)} if len(answers) > 1 else {}


def right(question: Question) -> list[str]:
    """All right answers of a question."""
    return question.metadata.get("answers", [question.answer])


def _one(cell: Any, grader: Grader) -> str:
    try:
        if grader == "yes-no":
            return _TRUTH[(str(cell) if isinstance(cell, bool | int) else plain(cell)).strip(" .").lower()]
        if isinstance(cell, bool) and grader != "number":
            return str(cell)
        if isinstance(cell, int | float | Decimal) and not isinstance(cell, bool):
            return numerals.of(cell)
        text = plain(cell)
        if grader == "number":
            return numerals.only(text)
        if not words.bare(text) or (grader == "math" and symbolic.read(text) is None):
            raise ValueError(text)
        return text
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"is {shown(cell)}, which grader {grader!r} cannot read: it must be {_NEEDS[grader]}"
        ) from error


class ChoiceRow(NamedTuple):
    """A row of a table of choices."""

    place: str  # As errors name it, such as "rows.csv, row 3".
    cell: Any  # The answer.
    options: Options


def form_of(rows: Sequence[ChoiceRow], told: AnswerForm | None) -> AnswerForm:
    """The way in which a column names the right options, one for every row.

    told: what its owner says. Otherwise the first of these that fits every row: labels, where options have such; of
    whole numbers indices from 0, then text or numbers from 1; of texts letters, text or indices, then numbers from 1;
    of named classes letters or text, then the places of the classes.
    Raises ValueError where none fits, or where two of one rank fit and disagree.
    """
    numeric = all(isinstance(cell, int | float) for row in rows for cell in _cells(row.cell))
    ranks: tuple[tuple[AnswerForm, ...], ...] = (("label",), ("letter", "text", "index"), ("number",))
    if any(isinstance(cell, Label) for row in rows for cell in _cells(row.cell)):
        ranks = (("label",), ("letter", "text"), ("index",))
    if numeric:
        ranks = (("label",), ("index",), ("text", "number"))
    if told:
        ranks = ((told,),)
    for rank in ranks:
        fits: list[AnswerForm] = [form for form in rank if all(_indices(row, form) for row in rows)]
        for row in rows:
            if len({tuple(_indices(row, form) or ()) for form in fits}) > 1:
                raise ValueError(
                    f"{row.place}: the answer {shown(row.cell)} of {shown(row.options.texts)} means different options "
                    f"as {' and as '.join(FORMS[form] for form in fits)}, and every row can be read so; set answer_is "
                    f"to {' or '.join(map(repr, fits))}"
                )
        if fits:
            return fits[0]
    best = told or max(FORMS, key=lambda form: sum(bool(_indices(row, form)) for row in rows))
    row = next(row for row in rows if not _indices(row, best))
    raise ValueError(
        f"{row.place}: the answer is {shown(row.cell)}, and as {FORMS[best]}{'' if told else ', which fits most rows,'}"
        f" that is no option, no letter of one and no index among {shown(row.options.texts)}; name options the same "
        f"way in every row, or set answer_is to one of {', '.join(FORMS)}"
    )


def chosen(cell: Any, options: Options, form: AnswerForm) -> list[int]:
    """The 0-based indices of the right options. Raises ValueError where there is none."""
    found = _indices(ChoiceRow("", cell, options), form)
    if found is None:
        raise ValueError(f"is {shown(cell)}, which names no option")
    return found


def _cells(cell: Any) -> Sequence[Any]:
    return cell if isinstance(cell, list | tuple) else [cell]


def _indices(row: ChoiceRow, form: AnswerForm) -> list[int] | None:
    cells = _cells(row.cell)
    read = [None if isinstance(cell, bool) else _READERS[form](cell, row.options) for cell in cells]
    found = [index for index in read if index is not None]
    return found if found and len(found) == len(cells) else None


def _place(cell: Any, names: Sequence[str]) -> int | None:
    """The only place of a name; None where it has none, or several."""
    name = str(cell).strip()
    return names.index(name) if names.count(name) == 1 else None


def _letter(cell: Any, options: Options) -> int | None:
    name = str(cell).strip().strip("().:").upper()
    return _place(name, parsing.LETTERS[: len(options.texts)]) if len(name) == 1 else None


def _number(cell: Any, options: Options, first: int) -> int | None:
    text = str(cell.place if isinstance(cell, Label) else cell).strip().removesuffix(".0")
    index = int(text) - first if text.isdecimal() and len(text) < 3 else -1
    return index if 0 <= index < len(options.texts) else None


_READERS: dict[AnswerForm, Callable[[Any, Options], int | None]] = {
    "label": lambda cell, options: _place(cell, options.labels or ()),
    "letter": _letter,
    "text": lambda cell, options: _place(cell, options.texts),
    "index": lambda cell, options: _number(cell, options, 0),
    "number": lambda cell, options: _number(cell, options, 1),
}
