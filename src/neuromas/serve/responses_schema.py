"""Requests and answers of /v1/responses: text in, text out. What asks for more is refused by name, as everywhere."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from neuromas.serve.fields import OF_PEERS, Count, LongText, Parts, ShortText, Strict
from neuromas.serve.schema import AnswerRequest, NeuromasAnswer
from neuromas.tasks.cells import conversation

_PLAIN = {"type": "text"}
_NO_EFFORT = [{"effort": effort} for effort in (None, "none")]


class InputPart(Strict):
    """Text of a client, or of an answer that is sent back."""

    neutral: ClassVar = {"annotations": [[]], "logprobs": [[]]}
    type: Literal["input_text", "output_text"]
    text: LongText


class InputMessage(Strict):
    """One turn. What an answer's item holds besides is not shown to the network."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: LongText | Annotated[list[InputPart], Parts(1024, least=1)]
    id: ShortText | None = None
    status: ShortText | None = None
    phase: ShortText | None = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ResponsesRequest(AnswerRequest):
    neutral: ClassVar = OF_PEERS | {
        "n": [1], "background": [False], "context_management": [[]], "include": [[]],
        "parallel_tool_calls": [True, False], "prompt_cache_options": [{}],
        "reasoning": [{}, *_NO_EFFORT, *({**effort, "summary": None} for effort in _NO_EFFORT)],
        "text": [{}, {"format": _PLAIN}, {"format": _PLAIN, "verbosity": "medium"}], "tools": [[]],
        "tool_choice": ["none", "auto"], "top_logprobs": [0], "truncation": ["disabled"],
    }  # fmt: skip
    input: LongText | Annotated[list[InputMessage], Parts(1024, least=1)]
    instructions: LongText | None = Field(default=None, description="A system message before the others.")
    max_output_tokens: Count | None = Field(default=None, description="Of the answer; the run's own limit holds.")

    @property
    def questions(self) -> list[str]:
        """One question (`conversation`)."""
        turns = [("system", self.instructions)] if self.instructions else []
        asked = [("user", self.input)] if isinstance(self.input, str) else [(m.role, m.text) for m in self.input]
        return [conversation([*turns, *asked])]

    @property
    def limit(self) -> int | None:
        return self.max_output_tokens or self.max_tokens


# -- answers ---------------------------------------------------------------------------------------------


class OutputText(BaseModel):
    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = []
    logprobs: list[Any] = []


class OutputMessage(BaseModel):
    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class InputTokensDetails(BaseModel):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(BaseModel):
    reasoning_tokens: int = Field(description="Tokens of the hidden nodes' messages.")


class ResponseUsage(BaseModel):
    """Tokens of all nodes."""

    input_tokens: int
    input_tokens_details: InputTokensDetails = InputTokensDetails()
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(BaseModel):
    reason: Literal["max_output_tokens"]


class ResponseBody(BaseModel):
    """A response, with the request's settings as they were in force."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete"]
    error: None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputMessage] = []
    parallel_tool_calls: Literal[True] = True
    previous_response_id: None = None
    reasoning: dict[str, None] = {"effort": None, "summary": None}
    store: Literal[False] = False
    temperature: float | None
    text: dict[str, dict[str, str]] = {"format": _PLAIN}
    tool_choice: Literal["auto"] = "auto"
    tools: list[Any] = []
    top_p: float | None
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    user: str | None
    neuromas: NeuromasAnswer
