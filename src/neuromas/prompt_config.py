"""The settings of `[prompt]`: the words of a network's prompts. Their defaults are in network/wording.py."""

from datetime import date as Date
from typing import Literal

from pydantic import field_validator

from neuromas.recipe import Section

PROMPT_VERSION = 2  # of the default words; the words of a version never change


class PromptConfig(Section):
    """The words of a network's prompts, the same for every hidden node. None: those of `version` for the prompt style;
    style `compact` has no words."""

    version: Literal[1, 2] = PROMPT_VERSION
    """Words of settings that are left out: 2 asks hidden nodes for a step of the work, 1 (version 0.1.0) for a message,
    after a sentence about their place."""
    hidden: str | None = None
    """What every hidden node is told. `{words}` and `{tokens}` stand for `sampling.message_tokens`, the former in words
    of English; `{readers}` for the nodes that read the message."""
    output: str | None = None
    """What the output node is told."""
    place: Literal["none", "tag", "sentence"] | None = None
    """Where the node stands and whom it reads: not said, a short tag behind the line, or a sentence before it."""
    message: str | None = None
    """What stands before each message; `{sender}` is its node."""
    question: str | None = None
    """What stands before the question, as `"Question: "`."""
    begin: str | None = None
    """How the reply of every hidden node begins; its message goes on from there."""
    answer: str | None = None
    """How the reply of the output node begins, before the answer prefix of the task."""
    date: Date | None = None
    """The day that chat templates with a date write into prompts (2026-11-29); a run keeps that of its first step."""

    @field_validator("hidden", "message")
    @classmethod
    def _check_fields(cls, text: str | None) -> str | None:
        try:
            (text or "").format(words=1, tokens=1, readers="", sender="")
        except (LookupError, ValueError, AttributeError) as error:
            allowed = "hidden may name {words}, {tokens} and {readers}, message {sender}"
            raise ValueError(f"{allowed}; a brace itself is written twice") from error
        return text
