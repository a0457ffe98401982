"""Self-consistency: c sampled answers, the most frequent one wins. Wang et al. 2022, arXiv 2203.11171."""

from collections.abc import Sequence

from neuromas.baselines.chat import Chat, Parse, at_least
from neuromas.baselines.direct import direct
from neuromas.types import Question, System, Trace


class Vote:
    """`votes` samples of another system per question. Ties go to the answer that came first; the unreadable lose."""

    def __init__(self, system: System, votes: int, parse: Parse) -> None:
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
        samples = self.system.answer(questions, greedy=False, seed=seed, rollouts=rollouts * self.votes)
        out: list[Trace] = []
        for i in range(0, len(samples), self.votes):
            votes = samples[i : i + self.votes]
            question = questions[i // (rollouts * self.votes)]
            winner = votes[elect([self.parse(question, vote.answer) for vote in votes])]
            out.append(
                Trace(
                    question_id=question.id,
                    rollout=(i // self.votes) % rollouts,
                    calls=[call for vote in votes for call in vote.calls],
                    answer=winner.answer,
                    sequential_calls=max(vote.sequential_calls for vote in votes),
                    sequential_tokens=max(vote.sequential_tokens for vote in votes),
                    seconds=sum(vote.seconds for vote in votes),
                )
            )
        return out


def elect(parsed: Sequence[str | None], weights: Sequence[float] | None = None) -> int:
    """Index of the winner: the first of those that gave the answer with the largest summed weight.

    weights: one for each answer; None: all are equal. Ties go to the answer that came first. None is an answer that
    could not be read and has no vote; where no answer has one, the first wins.
    """
    total: dict[str, float] = {}
    for answer, weight in zip(parsed, weights or [1.0] * len(parsed), strict=True):
        if answer is not None:
            total[answer] = total.get(answer, 0.0) + weight
    return parsed.index(max(total, key=total.__getitem__)) if total else 0


def self_consistency(chat: Chat, parse: Parse, votes: int = 5) -> Vote:
    """The majority of `votes` sampled answers of the bare backbone."""
    at_least(1, votes=votes)
    return Vote(direct(chat), votes, parse)
