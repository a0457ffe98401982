"""Self-consistency: c sampled answers, the most frequent one wins. Wang et al. 2022, arXiv 2203.11171."""

from collections import Counter
from collections.abc import Callable

from neuromas.types import Question, System, Trace


class Vote:
    """`votes` samples of another system per question. Ties go to the answer that came first; the unreadable lose."""

    def __init__(self, system: System, votes: int, parse: Callable[[Question, str], str | None]) -> None:
        self.system, self.votes, self.parse = system, votes, parse
        self.decoding_name = "sampled"
        self.name = f"{system.name}, vote of {votes}"

    @property
    def trainable_parameters(self) -> int:
        return self.system.trainable_parameters

    def answer(
        self, questions: list[Question], *, greedy: bool = False, seed: int = 0, rollouts: int = 1
    ) -> list[Trace]:
        """Always sampled (`greedy` would cast the same vote c times); a trace holds the calls of all its votes."""
        asked = self.system.answer(questions, greedy=False, seed=seed, rollouts=rollouts * self.votes)
        out: list[Trace] = []
        for i in range(0, len(asked), self.votes):
            votes = asked[i : i + self.votes]
            question = questions[i // (rollouts * self.votes)]
            parsed = [self.parse(question, vote.answer) for vote in votes]
            counts = Counter(p for p in parsed if p is not None)
            winner = votes[parsed.index(counts.most_common(1)[0][0])] if counts else votes[0]
            out.append(
                Trace(
                    question_id=question.id,
                    rollout=(i // self.votes) % rollouts,
                    calls=[call for vote in votes for call in vote.calls],
                    answer=winner.answer,
                    sequential_calls=max(vote.sequential_calls for vote in votes),
                    seconds=sum(vote.seconds for vote in votes),
                )
            )
        return out
