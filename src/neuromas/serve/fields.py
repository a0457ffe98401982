"""The kinds of fields that requests have."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

MOST_FIELDS = 100  # of an object


class Strict(BaseModel):
    """No unknown fields but those that ask for nothing: null, or a neutral value. No conversions: "1" is no number."""

    neutral: ClassVar[dict[str, list[Any]]] = {}  # values by which fields of others ask for nothing, by their names

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        json_schema_extra=lambda schema, cls: cls.list_neutral(schema),
    )

    @classmethod
    def list_neutral(cls, schema: dict[str, Any]) -> None:
        """Add to a JSON schema of this class what is taken besides its fields."""
        schema["additionalProperties"] = {"type": "null"}
        schema["properties"] |= {name: {"enum": [None, *values]} for name, values in cls.neutral.items()}

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, given: Any) -> Any:
        at_most(MOST_FIELDS, given)
        if not isinstance(given, dict):
            return given
        return {
            name: value for name, value in given.items() if name in cls.model_fields or not cls._is_neutral(name, value)
        }

    @classmethod
    def _is_neutral(cls, name: str, given: Any) -> bool:
        same = lambda value: given == value and isinstance(given, bool) == isinstance(value, bool)
        return any(map(same, (None, *cls.neutral.get(name, ()))))


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


# Values with which other servers' fields change nothing.
OF_PEERS: dict[str, list[Any]] = {
    "add_generation_prompt": [True], "bad_words": [[]], "best_of": [1], "chat_template_kwargs": [{}],
    "continue_final_message": [False], "early_stopping": [False], "echo": [False], "ignore_eos": [False],
    "include_stop_str_in_output": [False], "include_reasoning": [True], "length_penalty": [1], "logit_bias": [{}],
    "min_p": [0], "min_tokens": [0], "mirostat": [0], "priority": [0], "repetition_penalty": [1],
    "return_token_ids": [False], "return_tokens_as_token_ids": [False], "skip_special_tokens": [True],
    "spaces_between_special_tokens": [True], "stop_token_ids": [[]], "top_k": [-1, 0], "typical_p": [1],
    "use_beam_search": [False],
}  # fmt: skip
