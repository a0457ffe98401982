"""Turns answers and events into the objects of OpenAI's API."""

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuromas.serve import schema
from neuromas.serve.job import Answer, Delta, Done, Event, NodeDone

FINGERPRINT = "neuromas"


@dataclass(frozen=True)
class ResponseFormat:
    """The form of the answers to one request, and what all of its objects have in common."""

    request: schema.AnswerRequest
    model: str
    seed: int
    created: int = field(default_factory=lambda: int(time.time()))  # Unix time
    id: str = field(default_factory=lambda: secrets.token_hex(12))

    @property
    def chat(self) -> bool:
        return isinstance(self.request, schema.ChatRequest)

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The response in one piece. answers: one for each choice."""
        extension = schema.NeuromasAnswer(seed=self.seed)
        if self.request.wants_messages:
            extension.traces = [answer.turns for answer in answers]
        choice, name = (self._chat_choice, "chat.completion") if self.chat else (_text_choice, "text_completion")
        return self._common(name) | {
            "choices": [choice(i, answer).model_dump() for i, answer in enumerate(answers)],
            "usage": _usage(answers).model_dump(),
            "neuromas": extension.model_dump(exclude_unset=True),
        }

    def opening(self, choices: int) -> Iterator[dict[str, Any]]:
        """The first chunks of a stream."""
        for i in range(choices if self.chat else 0):
            yield self._chunk([{"index": i, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])

    def chunks(self, event: Event) -> Iterator[dict[str, Any]]:
        """The chunks of a stream for one event."""
        if isinstance(event, Delta) and event.node is None:
            yield self._chunk([self._piece(event.choice, event.text, None)])
        elif isinstance(event, Delta):
            yield self._chunk([], {"choice": event.choice, "node": event.node, "delta": event.text})
        elif isinstance(event, NodeDone):
            yield self._chunk([], {"choice": event.choice, "turn": event.turn.model_dump(exclude_unset=True)})
        elif isinstance(event, Done):
            for i, answer in enumerate(event.answers, start=event.first):
                last = self._piece(i, "", answer.finish_reason)
                if self.request.wants_logprobs:
                    last["logprobs"] = _logprobs(answer).model_dump()
                yield self._chunk([last])

    def usage(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The last chunk of a stream that was asked for it."""
        return self._chunk([]) | {"usage": _usage(answers).model_dump()}

    def _piece(self, choice: int, text: str, finish_reason: str | None) -> dict[str, Any]:
        if self.chat:
            return {"index": choice, "delta": {"content": text} if text else {}, "finish_reason": finish_reason}
        return {"index": choice, "text": text, "finish_reason": finish_reason, "logprobs": None}

    def _chunk(self, choices: list[dict[str, Any]], extra: dict[str, Any] | None = None) -> dict[str, Any]:
        name = "chat.completion.chunk" if self.chat else "text_completion"
        return self._common(name) | {"choices": choices, "neuromas": {"seed": self.seed} | (extra or {})}

    def _common(self, name: str) -> dict[str, Any]:
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}",
            "object": name,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }

    def _chat_choice(self, i: int, answer: Answer) -> schema.ChatChoice:
        logprobs = _logprobs(answer) if self.request.wants_logprobs else None
        message = schema.Reply(role="assistant", content=answer.text)
        return schema.ChatChoice(index=i, message=message, finish_reason=answer.finish_reason, logprobs=logprobs)


def _text_choice(i: int, answer: Answer) -> schema.CompletionChoice:
    return schema.CompletionChoice(index=i, text=answer.text, finish_reason=answer.finish_reason, logprobs=None)


def _usage(answers: Sequence[Answer]) -> schema.Usage:
    traces = [answer.trace for answer in answers]
    prompt, generated = sum(t.prompt_tokens for t in traces), sum(t.generated_tokens for t in traces)
    hidden = generated - sum(len(trace.calls[-1].completion_ids) for trace in traces)
    return schema.Usage(
        prompt_tokens=prompt,
        completion_tokens=generated,
        total_tokens=prompt + generated,
        completion_tokens_details=schema.UsageDetails(reasoning_tokens=hidden),
    )


def _logprobs(answer: Answer) -> schema.Logprobs:
    content = [
        schema.TokenLogprob(token=t.token, logprob=t.logprob, bytes=list(t.token.encode()), top_logprobs=[])
        for t in answer.tokens
    ]
    return schema.Logprobs(content=content)
