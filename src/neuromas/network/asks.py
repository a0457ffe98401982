"""What is asked of a network in one pass: a question, how it is answered, and who listens meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from neuromas.network.generate import GoOn
from neuromas.network.sampling import Decoding
from neuromas.types import NodeCall, Question


class Listener(Protocol):
    """Hears the answers to a question while they are written, in the thread that runs the pass."""

    def wrote(self, rollout: int, node: str, ids: list[int]) -> bool:
        """`node` has written so many tokens and has not ended; False ends its turn here."""
        ...

    def said(self, rollout: int, call: NodeCall) -> None:
        """A node's turn is over, and so is its layer's."""
        ...


@dataclass(frozen=True)
class Ask:
    """A question and how it is answered; asks of one pass may differ in everything."""

    question: Question
    rollouts: range  # their numbers, which their random draws depend on
    seed: int
    decoding: Decoding
    listener: Listener | None = None


def going_on(turns: Sequence[tuple[Ask, int, str]]) -> GoOn | None:
    """Asks the listener of each turn (ask, rollout, node) whether it goes on; None where nobody listens."""
    if all(ask.listener is None for ask, _, _ in turns):
        return None

    def go_on(turn: int, ids: list[int]) -> bool:
        ask, rollout, node = turns[turn]
        return ask.listener is None or ask.listener.wrote(rollout, node, ids)

    return go_on
