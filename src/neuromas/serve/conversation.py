"""From a conversation to the one question that a network is asked.

The rule: system and developer messages come first, each as it is, in their order. If all that is left is one message
of the user, it follows as it is: so a lone user message is the question. Otherwise each turn follows on a line of its
own, as `User: …` or `Assistant: …`, in order. Nothing but text reaches the nodes: a role is a word, never a marker.
"""

from collections.abc import Sequence
from typing import Literal

Role = Literal["system", "developer", "user", "assistant"]


def question_text(turns: Sequence[tuple[Role, str]]) -> str:
    """The question that (role, text) turns are."""
    frame = [text for role, text in turns if role in ("system", "developer")]
    said = [(role, text) for role, text in turns if role in ("user", "assistant")]
    lone = len(said) == 1 and said[0][0] == "user"
    return "\n".join([*frame, *(text if lone else f"{role.capitalize()}: {text}" for role, text in said)])
