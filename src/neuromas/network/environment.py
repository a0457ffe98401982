"""Turns with an environment: a node that asks something is given the answer and writes on, within one call.

A segment of a call ends with a pause text (see network/stopping.py). What the environment answers is read, and is no
act of the node's: its tokens have no log-probability, are not counted as generated, and no loss falls on them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, Self

from neuromas.network.prompt import Prompt, PromptTemplate
from neuromas.network.stopping import cut
from neuromas.types import NodeCall, Question

Respond = Callable[[str], str | None]  # a node's text so far → what the environment adds; None: nothing, it is over


class Environment(Protocol):
    """A task whose nodes may ask."""

    turns: int  # the most segments of one call
    pauses: tuple[str, ...]  # texts that end a segment

    def respond(self, question: Question, text: str) -> str | None: ...


@dataclass(frozen=True)
class Inquiry:
    """The environment, as one call may ask it."""

    turns: int
    pauses: tuple[str, ...]
    respond: Respond

    @classmethod
    def of(cls, environment: Environment | None, question: Question) -> Self | None:
        """The environment, as a call may ask it about a question; None where there is nobody to ask."""
        if environment is None or environment.turns < 2:
            return None
        return cls(environment.turns, environment.pauses, partial(environment.respond, question))


def answered(call: NodeCall, inquiry: Inquiry, template: PromptTemplate, limit: int) -> tuple[NodeCall, int]:
    """The call with the environment's answer behind it, and the tokens that it may still write; 0 where it is over.

    The answer is left out, and the call counts as truncated, where neither `limit` nor the context window leaves room
    to write on.
    """
    last = call.completion_ids[call.given[-1] + 1 if call.given else 0 :]
    if call.truncated or not cut(template.decode(last), inquiry.pauses)[1]:
        return call, 0
    answer = inquiry.respond(template.decode(call.completion_ids))
    if answer is None:
        return call, 0
    ids, written = template.encode(answer), len(call.completion_ids)
    room = template.context_window - call.prompt_tokens - call.generated_tokens - len(ids)
    left = min(limit - call.generated_tokens, room)
    if left < 1:
        return replace(call, truncated=True), 0
    given = (*call.given, *range(written, written + len(ids)))
    return replace(call, completion_ids=call.completion_ids + ids, given=given), left


def prompt_of(call: NodeCall) -> Prompt:
    """The prompt of a call's next segment: all that was read and written so far."""
    return Prompt(call.prefix_ids, call.own_ids + call.completion_ids, call.dropped_tokens)


def joined(call: NodeCall, more: NodeCall, template: PromptTemplate, stop: tuple[str, ...]) -> NodeCall:
    """One call of the segments so far and the next one, whose text is cut before a stop text."""
    ids = call.completion_ids + more.completion_ids
    before, whole = template.decode(call.completion_ids), template.decode(ids)
    return replace(
        call,
        completion_ids=ids,
        logprobs=call.logprobs + more.logprobs,
        entropies=call.entropies + more.entropies,
        text=before + cut(whole[len(before) :], stop)[0],
        truncated=more.truncated,
    )
