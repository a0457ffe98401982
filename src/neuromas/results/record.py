"""The JSON form that all records of results share."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, ClassVar, Self

from pydantic import TypeAdapter

from neuromas.types import Floors

Interval = tuple[float, float]  # a 95 % interval: its lower and its upper end


class JsonRecord:
    """A dataclass that is written to disk as a JSON object.

    Fields without a default are always written. Those with one are written only where they differ from it.
    """

    ORDER: ClassVar[tuple[str, ...]] = ()  # the keys that come first, where they do not follow the order of the fields

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON knows it, with the keys and the order of the files on disk."""
        names = [*self.ORDER, *(name for name in _defaults(type(self)) if name not in self.ORDER)]
        return {name: _plain(value) for name in names if (value := getattr(self, name)) != _defaults(type(self))[name]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The record that a JSON object holds; unknown keys are ignored. Raises ValueError naming what is wrong."""
        return _adapter(cls).validate_python(data)


def _plain(value: Any) -> Any:
    if isinstance(value, JsonRecord):
        return value.to_dict()
    if isinstance(value, Floors):
        return dict(vars(value))
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


@cache
def _defaults(cls: type) -> dict[str, Any]:
    """Each field's default; MISSING, which equals no value, where it has none."""
    return {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(cls)}


@cache
def _adapter(cls: type) -> TypeAdapter[Any]:
    return TypeAdapter(cls)
