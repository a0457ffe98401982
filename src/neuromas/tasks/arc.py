"""ARC-Challenge: school science questions, chosen because retrieval and word statistics fail on them."""

from typing import ClassVar

from neuromas.tasks.choice import MultipleChoice, lettered
from neuromas.tasks.tables import RawRow, Source
from neuromas.types import Question

_COLUMNS = ("id", "question", "choices", "answerKey")


class ArcChallenge(MultipleChoice):
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
    version = 2
    changes: ClassVar = {
        1: "First version.",
        2: "Stated letters first; rejected ones and two at once are none; no thoughts.",
    }
    source = "allenai/ai2_arc, ARC-Challenge (CC BY-SA 4.0)"

    train_rows = Source("arc_challenge_train", "allenai/ai2_arc", "ARC-Challenge", "train", _COLUMNS)
    test_rows = Source("arc_challenge_test", "allenai/ai2_arc", "ARC-Challenge", "test", _COLUMNS)
    default_validation_size = 150

    def render(self, row: RawRow) -> Question:
        try:
            options = [str(option) for option in row["choices"]["text"]]
            gold = [str(label) for label in row["choices"]["label"]].index(str(row["answerKey"]))
            if gold >= len(options) or len(options) > 10:
                raise ValueError(f"{len(options)} options")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"choices and answerKey {row['answerKey']!r} do not fit together ({error})") from error
        return lettered(str(row["id"]), str(row["question"]), options, gold)
