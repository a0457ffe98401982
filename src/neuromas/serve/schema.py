"""Requests and answers of the API: the part of OpenAI's that a network can honour, and one extension, `neuromas`.

A field that is not here is refused by name, never ignored, except for the few that change no answer (from `user` on).
Null, and a documented default, ask for nothing and are taken everywhere.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from neuromas.serve.fields import OF_PEERS, WHOLE, Count, LongText, No, Parts, ShortText, Strict
from neuromas.tasks.cells import conversation


class TextPart(Strict):
    type: Literal["text"]
    text: LongText


TextParts = Annotated[list[TextPart], Parts(1024, least=1)]


class ChatTurn(Strict):
    """One turn. `name` is not shown to the network."""

    neutral: ClassVar = {"refusal": [""], "annotations": [[]], "tool_calls": [[]]}
    name: ShortText | None = None
    content: LongText | TextParts | None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())


class AskedTurn(ChatTurn):
    role: Literal["system", "developer", "user"]
    content: LongText | TextParts  # pyright: ignore[reportIncompatibleVariableOverride]


class AnsweredTurn(ChatTurn):
    """A turn of the assistant, as clients send it back. Thoughts are not shown to the network."""

    role: Literal["assistant"]
    content: LongText | TextParts | None = None
    reasoning_content: LongText | None = None
    reasoning: LongText | None = None


ChatMessage = Annotated[AskedTurn | AnsweredTurn, Field(discriminator="role")]


class Extension(Strict):
    """Parts of an answer that only a network has."""

    messages: bool = Field(default=False, description="What each node said; while streaming, token by token.")
    details: bool = Field(default=False, description="Also each node's prompt, and its tokens with log-probabilities.")


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: No | None = None
    continuous_usage_stats: No | None = None


StopText = Annotated[str, Field(max_length=256)]
Stop = StopText | Annotated[list[StopText], Parts(4)]


class AnswerRequest(Strict):
    """The fields that all requests share."""

    neutral: ClassVar = OF_PEERS
    model: ShortText = Field(description="The id that /v1/models lists.")
    temperature: float | None = Field(
        default=None,
        ge=0,
        le=2,
        description="0 is greedy. Absent: greedy too, unless top_p or n > 1 is given; then the run's own temperature.",
    )
    top_p: float | None = Field(default=None, gt=0, le=1, description="Absent: the run's own.")
    seed: Annotated[int, WHOLE] | None = Field(default=None, description="Absent: drawn, and told in `neuromas.seed`.")
    max_tokens: Count | None = Field(default=None, description="Of the answer; the run's own limit holds in any case.")
    stop: Stop | None = Field(default=None, description="The answer ends before the first of these.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: float | None = Field(default=None, ge=0, le=0, description="Penalties are not supported.")
    presence_penalty: float | None = Field(default=None, ge=0, le=0, description="Penalties are not supported.")
    user: ShortText | None = Field(default=None, description="Ignored, like what follows up to prompt_cache_retention.")
    metadata: Annotated[dict[ShortText, ShortText], Parts(16)] | None = None
    store: bool | None = None
    service_tier: ShortText | None = None
    safety_identifier: ShortText | None = None
    prompt_cache_key: ShortText | None = None
    prompt_cache_retention: ShortText | None = None
    neuromas: Extension | None = None

    @property
    def choices(self) -> int:
        return 1

    @property
    def limit(self) -> int | None:
        """The most tokens of an answer; None for the network's own limit."""
        return self.max_tokens

    @property
    def stops(self) -> list[str]:
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in given if text]

    @property
    def wants_details(self) -> bool:
        """Each node's prompt and tokens are wanted, besides its message."""
        return self.neuromas is not None and self.neuromas.details

    @property
    def wants_messages(self) -> bool:
        return self.neuromas is not None and (self.neuromas.messages or self.neuromas.details)

    @property
    def wants_logprobs(self) -> bool:
        """Log-probabilities of the answer's tokens are wanted."""
        return False


class SampledRequest(AnswerRequest):
    """A request for one answer or several."""

    n: Annotated[int, Field(ge=1, le=16), WHOLE] | None = Field(default=None, description="Answers; 1 by default.")

    @property
    def choices(self) -> int:
        return self.n or 1


class ChatRequest(SampledRequest):
    neutral: ClassVar = OF_PEERS | {
        "tools": [[]], "tool_choice": ["none", "auto"], "parallel_tool_calls": [True, False], "functions": [[]],
        "function_call": ["none", "auto"], "response_format": [{"type": "text"}], "modalities": [["text"]],
        "reasoning_effort": ["none"], "verbosity": ["medium"],
    }  # fmt: skip
    messages: Annotated[list[ChatMessage], Parts(1024, least=1)]
    max_completion_tokens: Count | None = Field(default=None, description="Newer name of max_tokens.")
    logprobs: bool | None = Field(default=None, description="Log-probabilities of the answer's tokens.")
    top_logprobs: Annotated[int, Field(ge=0, le=0), WHOLE] | None = Field(default=None, description="Not supported.")

    @property
    def questions(self) -> list[str]:
        """One question (`conversation`)."""
        return [conversation((message.role, message.text) for message in self.messages)]

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def wants_logprobs(self) -> bool:
        return bool(self.logprobs)


class CompletionRequest(SampledRequest):
    neutral: ClassVar = OF_PEERS | {"suffix": [""]}
    prompt: LongText | Annotated[list[LongText], Parts(64, least=1)]

    @property
    def questions(self) -> list[str]:
        """Each prompt."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


# -- answers ---------------------------------------------------------------------------------------------


class Error(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    error: Error


class TokenLogprob(BaseModel):
    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[Any]


class Logprobs(BaseModel):
    content: list[TokenLogprob]
    refusal: None = None


class Reply(BaseModel):
    role: Literal["assistant"]
    content: str
    refusal: None = None


FinishReason = Literal["stop", "length"]


class Token(BaseModel):
    token: str
    logprob: float = Field(description="Nats, of the distribution sampled from; untempered when greedy.")
    entropy: float = Field(description="Nats.")


class NodeTurn(BaseModel):
    """A node's turn: its message, and on request its prompt and tokens."""

    node: str
    text: str
    truncated: bool
    prompt: str | None = None
    tokens: list[Token] | None = None


class NeuromasAnswer(BaseModel):
    """The extension's answer."""

    seed: int
    traces: list[list[NodeTurn]] | None = Field(default=None, description="For each choice, its nodes in order.")


class UsageDetails(BaseModel):
    reasoning_tokens: int = Field(description="Tokens of the hidden nodes' messages.")


class Usage(BaseModel):
    """Tokens of all nodes."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: UsageDetails


class ChatChoice(BaseModel):
    index: int
    message: Reply
    finish_reason: FinishReason
    logprobs: Logprobs | None


class CompletionChoice(BaseModel):
    index: int
    text: str
    finish_reason: FinishReason
    logprobs: None


class CompletedResponse(BaseModel):
    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: Usage
    neuromas: NeuromasAnswer


class ChatCompletion(CompletedResponse):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class TextCompletion(CompletedResponse):
    object: Literal["text_completion"]
    choices: list[CompletionChoice]


class ModelCard(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    object: Literal["list"]
    data: list[ModelCard]


class Health(BaseModel):
    status: Literal["ok"]
    model: str
