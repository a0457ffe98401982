"""Turns answers and events into the objects of OpenAI's API."""

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from neuromas.serve import schema
from neuromas.serve.faults import Fault
from neuromas.serve.job import Answer, Delta, Event, NodeDone

Asked = TypeVar("Asked", bound=schema.AnswerRequest)


@dataclass
class AnswerFormat(Generic[Asked]):
    """All that the objects of the answer to one request have in common."""

    names_events: ClassVar[bool] = False  # True where the events of a stream have names
    last_words: ClassVar[str] = "[DONE]"  # what a stream ends with
    request: Asked
    model: str
    seed: int
    created: int = field(default_factory=lambda: int(time.time()))  # Unix time
    id: str = field(default_factory=lambda: secrets.token_hex(12))

    def failure(self, fault: Fault) -> dict[str, Any]:
        """The event of a stream that cannot go on."""
        return fault.body()


class CompletionsFormat(AnswerFormat[schema.AnswerRequest]):
    """The form of chat and completions."""

    @property
    def chat(self) -> bool:
        return isinstance(self.request, schema.ChatRequest)

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The response in one piece. answers: one for each choice."""
        extension = schema.NeuromasAnswer(seed=self.seed)
        if self.request.wants_messages:
            extension.traces = [answer.turns for answer in answers]
        choice = _chat_choice if self.chat else _text_choice
        return {
            **self._common("chat.completion" if self.chat else "text_completion"),
            "choices": [choice(i, answer).model_dump() for i, answer in enumerate(answers)],
            "usage": usage_of(answers).model_dump(),
            "neuromas": extension.model_dump(exclude_unset=True),
        }

    def opening(self, choices: int) -> Iterator[dict[str, Any]]:
        """The first events of a stream."""
        for i in range(choices if self.chat else 0):
            yield self._chunk(self._piece(i, {"role": "assistant", "content": ""}))

    def chunks(self, event: Event) -> Iterator[dict[str, Any]]:
        """The events of a stream for something that happened."""
        if isinstance(event, Delta) and event.node is None:
            yield self._chunk(self._piece(event.choice, {"content": event.text}))
        elif isinstance(event, Delta):
            yield self._chunk(choice=event.choice, node=event.node, delta=event.text)
        elif isinstance(event, NodeDone):
            yield self._chunk(choice=event.choice, turn=event.turn.model_dump(exclude_unset=True))
        else:
            last = self._piece(event.choice, {}, event.answer.finish_reason)
            if event.answer.tokens is not None:
                last["logprobs"] = _logprobs(event.answer.tokens).model_dump()
            yield self._chunk(last)

    def closing(self, answers: Sequence[Answer]) -> Iterator[dict[str, Any]]:
        """The last events of a stream."""
        if (options := self.request.stream_options) and options.include_usage:
            yield self._chunk() | {"usage": usage_of(answers).model_dump()}

    def _piece(self, choice: int, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        if self.chat:
            return {"index": choice, "delta": delta, "finish_reason": finish_reason}
        return {"index": choice, "text": delta.get("content", ""), "finish_reason": finish_reason, "logprobs": None}

    def _chunk(self, *choices: dict[str, Any], **extension: Any) -> dict[str, Any]:
        common = self._common("chat.completion.chunk" if self.chat else "text_completion")
        return common | {"choices": choices, "neuromas": {"seed": self.seed} | extension}

    def _common(self, name: str) -> dict[str, Any]:
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}",
            "object": name,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": "neuromas",
        }


def _chat_choice(i: int, answer: Answer) -> schema.ChatChoice:
    logprobs = None if answer.tokens is None else _logprobs(answer.tokens)
    message = schema.Reply(role="assistant", content=answer.text)
    return schema.ChatChoice(index=i, message=message, finish_reason=answer.finish_reason, logprobs=logprobs)


def _text_choice(i: int, answer: Answer) -> schema.CompletionChoice:
    return schema.CompletionChoice(index=i, text=answer.text, finish_reason=answer.finish_reason, logprobs=None)


def usage_of(answers: Sequence[Answer]) -> schema.Usage:
    traces = [answer.trace for answer in answers]
    prompt, generated = sum(t.prompt_tokens for t in traces), sum(t.generated_tokens for t in traces)
    hidden = generated - sum(trace.calls[-1].generated_tokens for trace in traces)
    return schema.Usage(
        prompt_tokens=prompt,
        completion_tokens=generated,
        total_tokens=prompt + generated,
        completion_tokens_details=schema.UsageDetails(reasoning_tokens=hidden),
    )


def _logprobs(tokens: Sequence[schema.Token]) -> schema.Logprobs:
    content = [
        schema.TokenLogprob(token=t.token, logprob=t.logprob, bytes=list(t.token.encode()), top_logprobs=[])
        for t in tokens
    ]
    return schema.Logprobs(content=content)
