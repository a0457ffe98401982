"""Leaving out questions that teach nothing any more, and asking others in their place."""

from collections.abc import Sequence
from pathlib import Path

from neuromas.files import append_json_line, read_json_lines
from neuromas.train.schedule import Schedule
from neuromas.types import Question


class Selection:
    """The questions of each step in the schedule's order, without those that are solved.

    A question is solved once all its rollouts were right in its last `visits` visits. What was visited is one line a
    step in a file of the run folder, which a resumed run reads again, so that it asks the same. Where everything is
    solved, nothing is left out.
    """

    def __init__(self, schedule: Schedule, visits: int | None, file: Path, start: int, *, write: bool = True) -> None:
        """visits: None leaves nothing out. start: the step after which these questions are asked, write: False for
        workers but the first."""
        self.schedule, self.visits, self._file = schedule, visits, file if write else None
        self._drawn = start * schedule.size  # how far the schedule has been read
        self._streaks: dict[str, int] = {}  # of visits that were all right, up to now
        for step, groups, drawn in read_json_lines(file, lambda line: (line["step"], line["groups"], line["drawn"])):
            if step > start:
                self._take(groups, drawn)

    def next(self, count: int) -> list[Question]:
        """The next `count` questions."""
        out: list[Question] = []
        skipped = 0
        while len(out) < count:
            question = self.schedule.question(self._drawn)
            self._drawn += 1
            if self.solved(question) and skipped < self.schedule.total:
                skipped += 1
            else:
                out.append(question)
        return out

    def solved(self, question: Question) -> bool:
        return self.visits is not None and self._streaks.get(question.id, 0) >= self.visits

    def done(self, step: int, groups: Sequence[tuple[str, bool]]) -> None:
        """Note what became of a step's questions: (id, whether all rollouts were right)."""
        if self._file is not None:
            append_json_line(self._file, {"step": step, "drawn": self._drawn, "groups": [list(g) for g in groups]})
        self._take(groups, self._drawn)

    def _take(self, groups: Sequence[tuple[str, bool]], drawn: int) -> None:
        self._drawn = drawn
        for id, right in groups:
            self._streaks[id] = self._streaks.get(id, 0) + 1 if right else 0
