"""Self-Refine: answer, criticise, revise. Madaan et al. 2023, arXiv 2303.17651."""

from neuromas.baselines.chat import Baseline, Chat, Dialogue, Note, answer, at_least, message
from neuromas.types import Question

CRITIQUE = "Read the answer given so far. Say briefly what is wrong with it, or that it is right."
REVISE = "Use the critique to give a better answer to the question."
FUSED = "Look for mistakes in the answer given so far, then answer the question again, corrected."


class SelfRefine(Baseline):
    """`rounds` revisions. fused: critique and revision in one call.

    Calls: 1 + rounds when fused (2 by default), else 1 + 2·rounds; all one after the other. The fused call answers in
    the task's form, so its critique is what the model does not write down.
    """

    title = "self-refine"

    def __init__(self, chat: Chat, rounds: int = 1, fused: bool = True) -> None:
        super().__init__(chat)
        at_least(1, rounds=rounds)
        self.rounds, self.fused = rounds, fused

    def dialogue(self, question: Question) -> Dialogue:
        (current,) = yield [answer("draft")]
        for t in range(1, self.rounds + 1):
            so_far: Note = ("Answer so far", current)
            if self.fused:
                (current,) = yield [answer(f"revise-{t}", FUSED, so_far)]
            else:
                (critique,) = yield [message(f"critique-{t}", CRITIQUE, so_far)]
                (current,) = yield [answer(f"revise-{t}", REVISE, so_far, ("Critique", critique))]
        return current
