"""The settings of decoding, and of the engine that samples."""

from typing import Literal

from pydantic import Field, field_validator

from neuromas.recipe import Section

LEAST_VLLM_TEMPERATURE = 0.01  # vLLM 0.32 raises lower ones to it


class SamplingConfig(Section):
    """The decoding of nodes, and the limits on it."""

    temperature: float = Field(default=1.0, gt=0)
    """Temperature while training and in sampled evaluation; the replay of the update uses the same."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of sampled evaluation only; training samples the policy that it differentiates."""
    message_tokens: int = Field(default=48, ge=1)
    """The most tokens of a hidden node's message."""
    answer_tokens: int | None = Field(default=None, ge=1)
    """The most tokens of the answer. None: as many as the task says."""
    thinking_tokens: int = Field(default=0, ge=0)
    """Tokens that the answering node may write beyond these, to think aloud before it answers. `neuromas tasks NAME`
    says whether the grader finds an answer behind thoughts."""
    stop: tuple[str, ...] = ()
    """Texts that end a message or an answer, such as `["\\n"]` for base models, which seldom end one by themselves. The
    tokens up to the one that completes a stop text are counted and trained, as an end-of-sequence token is; the text is
    cut before it."""
    batch_rows: int = Field(default=512, ge=1)
    """Rows of one pass when questions are answered outside training, and at least one question. A training step samples
    all its rows of a layer at once. With `vllm`: the most sequences that it computes together."""
    engine: Literal["built-in", "vllm"] = "built-in"
    """Who samples during `neuromas train`, validation included: this library, or `vllm`."""

    @field_validator("stop")
    @classmethod
    def _check_stop(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError("a stop text must not be empty")
        return stop


class VllmConfig(Section):
    """Settings of engine `vllm` alone. The environment variable NEUROMAS_VLLM_PYTHON names the Python that has vLLM."""

    context: int | None = Field(default=None, ge=1)
    """The most tokens of a prompt and its completion. None: the backbone's window; lower it where memory for keys and
    values is short."""
    eager: bool | None = None
    """Run without compilation and CUDA graphs. None: only on a CPU."""
    gpu_share: float = Field(default=0.4, gt=0, le=1)
    """Share of a GPU's memory that vLLM takes, base model included; the trainer needs the rest."""
    cache_gib: int = Field(default=1, ge=1)
    """Memory for keys and values on a CPU, in GiB."""
    start_seconds: float = Field(default=600, gt=0)
    """The run ends with an error if vLLM has not started by then."""
    call_seconds: float = Field(default=3600, gt=0)
    """The run ends with an error if vLLM has not sampled a layer by then."""
