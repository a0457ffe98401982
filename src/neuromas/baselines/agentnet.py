"""AgentNet: agents that route questions among themselves and remember what went well. Yang et al. 2025, 2504.00587."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from neuromas.baselines.chat import ANSWER, Chat, Dialogue, Note, answer, at_least, converse, message
from neuromas.baselines.fitted import FitProgress, Fitted, FittedState, training_order
from neuromas.network.sampling import stream_key
from neuromas.tasks.base import Task
from neuromas.tasks.reward import graded
from neuromas.types import Question

ROUTE = (
    "You are agent {me} of a team (ability {ability:.1f}). Others: {others}. Decide who works on the question. "
    "Reply with {choices}"
)
EXECUTE_CHOICE = "EXECUTE to answer it yourself"
FORWARD_CHOICE = "FORWARD and an agent's number to pass it on"
SPLIT_CHOICE = "SPLIT and an agent's number to do a part of it and pass on the rest"
PART = "Work out a first part of the question that helps to answer it. Reply with its result only."

Action = Literal["execute", "forward", "split"]

_ACTION = re.compile(r"\b(execute|forward|split)", re.IGNORECASE)
_WORD = re.compile(r"\w+|[^\w\s]")

START, GAIN, CEILING = 0.6, 0.1, 2.0  # ability: at first, for a success, at most
UP, DOWN, LOW, HIGH, CUT = 1.1, 0.9, 0.1, 2.0, 0.3  # edge weight: factors, bounds, and below which it is not used


@dataclass
class Experience:
    """One thing that an agent did on the way to a right answer."""

    question: str
    action: Action
    text: str  # the words it wrote; after "forward" the number of the agent it chose

    @property
    def decision(self) -> str:
        """The decision as the router writes it."""
        return f"FORWARD {self.text}" if self.action == "forward" else self.action.upper()


@dataclass
class Agent:
    """An agent's record: all that tells it from the others."""

    ability: float = START  # rises with success; the most able agent is asked first
    tried: int = 0  # questions it worked on
    right: int = 0
    memories: list[Experience] = field(default_factory=list[Experience])  # oldest first


@dataclass
class Move:
    """The decision and the words of one agent in one hop; `fit` learns from it."""

    agent: int
    action: Action
    text: str = ""
    target: int | None = None  # the agent that got the question next; None after "execute"


class AgentNet(Fitted):
    """The most able agent gets the question. Its router executes, forwards, or splits (does a part, passes it on).

    Calls: a router's and an executor's at least; at most 2·min(agents, hops) - 1, all one after the other. An agent is
    visited once (the route is acyclic), at most `forwards` forwards and `hops` hops are made, then it must execute;
    nobody is asked where nothing can be chosen. Router and executor read the `retrieved` memories of their agent that
    are most like the question. Where the paper compares embeddings, this compares counts of words; there is one
    ability, since a task is of one kind; and abilities do not decay.
    """

    title = "agentnet"

    def __init__(
        self, chat: Chat, agents: int = 3, forwards: int = 3, hops: int = 5, retrieved: int = 3, memories: int = 40
    ) -> None:
        super().__init__(chat)
        at_least(2, agents=agents)
        at_least(1, hops=hops, memories=memories)
        at_least(0, forwards=forwards, retrieved=retrieved)
        self.forwards, self.hops, self.retrieved, self.memories = forwards, hops, retrieved, memories
        self.agents = [Agent() for _ in range(agents)]
        self.weights = [[1.0] * agents for _ in range(agents)]  # one for each edge, from agent to agent

    def dialogue(self, question: Question) -> Dialogue:
        return self.route(question, [])

    def route(self, question: Question, moves: list[Move]) -> Dialogue:
        """The dialogue of one question; what the agents do is added to `moves`."""
        current, visited, forwarded = self.first(question), set[int](), 0
        progress: list[Note] = []
        for hop in range(1, self.hops + 1):
            visited.add(current)
            open_to = [j for j in range(len(self.agents)) if j not in visited and self.weights[current][j] > CUT]
            action, target = "execute", None
            if hop < self.hops and open_to:
                may_forward = forwarded < self.forwards
                ask = self.words(current, open_to, may_forward)
                past = self.recall(current, question, ("execute", "forward", "split"), "Earlier question and decision")
                (reply,) = yield [message(f"route-{hop}", ask, *past, *progress)]
                action, target = self.read(reply, open_to, may_forward)
            if action == "execute" or target is None:
                past = self.recall(current, question, ("execute",), "Earlier question and right answer")
                (final,) = yield [answer(f"execute-{hop}", ANSWER, *past, *progress)]
                moves.append(Move(current, "execute", final))
                return final
            if action == "split":
                past = self.recall(current, question, ("split",), "Earlier question and useful part")
                (part,) = yield [message(f"part-{hop}", PART, *past, *progress)]
                progress.append((f"Part worked out by agent {current + 1}", part))
                moves.append(Move(current, "split", part, target))
            else:
                forwarded += 1
                moves.append(Move(current, "forward", str(target + 1), target))
            current = target
        raise AssertionError("the last hop executes")

    def first(self, question: Question) -> int:
        """The most able agent; of equally able ones one by a hash of the question's id."""
        best = max(agent.ability for agent in self.agents)
        able = [i for i, agent in enumerate(self.agents) if agent.ability == best]
        return able[stream_key(self.title, question.id) % len(able)]

    def words(self, me: int, open_to: Sequence[int], may_forward: bool) -> str:
        """The request to the router of agent `me`."""
        reachable = [(j + 1, self.agents[j]) for j in open_to]
        others = "; ".join(f"agent {n}, ability {a.ability:.1f}, {a.right} of {a.tried} right" for n, a in reachable)
        choices = [EXECUTE_CHOICE, *([FORWARD_CHOICE] if may_forward else []), SPLIT_CHOICE]
        listed = f"{', '.join(choices[:-1])}, or {choices[-1]}."
        return ROUTE.format(me=me + 1, ability=self.agents[me].ability, others=others, choices=listed)

    def read(self, reply: str, open_to: Sequence[int], may_forward: bool) -> tuple[Action, int | None]:
        """A router's decision; what cannot be read or is not allowed is "execute". An agent who is not open to the
        question, or none, stands for the most able one who is."""
        hit = _ACTION.search(reply)
        action = hit[1].lower() if hit else "execute"
        if hit is None or action == "execute" or (action == "forward" and not may_forward):
            return "execute", None
        named = [int(n) - 1 for n in re.findall(r"[0-9]{1,4}", reply[hit.end() :])]
        ablest = max(open_to, key=lambda j: self.agents[j].ability)
        return ("forward" if action == "forward" else "split"), next((j for j in named if j in open_to), ablest)

    def recall(self, agent: int, question: Question, actions: Sequence[Action], label: str) -> list[Note]:
        """The agent's memories of such actions that are most like the question, best first, as notes."""
        memories = [memory for memory in self.agents[agent].memories if memory.action in actions]
        ranked = sorted(memories, key=lambda m: -similarity(m.question, question.text))[: self.retrieved]
        if len(actions) == 1:
            return [(label, f"{m.question} -> {m.text}") for m in ranked]
        return [(label, f"{m.question} -> {m.decision}") for m in ranked]

    def fit(
        self, task: Task, questions: int = 100, batch: int = 10, seed: int = 0, progress: FitProgress | None = None
    ) -> None:
        """The labelled pass without gradients: answer training questions, learn from those that came out right.

        The questions of a batch are answered side by side, by the agents as they were before it.
        """
        at_least(1, questions=questions, batch=batch)
        pool = training_order(task, questions, seed)
        for start in range(0, len(pool), batch):
            asked = pool[start : start + batch]
            moves: list[list[Move]] = [[] for _ in asked]
            rows = [(q, start + i, self.route(q, moves[i])) for i, q in enumerate(asked)]
            traces = converse(self.chat, rows, greedy=True, seed=seed)
            rewards = [grade.reward for grade in graded(task, asked, [trace.answer for trace in traces])]
            self.count(traces, rewards)
            for question, made, reward in zip(asked, moves, rewards, strict=True):
                self.learn(question, made, reward == 1)
            if progress is not None:
                progress(start + len(asked), len(pool))
        self.fit_task = task.name

    def learn(self, question: Question, moves: Sequence[Move], success: bool) -> None:
        """Edges used gain or lose weight; after a success the agents that worked grow in ability and all remember."""
        for move in moves:
            agent = self.agents[move.agent]
            if move.target is not None:
                weight = self.weights[move.agent][move.target] * (UP if success else DOWN)
                self.weights[move.agent][move.target] = min(HIGH, max(LOW, weight))
            if move.action != "forward":
                agent.tried += 1
                agent.right += success
            if success:
                agent.memories = [*agent.memories, Experience(question.text, move.action, move.text)][-self.memories :]
                if move.action != "forward":
                    agent.ability = min(CEILING, agent.ability + GAIN)

    def state(self) -> FittedState:
        return {"count": len(self.agents), "agents": [asdict(a) for a in self.agents], "weights": self.weights}

    def restore(self, state: FittedState) -> None:
        self.check(state, count=len(self.agents))
        self.agents = [
            Agent(a["ability"], a["tried"], a["right"], [Experience(**m) for m in a["memories"]])
            for a in state["agents"]
        ]
        self.weights = state["weights"]


def similarity(one: str, other: str) -> float:
    """Cosine similarity of two texts' counts of words and signs, in [0, 1]."""
    a, b = (Counter(_WORD.findall(text.lower())) for text in (one, other))
    norm = math.sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values()))
    return sum(n * b[word] for word, n in a.items()) / norm if norm else 0.0
