"""Texts that end a turn, such as a newline for models that never end a message by themselves.

The rule: a turn ends with the token that completes a stop text. The tokens up to it were written, so they are counted,
scored and trained like an end-of-sequence token; the turn's text is cut before the stop text.
"""

from collections.abc import Callable, Sequence

from neuromas.network.generate import Completion, IsEnded

_SPARE = 8  # tokens beyond the bytes of a stop text that are decoded when it is looked for


def ending(decode: Callable[[list[int]], str], stops: Sequence[str]) -> IsEnded | None:
    """Tells of the tokens written so far whether the last of them completes a stop text; None where there is none.

    No text is made of more tokens than it has bytes, so only so many are decoded.
    """
    if not stops:
        return None
    window = max(len(stop.encode()) for stop in stops) + _SPARE
    return lambda ids: cut(decode(ids[-window:]), stops)[1]


def shortened(completion: Completion, ended: IsEnded) -> Completion:
    """The completion up to the first token at which it has ended; as it is where it has not."""
    for n in range(1, len(completion.ids) + 1):
        if ended(completion.ids[:n]):
            c = completion
            return Completion(c.ids[:n], c.logprobs[:n], c.entropies[:n], truncated=False)
    return completion


def cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the first of `stops`, and True if there was one."""
    starts = [start for stop in stops if (start := text.find(stop)) >= 0]
    return (text[: min(starts)], True) if starts else (text, False)
