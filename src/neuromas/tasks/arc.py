"""ARC-Challenge: school science questions, chosen because retrieval and word statistics fail on them."""

from typing import ClassVar

from neuromas.tasks import choice, data
from neuromas.types import Question

_COLUMNS = ("id", "question", "choices", "answerKey")
_TRAIN = data.Source("arc_challenge_train", "allenai/ai2_arc", "ARC-Challenge", "train", _COLUMNS)
_TEST = data.Source("arc_challenge_test", "allenai/ai2_arc", "ARC-Challenge", "test", _COLUMNS)


class ArcChallenge(choice.MultipleChoice):
    """Clark et al. 2018 (CC BY-SA 4.0): 1172 test questions with 3 to 5 options; options numbered 1–4 get letters.

    A real sample (training row Mercury_SC_415702):

        text         George wants to warm his hands quickly by rubbing them. Which skin surface will produce the
                     most heat?
                     A. dry palms
                     B. wet palms
                     C. palms covered with oil
                     D. palms covered with lotion
        instruction  Answer with only the letter of the right option.
        prefix       The answer is
        answer       A
    """

    name = "arc-challenge"
    version = 1
    changes: ClassVar = {1: "First version."}
    source = "allenai/ai2_arc, ARC-Challenge (CC BY-SA 4.0)"

    def __init__(self, validation_size: int = 150, seed: int = 0) -> None:
        """Validation questions are carved from the training rows, the seed chooses which."""
        super().__init__(validation_size, seed)

    def load(self) -> tuple[list[Question], list[Question]]:
        return _questions(_TRAIN), _questions(_TEST)


def _questions(source: data.Source) -> list[Question]:
    rows = data.read(source)
    ids = data.unique_ids(str(row["id"]) for row in rows)
    return [_question(source, number, id, row) for number, (id, row) in enumerate(zip(ids, rows, strict=True), 1)]


def _question(source: data.Source, number: int, id: str, row: data.Row) -> Question:
    try:
        options = [str(option) for option in row["choices"]["text"]]
        gold = [str(label) for label in row["choices"]["label"]].index(str(row["answerKey"]))
        if not 0 <= gold < len(options) <= 10:
            raise ValueError(f"{len(options)} options")
    except (KeyError, TypeError, ValueError) as error:
        why = f"choices and answerKey {row['answerKey']!r} do not fit together ({error})"
        raise data.malformed(source, number, why) from error
    return choice.render(id, str(row["question"]), options, gold)
