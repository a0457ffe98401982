"""From (where a node stands, question, upstream messages) to token ids: the only place where text becomes tokens.

The order of a prompt is *words, question, upstream messages*, so everything before the first message is one prefix that
all rollouts of a (question, node) share; the words are data (network/wording.py). Text from outside (questions,
messages) is encoded with special tokens disabled, so that a message which spells a chat marker stays text (an edge
carries text, not control).

Styles:

- `chat`: through the tokenizer's chat template, thinking switched off where the template has that switch.
- `plain`: the same words without markers, for base models.
- `compact`: the terse form that the embedded `tiny` backbone was trained on; the instruction is left out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any

from neuromas.errors import BackboneError, PromptError
from neuromas.network.chat_template import around, is_dated
from neuromas.network.wording import Style, Wording, Words
from neuromas.types import Message, Position, Question

_BLANK = " \n\t\r▁"  # of runs of blanks that some vocabularies add as tokens; ▁ stands for a space there
_LEAD = "\x02"  # merges with nothing, so what follows it is encoded as in the middle of a text


@dataclass(frozen=True)
class Prompt:
    """Token ids of one node's prompt: `prefix_ids + own_ids` is what the model reads."""

    prefix_ids: list[int]  # structure and question; shared by all rollouts of this (question, node)
    own_ids: list[int]  # upstream messages and what follows; empty for a node without upstream
    dropped_tokens: int = 0  # message tokens left out so that the prompt fits (see `PromptTemplate`)


class PromptTemplate:
    """Renders prompts for one tokenizer.

    Overflow rule: structure, question and everything but the upstream messages are never cut; when they alone
    exceed `context_window - reserve`, a `PromptError` says so. When messages are too long, every message keeps
    its first k tokens, with the largest k for which the prompt fits; `Prompt.dropped_tokens` counts the rest.
    """

    def __init__(self, tokenizer: Any, style: Style, context_window: int) -> None:
        if style == "chat" and not getattr(tokenizer, "chat_template", None):
            raise BackboneError(
                "prompt style 'chat' needs a chat template, and this tokenizer has none; use style 'plain'"
            )
        self.tokenizer = tokenizer
        self.style: Style = style
        self.context_window = context_window
        self.cached_tokens = 4_000_000  # about so many tokens of encoded prompts are kept
        self._cache: dict[tuple[object, ...], tuple[list[int], list[int]]] = {}
        self._cache_holds = 0  # tokens
        markers = filter(lambda token: token.strip(_BLANK), tokenizer.get_added_vocab())  # blanks are text, not markers
        added = sorted(markers, key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, added))) if added else None
        self._marker_ids = _marker_ids(tokenizer)
        self._lead = _LEAD if _adds_a_blank(tokenizer) else ""
        self.is_dated = style == "chat" and is_dated(tokenizer)
        self._around: dict[str, tuple[list[int], list[int], list[int]]] = {}  # by day
        self._markers("")

    def render(
        self,
        position: Position,
        question: Question,
        messages: Sequence[Message],
        reserve: int,
        wording: Wording | None = None,
    ) -> Prompt:
        """The prompt of the node at `position`; `reserve` tokens of the context window are kept for its reply.

        wording: None: the default words of a network.
        Raises `PromptError` where it does not fit without its messages.
        """
        got, want = [m.sender for m in messages], list(position.upstream)
        assert got == want, f"node {position.id} reads {want}, was given {got}"
        wording = wording or Words.of(None, self.style).at(position, reserve)
        assert len(wording.labels) == len(messages), "one label for each message"
        key = (position, wording, question.id, question.text, question.instruction, question.answer_prefix)
        if key not in self._cache:
            if self._cache_holds > self.cached_tokens:
                self._cache.clear()
                self._cache_holds = 0
            self._cache[key] = self._head(position, question, wording), self._tail(position, question, wording)
            self._cache_holds += sum(map(len, self._cache[key]))
        head, tail = self._cache[key]
        if not messages:
            self._check_fits(len(head) + len(tail), reserve, position, question)
            return Prompt(head + tail, [])
        labels = [self.encode(self._label(m.sender, name)) for m, name in zip(messages, wording.labels, strict=True)]
        ends = self.encode("\n" if self.style == "compact" else "")
        bodies = [self.encode(m.text) for m in messages]
        fixed = len(head) + len(tail) + sum(len(label) + len(ends) for label in labels)
        self._check_fits(fixed, reserve, position, question)
        bodies, dropped = _fit(bodies, self.context_window - reserve - fixed)
        own = [i for label, body in zip(labels, bodies, strict=True) for i in (*label, *body, *ends)]
        return Prompt(head, own + tail, dropped)

    def decode(self, ids: list[int]) -> str:
        """Text of a completion, special tokens left out."""
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    # -- parts --------------------------------------------------------------------------------------------

    def _head(self, at: Position, question: Question, wording: Wording) -> list[int]:
        if self.style == "compact":
            text = f"{at.id}<{','.join(at.upstream)}>{','.join(at.downstream)}:"
            return self.encode(text + (question.text if at.sees_question else "") + "\n")
        user = self.encode(_asked(at, question, wording))
        before_system, between, _ = self._markers(wording.date)
        return before_system + self.encode(wording.ask) + between + user

    def _tail(self, at: Position, question: Question, wording: Wording) -> list[int]:
        if self.style == "compact":
            return self.encode("A" if at.is_output else ">")
        begins = (wording.begin, question.answer_prefix if at.is_output else "")
        return self._markers(wording.date)[2] + self.encode(" ".join(filter(None, begins)))

    def _label(self, sender: str, name: str) -> str:
        return f"{sender}:" if self.style == "compact" else f"\n{name}: "

    # -- encoding -----------------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """Ids of text from outside: markers in it are spelled out, never turned into special or added tokens."""
        if not text:
            return []
        cuts = [m.start() + 1 for m in self._added.finditer(text)] if self._added else []  # split, few markers match
        ids: list[int] = []
        for start, end in pairwise([0, *cuts, len(text)]):
            ids += self._spelled(text[start:end])
        return ids

    def _spelled(self, text: str) -> list[int]:
        """Ids of a piece of text, none of which is a marker's: what still makes one is encoded in smaller pieces.

        Tokenizers also find markers behind a change of the text (letters of another width or case), and markers that
        overlap others. A character that is a marker by itself is encoded by the vocabulary without markers.
        """
        ids = self._encoded(text)
        if self._marker_ids.isdisjoint(ids):
            return ids
        if len(text) > 1:
            middle = len(text) // 2
            return self._spelled(text[:middle]) + self._spelled(text[middle:])
        bare = _without_markers(self.tokenizer, text)
        return bare if self._marker_ids.isdisjoint(bare) else []

    def _encoded(self, text: str, *, special: bool = False, lead: str | None = None) -> list[int]:
        """Ids of a piece of text. Vocabularies that put a blank before every text are shown a `_LEAD` that takes it."""
        lead = self._lead if lead is None else lead
        encode = lambda text: self.tokenizer(text, add_special_tokens=False, split_special_tokens=not special).input_ids
        return encode(lead + text)[len(encode(lead)) if lead else 0 :] if text else []

    def _markers(self, day: str) -> tuple[list[int], list[int], list[int]]:
        """Ids of what the chat template puts before the system text, between it and the user's, and after.

        day: what it writes as today's date, where it writes one; empty: that of the first call.
        """
        day = day if self.is_dated else ""
        if day not in self._around:
            self._around[day] = self._found(date.fromisoformat(day) if day else date.today())
        return self._around[day]

    def _found(self, day: date) -> tuple[list[int], list[int], list[int]]:
        if self.style == "compact":
            return [], [], []
        if self.style == "plain":
            start = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
            return start, self.encode("\n"), self.encode("\n")
        before, between, after = around(self.tokenizer, day)
        first: list[int] = self._encoded(before, special=True, lead="") if before else []
        return first, self._encoded(between, special=True), self._encoded(after, special=True)

    def _check_fits(self, length: int, reserve: int, at: Position, question: Question) -> None:
        if length + reserve > self.context_window:
            raise PromptError(
                f"question {question.id!r} needs {length} prompt tokens at node {at.id} and {reserve} are kept for "
                f"the reply, but the backbone's context window is {self.context_window}; shorten the question, "
                "lower sampling.message_tokens or answer_tokens, or use a backbone with a longer context"
            )


def _marker_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of special and added tokens, but of blanks, which are text, and of the one that means unknown text alone."""
    special = {id for id in tokenizer.all_special_ids if id is not None}
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown not in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        special.discard(unknown)
    added = {id for token, id in tokenizer.get_added_vocab().items() if token.strip(_BLANK) and id != unknown}
    return frozenset(special | added)


def _without_markers(tokenizer: Any, text: str) -> list[int]:
    """Ids of text by a fast tokenizer's vocabulary alone; [] of any other."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None:
        return []
    normal = core.normalizer.normalize_str(text) if core.normalizer else text
    parts = core.pre_tokenizer.pre_tokenize_str(normal) if core.pre_tokenizer else [(normal, None)]
    return [token.id for part, _ in parts for token in core.model.tokenize(part)]


def _adds_a_blank(tokenizer: Any) -> bool:
    """True for vocabularies in the manner of SentencePiece, whose texts begin with a blank that was not in them."""
    ids = lambda text: tokenizer(text, add_special_tokens=False).input_ids
    lead, inside = ids(_LEAD), ids(f"{_LEAD}a")
    return inside[: len(lead)] == lead and inside[len(lead) :] != ids("a")


def words(at: Position, question: Question, notes: Sequence[str], wording: Wording) -> str:
    """The user's words of a chat prompt, as text: for models that take no token ids. How the reply begins is left out.

    notes: what the node reads besides the question, one for each label of `wording`.
    """
    read = (f"\n{label}: {text}" for label, text in zip(wording.labels, notes, strict=True))
    return _asked(at, question, wording) + "".join(read)


def _asked(at: Position, question: Question, wording: Wording) -> str:
    parts = [wording.question + question.text] if at.sees_question else []
    if at.is_output and question.instruction:
        parts.append(question.instruction)
    return "\n".join(parts)


def _fit(bodies: list[list[int]], room: int) -> tuple[list[list[int]], int]:
    """Each body's first k tokens, k as large as fits into `room` tokens altogether; and how many were dropped."""
    total = sum(map(len, bodies))
    if total <= room:
        return bodies, 0
    limit = max(map(len, bodies))
    while sum(min(len(b), limit) for b in bodies) > room:
        limit -= 1
    kept = [b[:limit] for b in bodies]
    return kept, total - sum(map(len, kept))
