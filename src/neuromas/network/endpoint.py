"""A frozen model behind an OpenAI-compatible endpoint: it writes, and that is all that it can be asked for.

Named `openai:http://host:port/v1#model`. Baselines and untrained networks run on it; there are no weights to train,
no log-probabilities of given text, and no way to prefill an answer. Needs no torch.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from neuromas.errors import BackboneError, require

PREFIX = "openai:"
KEY = "NEUROMAS_ENDPOINT_KEY"  # the only place a key is read from; names are written into files, so none holds one
_FORM = f"write {PREFIX}http://host:port/v1#model"


@dataclass(frozen=True)
class Call:
    """One completion that is asked for."""

    system: str
    user: str
    tokens: int  # limit on the tokens of the completion
    temperature: float  # 0 for the most likely text
    top_p: float
    seed: int  # not negative; an endpoint may honour it
    stop: tuple[str, ...] = ()  # texts before which the completion ends


@dataclass(frozen=True)
class EndpointReply:
    """A completion, with the tokens as the endpoint counts them."""

    text: str
    prompt_tokens: int
    generated_tokens: int
    truncated: bool  # the limit ended it


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


class _Completion(BaseModel):
    """The part of a chat completion that is read; an endpoint is not trusted to send one."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage


def is_endpoint(name: str) -> bool:
    """True for a backbone's name that means an endpoint."""
    return name.startswith(PREFIX)


class Endpoint:
    """The model at an address. Calls of one `complete` run side by side, `at_once` at a time.

    A call that meets 408, 409, 429, 5xx, a timeout or a broken connection is tried again up to `retries` times, after
    half a second, then twice as long each time up to 8, or after what `Retry-After` says; the client does that.
    """

    def __init__(
        self, name: str, *, key: str | None = None, at_once: int = 16, retries: int = 6, seconds: float = 120.0
    ) -> None:
        """seconds: most time of one try. Raises `BackboneError` for a name that is no endpoint's."""
        address, self.model = _parts(name)
        self.name, self.at_once, self._key = name, at_once, key or ""
        openai = require("openai", f"backbone {name!r}", "pip install -e '.[endpoint]'", error=BackboneError)
        # without a key of its own the client would take one that is meant for another address
        self._client = openai.OpenAI(base_url=address, api_key=key or "none", max_retries=retries, timeout=seconds)

    @classmethod
    def load(cls, name: str) -> "Endpoint":
        """The endpoint called `name`, with the key from the environment, where there is one."""
        return cls(name, key=os.environ.get(KEY) or None)

    def complete(self, calls: Sequence[Call]) -> list[EndpointReply]:
        """A reply for each call, in order. `BackboneError` for the first that fails for good; the rest is dropped."""
        with ThreadPoolExecutor(self.at_once) as pool:
            return list(pool.map(self._one, calls))

    def _one(self, call: Call) -> EndpointReply:
        from openai import OpenAIError

        options: dict[str, float | list[str]] = {"temperature": call.temperature}
        if call.stop:
            options["stop"] = list(call.stop)
        if call.temperature > 0:
            options |= {"seed": call.seed} | ({"top_p": call.top_p} if call.top_p < 1 else {})
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=[{"role": "system", "content": call.system}, {"role": "user", "content": call.user}],
                max_tokens=call.tokens,
                **options,
            )
            found = _Completion.model_validate_json(raw.content)
        except OpenAIError as error:
            raise BackboneError(f"backbone {self.name!r} did not answer: {self._say(error)}") from None
        except ValidationError as error:
            wrong = ", ".join(sorted({".".join(map(str, item["loc"])) or "the whole" for item in error.errors()}))
            raise BackboneError(
                f"backbone {self.name!r} sent no chat completion that can be read (wrong: {wrong}); check that the "
                "address is that of an OpenAI-compatible API, with /v1 where it needs it, and that it reports usage"
            ) from None
        first = found.choices[0]
        used = found.usage
        return EndpointReply(
            first.message.content or "", used.prompt_tokens, used.completion_tokens, first.finish_reason == "length"
        )

    def _say(self, error: Exception) -> str:
        """The error and its remedy in one line, without the key, even where the endpoint repeats it."""
        said = " ".join(str(error).split())
        said = said.replace(self._key, "[key]") if self._key else said
        said = "".join(c for c in said if c.isprintable())[:300]
        status = getattr(error, "status_code", None)
        if status in (401, 403):
            return f"{said}; set {KEY} to a key that it takes"
        if status == 404:
            return f"{said}; check the address and the model's name ({self.model!r})"
        if status is None:
            return f"{said}; check that it is running and can be reached"
        return f"{said}; it was asked for {self.model!r}" if status < 500 else f"{said}; it failed, try again later"


def _parts(name: str) -> tuple[str, str]:
    """Address and model of an endpoint's name."""
    try:
        at = urlsplit(name.removeprefix(PREFIX))
        at.port  # noqa: B018  raises where it is no number
    except ValueError as error:
        raise BackboneError(f"backbone {name!r}: {error}; {_FORM}") from error
    if at.username is not None or at.password is not None or at.query:
        raise BackboneError(f"a backbone's name holds no key, since it is written into files; set {KEY}, and {_FORM}")
    if not is_endpoint(name) or at.scheme not in ("http", "https") or not at.hostname or not at.fragment:
        raise BackboneError(f"backbone {name!r} is no address with a model; {_FORM}")
    return f"{at.scheme}://{at.netloc}{at.path}", at.fragment
