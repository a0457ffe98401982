"""From answers and events to the objects of OpenAI's API."""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from neuromas.serve.engine import usage
from neuromas.serve.job import Answer, Delta, Done, Event, NodeDelta, NodeDone, Wish

Kind = Literal["chat", "completion"]
_PREFIX = {"chat": "chatcmpl", "completion": "cmpl"}
_OBJECT = {"chat": "chat.completion", "completion": "text_completion"}
FINGERPRINT = "neuromas"


@dataclass(frozen=True)
class Style:
    """How one request is answered: all that its objects have in common."""

    kind: Kind
    model: str
    created: int  # Unix time
    seed: int
    wish: Wish
    id: str = field(default_factory=lambda: secrets.token_hex(12))

    def whole(self, answers: Mapping[int, Answer]) -> dict[str, Any]:
        """The answer in one piece. answers: by choice."""
        choice = self._chat_choice if self.kind == "chat" else self._text_choice
        extra: dict[str, Any] = {"seed": self.seed}
        if self.wish.messages:
            extra["traces"] = [answers[i].nodes for i in sorted(answers)]
        return self._common(_OBJECT[self.kind]) | {
            "choices": [choice(i, answers[i]) for i in sorted(answers)],
            "usage": _usage(answers),
            "neuromas": extra,
        }

    def opening(self, choices: int) -> Iterator[dict[str, Any]]:
        """What a stream begins with."""
        for i in range(choices if self.kind == "chat" else 0):
            yield self._chunk([{"index": i, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])

    def chunks(self, event: Event) -> Iterator[dict[str, Any]]:
        """What a stream says of one event."""
        if isinstance(event, Delta):
            yield self._chunk([self._piece(event.choice, event.text, None)])
        elif isinstance(event, NodeDelta):
            yield self._chunk([], {"choice": event.choice, "node": event.node, "delta": event.text})
        elif isinstance(event, NodeDone):
            yield self._chunk([], {"choice": event.choice, "turn": event.turn})
        elif isinstance(event, Done):
            for k, answer in enumerate(event.answers):
                last = self._piece(event.first + k, "", answer.finish_reason)
                if self.wish.logprobs:
                    last["logprobs"] = _logprobs(answer)
                yield self._chunk([last])

    def usage(self, answers: Mapping[int, Answer]) -> dict[str, Any]:
        """The last event of a stream that was asked for it."""
        return self._chunk([]) | {"usage": _usage(answers)}

    def _piece(self, choice: int, text: str, finish_reason: str | None) -> dict[str, Any]:
        if self.kind == "completion":
            return {"index": choice, "text": text, "finish_reason": finish_reason, "logprobs": None}
        return {"index": choice, "delta": {"content": text} if text else {}, "finish_reason": finish_reason}

    def _chunk(self, choices: list[dict[str, Any]], extra: dict[str, Any] | None = None) -> dict[str, Any]:
        name = "chat.completion.chunk" if self.kind == "chat" else "text_completion"
        return self._common(name) | {"choices": choices, "neuromas": {"seed": self.seed} | (extra or {})}

    def _common(self, name: str) -> dict[str, Any]:
        return {
            "id": f"{_PREFIX[self.kind]}-{self.id}",
            "object": name,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }

    def _chat_choice(self, i: int, answer: Answer) -> dict[str, Any]:
        return {
            "index": i,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "finish_reason": answer.finish_reason,
            "logprobs": _logprobs(answer) if self.wish.logprobs else None,
        }

    def _text_choice(self, i: int, answer: Answer) -> dict[str, Any]:
        return {"index": i, "text": answer.text, "finish_reason": answer.finish_reason, "logprobs": None}


def _usage(answers: Mapping[int, Answer]) -> dict[str, Any]:
    prompt, generated, hidden = usage([answer.trace for answer in answers.values()])
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "completion_tokens_details": {"reasoning_tokens": hidden},
    }


def _logprobs(answer: Answer) -> dict[str, Any]:
    content = [
        {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
        for text, logprob, _ in answer.tokens
    ]
    return {"content": content, "refusal": None}
