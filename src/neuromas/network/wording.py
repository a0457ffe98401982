"""The words of prompts as data: what a prompt says besides the question and the messages, by version and style.

Every hidden node is told the same, and none is told what to be: no role words. The words of a version never change;
better ones are a new version, so that a run keeps those it was trained with (`prompt.version` of its config.json).
"""

from dataclasses import asdict, dataclass, replace
from typing import Literal

from neuromas.prompt_config import PromptConfig
from neuromas.types import Position

Style = Literal["chat", "plain", "compact"]


@dataclass(frozen=True)
class Wording:
    """The words of one prompt. The `compact` style leaves them out."""

    ask: str  # what the node is told to do
    labels: tuple[str, ...] = ()  # what stands before each message, in reading order
    question: str = ""  # what stands before the question
    begin: str = ""  # how the reply begins; what the node writes goes on from it
    date: str = ""  # the day that a chat template writes (ISO 8601); empty: today


@dataclass(frozen=True)
class Words:
    """The words of a network's prompts; the fields are the settings of `[prompt]`, which has their descriptions."""

    hidden: str
    output: str
    place: str
    message: str
    question: str = ""
    begin: str = ""
    answer: str = ""
    date: str = ""

    @classmethod
    def of(cls, config: PromptConfig | None, style: Style) -> "Words":
        """Those of the settings, and of their version and `style` where a setting is left out."""
        config = config or PromptConfig()
        given = {name: text for name, text in config if name != "version" and text is not None}
        given |= {"date": config.date.isoformat()} if config.date else {}
        return replace(WORDS[config.version, "chat" if style == "compact" else style], **given)

    def at(self, position: Position, tokens: int) -> Wording:
        """The wording for the node at `position`, which may write that many tokens.

        A network of one node is told nothing about networks.
        """
        senders = tuple(self.message.format(sender=sender) for sender in position.upstream)
        if position.depth == 1:
            return self.around(ANSWER, (), answering=True)
        line = self.output
        if not position.is_output:
            line = self.hidden.format(
                readers=_nodes(position.downstream), tokens=tokens, words=max(1, round(tokens * _WORDS_PER_TOKEN))
            )
        if self.place == "sentence":
            line = f"{_sentence(position)} {line}"
        elif self.place == "tag":
            line = f"{line} {_tag(position)}"
        return self.around(line, senders, answering=position.is_output)

    def around(self, ask: str, labels: tuple[str, ...], *, answering: bool) -> Wording:
        """Other words, e.g. a baseline's, in the same layout."""
        return Wording(ask, labels, self.question, self.answer if answering else self.begin, self.date)

    def to_dict(self) -> dict[str, str]:
        """The words as a checkpoint keeps them; a date only where there is one."""
        return {name: text for name, text in asdict(self).items() if text or name != "date"}


ANSWER = "Answer the question."  # the words of a single call
_WORDS_PER_TOKEN = 0.75  # of English prose
_FIRST = Words(
    hidden="Write a short message for {readers}.",
    output="Give the final answer.",
    place="sentence",
    message="Message from node {sender}",
)
_STEP = replace(_FIRST, hidden="Write one step of the solution, as short as possible, nothing else.", place="none")
WORDS: dict[tuple[int, Style], Words] = {
    (1, "chat"): _FIRST,
    (1, "plain"): _FIRST,
    (2, "chat"): _STEP,
    (2, "plain"): _STEP,
}


def _sentence(at: Position) -> str:
    """A node's place in words: where it stands and whom it reads."""
    reads = f" You read {_nodes(at.upstream)}." if at.upstream else ""
    return f"You are node {at.id}, place {at.index} of {at.width} in layer {at.layer} of {at.depth}.{reads}"


def _tag(at: Position) -> str:
    """A node's place as a short tag."""
    read_by = f"; read by {', '.join(at.downstream)}" if at.downstream else ""
    return f"[node {at.id}; reads {', '.join(at.upstream) or 'nothing'}{read_by}]"


def _nodes(ids: tuple[str, ...]) -> str:
    return f"node {ids[0]}" if len(ids) == 1 else f"nodes {', '.join(ids[:-1])} and {ids[-1]}"
