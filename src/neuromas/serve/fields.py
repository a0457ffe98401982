"""The kinds of fields that requests have."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

MOST_FIELDS = 100  # of an object


class Strict(BaseModel):
    """No unknown fields but nulls, which ask for nothing; no conversions: "1" is no number."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        json_schema_extra={"additionalProperties": {"type": "null"}},
    )

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, given: Any) -> Any:
        at_most(MOST_FIELDS, given)
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None or name in cls.model_fields}


def at_most(most: int, given: Any) -> Any:
    """A list or an object of at most `most` parts: whoever sends more is told that once, not of every part."""
    if isinstance(given, list | dict) and len(given) > most:
        context = {"given": len(given), "most": most}
        raise PydanticCustomError("too_long", "{given} parts were sent; at most {most} are taken", context)
    return given


@dataclass(frozen=True)
class Parts:
    """The check of a list or an object of `least` to `most` parts, which ends with the first wrong part of a list."""

    most: int
    least: int = 0

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        schema: Any = {**handler(source), "min_length": self.least, "max_length": self.most}
        if schema["type"] == "list":
            schema["fail_fast"] = True
        return core_schema.no_info_before_validator_function(lambda given: at_most(self.most, given), schema)


ShortText = Annotated[str, Field(max_length=512)]
LongText = Annotated[str, Field(max_length=1 << 20)]


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)  # 1.0 is an integer in JSON
Count = Annotated[int, Field(ge=1), WHOLE]


def _no(value: bool) -> bool:
    if value:
        raise ValueError("only false is supported")
    return value


No = Annotated[bool, AfterValidator(_no), Field(json_schema_extra={"const": False})]  # Literal[False] would take 0


class Nothing:
    """The check of a field that may only ask for nothing: null, or one of `values`. Others are refused by name."""

    def __init__(self, *values: object) -> None:
        self.values = values

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": [None, *self.values]}

    def _check(self, given: Any) -> Any:
        same = lambda value: given == value and isinstance(given, bool) == isinstance(value, bool)
        if given is not None and not any(map(same, self.values)):
            raise PydanticCustomError("extra_forbidden", "it asks for what is not supported")
        return given


class PeersFields(Strict):
    """Fields that other servers have, and this one takes with their defaults alone."""

    add_generation_prompt: Annotated[Any, Nothing(True)] = None
    bad_words: Annotated[Any, Nothing([])] = None
    best_of: Annotated[Any, Nothing(1)] = None
    chat_template_kwargs: Annotated[Any, Nothing({})] = None
    continue_final_message: Annotated[Any, Nothing(False)] = None
    early_stopping: Annotated[Any, Nothing(False)] = None
    echo: Annotated[Any, Nothing(False)] = None
    ignore_eos: Annotated[Any, Nothing(False)] = None
    include_stop_str_in_output: Annotated[Any, Nothing(False)] = None
    include_reasoning: Annotated[Any, Nothing(True)] = None
    length_penalty: Annotated[Any, Nothing(1)] = None
    logit_bias: Annotated[Any, Nothing({})] = None
    min_p: Annotated[Any, Nothing(0)] = None
    min_tokens: Annotated[Any, Nothing(0)] = None
    mirostat: Annotated[Any, Nothing(0)] = None
    priority: Annotated[Any, Nothing(0)] = None
    repetition_penalty: Annotated[Any, Nothing(1)] = None
    return_token_ids: Annotated[Any, Nothing(False)] = None
    return_tokens_as_token_ids: Annotated[Any, Nothing(False)] = None
    skip_special_tokens: Annotated[Any, Nothing(True)] = None
    spaces_between_special_tokens: Annotated[Any, Nothing(True)] = None
    stop_token_ids: Annotated[Any, Nothing([])] = None
    top_k: Annotated[Any, Nothing(-1, 0)] = None
    typical_p: Annotated[Any, Nothing(1)] = None
    use_beam_search: Annotated[Any, Nothing(False)] = None
