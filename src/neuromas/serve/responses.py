"""Turns answers and events into the objects of OpenAI's Responses API."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuromas.serve.faults import Fault
from neuromas.serve.job import Answer, Delta, Event, NodeDone
from neuromas.serve.render import AnswerFormat, usage_of
from neuromas.serve.responses_schema import (
    IncompleteDetails,
    OutputMessage,
    OutputText,
    OutputTokensDetails,
    ResponseBody,
    ResponsesRequest,
    ResponseUsage,
)
from neuromas.serve.schema import NeuromasAnswer


@dataclass
class ResponsesFormat(AnswerFormat[ResponsesRequest]):
    """The form of the answer to one request: a response with one message, or the events of its making."""

    names_events = True
    last_words = ""
    _events: int = field(default=0)  # of the stream so far

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        return self._response(answers[0]).model_dump()

    def opening(self, choices: int) -> Iterator[dict[str, Any]]:
        response = self._response().model_dump()
        yield self._event("response.created", response=response)
        yield self._event("response.in_progress", response=response)
        item = OutputMessage(id=self._item, status="in_progress", content=[]).model_dump()
        yield self._event("response.output_item.added", output_index=0, item=item)
        yield self._event("response.content_part.added", **self._place, part=OutputText(text="").model_dump())

    def chunks(self, event: Event) -> Iterator[dict[str, Any]]:
        if isinstance(event, Delta) and event.node is None:
            yield self._event("response.output_text.delta", **self._place, delta=event.text, logprobs=[])
        elif isinstance(event, Delta):
            yield self._event("neuromas.delta", node=event.node, delta=event.text)
        elif isinstance(event, NodeDone):
            yield self._event("neuromas.turn", turn=event.turn.model_dump(exclude_unset=True))

    def closing(self, answers: Sequence[Answer]) -> Iterator[dict[str, Any]]:
        response = self._response(answers[0])
        item = response.output[0]
        part = item.content[0]
        yield self._event("response.output_text.done", **self._place, text=part.text, logprobs=[])
        yield self._event("response.content_part.done", **self._place, part=part.model_dump())
        yield self._event("response.output_item.done", output_index=0, item=item.model_dump())
        yield self._event(f"response.{response.status}", response=response.model_dump())

    def failure(self, fault: Fault) -> dict[str, Any]:
        error = fault.body()["error"]
        return self._event("error", **{name: error[name] for name in ("code", "message", "param")})

    @property
    def _item(self) -> str:
        return f"msg_{self.id}"

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item, "output_index": 0, "content_index": 0}

    def _event(self, type: str, **more: Any) -> dict[str, Any]:
        self._events += 1
        return {"type": type, "sequence_number": self._events - 1, **more}

    def _response(self, answer: Answer | None = None) -> ResponseBody:
        """The response as it stands: before there is an answer, or with it."""
        asked = self.request
        response = ResponseBody(
            id=f"resp_{self.id}",
            created_at=self.created,
            status="in_progress",
            instructions=asked.instructions,
            max_output_tokens=asked.limit,
            metadata=asked.metadata or {},
            model=self.model,
            temperature=asked.temperature,
            top_p=asked.top_p,
            user=asked.user,
            neuromas=NeuromasAnswer(seed=self.seed),
        )
        if answer is None:
            return response
        response.status = "completed" if answer.finish_reason == "stop" else "incomplete"
        if response.status == "incomplete":
            response.incomplete_details = IncompleteDetails(reason="max_output_tokens")
        response.output = [OutputMessage(id=self._item, status=response.status, content=[OutputText(text=answer.text)])]
        tokens = usage_of([answer])
        response.usage = ResponseUsage(
            input_tokens=tokens.prompt_tokens,
            output_tokens=tokens.completion_tokens,
            output_tokens_details=OutputTokensDetails(
                reasoning_tokens=tokens.completion_tokens_details.reasoning_tokens
            ),
            total_tokens=tokens.total_tokens,
        )
        if asked.wants_messages:
            response.neuromas.traces = [answer.turns]
        return response
