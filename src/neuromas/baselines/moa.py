"""Mixture-of-Agents: rounds of proposals, then one synthesis of them. Wang et al. 2024, arXiv 2406.04692."""

from neuromas.baselines.chat import ANSWER, MIXED, Baseline, Chat, Dialogue, Note, answer, at_least, numbered
from neuromas.types import Question

IMPROVE = (
    "Several answers to the question are given; some may be wrong. Use what is good in them to answer it yourself."
)
AGGREGATE = "Several answers to the question are given; some may be wrong. Combine them into one final answer."


class MixtureOfAgents(Baseline):
    """`agents` proposers in each of `rounds`; from the second round on they read all answers of the round before.

    Calls: rounds·agents + 1, of which rounds + 1 one after the other. All proposers are one backbone (the paper's
    "single-proposer" setting), so proposals are sampled always.
    """

    title = "moa"
    greedy_name = MIXED

    def __init__(self, chat: Chat, rounds: int = 1, agents: int = 3) -> None:
        super().__init__(chat)
        at_least(1, rounds=rounds, agents=agents)
        self.rounds, self.agents = rounds, agents

    def dialogue(self, question: Question) -> Dialogue:
        earlier: list[Note] = []
        for r in range(1, self.rounds + 1):
            ask = IMPROVE if earlier else ANSWER
            answers = yield [answer(f"propose-{r}.{i}", ask, *earlier, sampled=True) for i in range(1, self.agents + 1)]
            earlier = numbered("Answer", answers)
        (final,) = yield [answer("aggregate", AGGREGATE, *earlier)]
        return final
