"""Gold answers: what they may be for each grader. Whatever else a table holds is refused before anything runs.

A gold answer is read by its type, never by the rules for replies: 1e-05 is the number 0.00001, and "none" is no number.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from neuromas.tasks import numerals, parsing
from neuromas.tasks.cells import Options, plain, shown
from neuromas.types import Question

Grader = Literal["exact", "contains", "number", "yes-no", "choice"]
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
    "yes-no": "yes, no, true, false, 1 or 0",
}
_TRUTH = {**dict.fromkeys(("yes", "true", "1"), "Yes"), **dict.fromkeys(("no", "false", "0"), "No")}


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
        if not parsing.bare(text):
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

    told: what its owner says. Otherwise whole numbers are labels where options have such, else indices (from 0, or
    from 1 where only that fits every row); texts are labels, letters, the options' own text, or indices, whichever fits
    every row. Raises ValueError where none does, or where two fit and disagree.
    """
    numeric = all(isinstance(cell, int | float) for row in rows for cell in _cells(row.cell))
    tried: tuple[AnswerForm, ...] = (
        (told,) if told else tuple(form for form in FORMS if not numeric or form not in ("letter", "text"))
    )
    unread: dict[AnswerForm, ChoiceRow | None] = {
        form: next((row for row in rows if _indices(row, form) is None), None) for form in tried
    }
    fits = [form for form, row in unread.items() if row is None]
    if not fits:
        best = max(tried, key=lambda form: sum(_indices(row, form) is not None for row in rows))
        row = unread[best]
        assert row is not None
        meant = f"as {FORMS[best]}, which fits most rows, that is" if not told else f"as {FORMS[best]} that is"
        raise ValueError(
            f"{row.place}: the answer is {shown(row.cell)}, and {meant} no option, no letter of one and no index among "
            f"{shown(row.options.texts)}; name options the same way in every row, or set answer_is to one of "
            f"{', '.join(FORMS)}"
        )
    rivals = [form for form in fits if form != "number" or fits == ["number"]]
    for row in rows:
        if len({tuple(_indices(row, form) or ()) for form in rivals}) > 1:
            raise ValueError(
                f"{row.place}: the answer {shown(row.cell)} of {shown(row.options.texts)} means different options as "
                f"{' and as '.join(FORMS[form] for form in rivals)}, and every row can be read so; set answer_is to "
                f"{' or '.join(map(repr, rivals))}"
            )
    return fits[0]


def chosen(cell: Any, options: Options, form: AnswerForm) -> list[int]:
    """The 0-based indices of the right options. Raises ValueError where there is none."""
    found = _indices(ChoiceRow("", cell, options), form)
    if found is None:
        raise ValueError(f"is {shown(cell)}, which names no option")
    return found


def _cells(cell: Any) -> Sequence[Any]:
    return cell if isinstance(cell, list | tuple) else [cell]


def _indices(row: ChoiceRow, form: AnswerForm) -> list[int] | None:
    found = [_READERS[form](cell, row.options) for cell in _cells(row.cell) if not isinstance(cell, bool)]
    return (
        None
        if None in found or len(found) != len(_cells(row.cell)) or not found
        else [i for i in found if i is not None]
    )


def _place(cell: Any, names: Sequence[str]) -> int | None:
    name = str(cell).strip()
    return names.index(name) if name in names else None


def _letter(cell: Any, options: Options) -> int | None:
    name = str(cell).strip().strip("().:").upper()
    return _place(name, parsing.LETTERS[: len(options.texts)]) if len(name) == 1 else None


def _number(cell: Any, options: Options, first: int) -> int | None:
    text = str(cell).strip().removesuffix(".0")
    index = int(text) - first if text.isdecimal() and len(text) < 3 else -1
    return index if 0 <= index < len(options.texts) else None


_READERS: dict[AnswerForm, Callable[[Any, Options], int | None]] = {
    "label": lambda cell, options: _place(cell, options.labels or ()),
    "letter": _letter,
    "text": lambda cell, options: _place(cell, options.texts),
    "index": lambda cell, options: _number(cell, options, 0),
    "number": lambda cell, options: _number(cell, options, 1),
}
