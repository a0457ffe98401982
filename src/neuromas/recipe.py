"""The data of a recipe before it is validated: its file, overrides, other methods' tables, and old settings.

And `Section`, which every table of settings is.
"""

import copy
import difflib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from neuromas.baselines import BASELINES, trained_entry
from neuromas.errors import ConfigError

TomlTable = dict[str, Any]  # a table of a TOML file, or an object of a JSON file

# What version 0.1.0 knew besides: settings with the defaults that its config.json files hold, and a value of one.
REMOVED_SETTINGS: dict[str, object] = {"decay": "constant", "credit_nodes": None}
REMOVED_ESTIMATOR = "group_mean"

PUBLISHED = Path(__file__).with_name("recipes")  # the recipes that come with the library


class Section(BaseModel):
    """A table of settings. Unknown settings are refused, and none can be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class CommandOptions(Section):
    """Options of a command. Construction raises `ConfigError` for what they cannot be."""

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ConfigError(explain(error)) from error


def read_toml(path: Path, what: str) -> TomlTable:
    """The data of a TOML file; `recipes/NAME` is the published one where there is no such file here.

    Raises `ConfigError`, naming `what` it is, where it is missing or malformed.
    """
    try:
        brought = path.parent == Path("recipes") and not path.exists()
        return tomllib.loads((PUBLISHED / path.name if brought else path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(f"{what} {str(path)!r} does not exist; published ones are in {PUBLISHED}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} {str(path)!r} is not UTF-8 ({error}); save it in that encoding") from error
    except (OSError, ValueError, RecursionError) as error:  # a null byte in a path is a ValueError
        raise ConfigError(f"{what} {str(path)!r} is not valid TOML: {error}") from error


def read_recipe(path: Path, what: str = "recipe") -> TomlTable:
    """The data of a recipe or a spec; the files of its tasks and topologies are looked for here, and else beside it.

    Raises `ConfigError` as `read_toml` does.
    """
    data = read_toml(path, what)
    tasks, systems = data.get("tasks"), data.get("systems")
    places: list[tuple[Any, str]] = [(data, "topology"), (data.get("task"), "name")]
    places += [(task, "name") for task in (cast(list[Any], tasks) if isinstance(tasks, list) else [])]
    named = cast(TomlTable, systems).values() if isinstance(systems, dict) else []
    places += [(entry, "topology") for entry in named]
    for table, name in places:
        file = table.get(name) if isinstance(table, dict) else None
        if isinstance(file, str) and "." in file and not Path(file).exists() and (path.parent / file).exists():
            table[name] = str(path.parent / file)
            if name == "name" and table is not data.get("task"):
                table.setdefault("label", file)  # a report is not to name the folders of the machine it was made on
    return data


def toml_value(value: object) -> str:
    """A text, number, or list of these as TOML, whose strings are those of JSON but for one escape."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def override(data: TomlTable, values: TomlTable) -> TomlTable:
    """A copy of nested `data` in which each dotted name whose value is not None is set.

    Raises `ConfigError` where a part of a name is no table.
    """
    out = copy.deepcopy(data)
    for name, value in values.items():
        if value is None:
            continue
        *path, leaf = name.split(".")
        place = out
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(
                    f"{part} is {place!r} in the recipe, but must be a table, e.g. [{part}] name = {place!r}"
                )
        place[leaf] = value
    return out


def settings_class(method: object) -> Any:
    """The class of a trained baseline's settings, a subclass of `RunConfig`; imports the baseline's file.

    Raises `ConfigError` for a method that is no trained baseline.
    """
    entry = trained_entry(str(method))
    return entry.load(entry.settings)


def cleaned(data: TomlTable, method: object) -> TomlTable:
    """The settings of `method`, without leftovers of version 0.1.0: settings that are gone, and other methods' tables.

    Raises `ConfigError` where a leftover holds anything but defaults.
    """
    return _without_other_tables(method, _without_removed(data))


def _without_removed(data: TomlTable) -> TomlTable:
    """`data` without settings that no longer exist."""
    train = data.get("train")
    if not isinstance(train, dict):
        return data
    train = cast(TomlTable, train)
    for name, default in REMOVED_SETTINGS.items():
        if train.get(name, default) != default:
            raise ConfigError(
                f"train.{name} is {train[name]!r}; it was removed after version 0.1.0; leave it out, or use that one"
            )
    if train.get("estimator") == REMOVED_ESTIMATOR:
        raise ConfigError(
            f"train.estimator is {REMOVED_ESTIMATOR!r}, which was removed after version 0.1.0; 'leave_one_out' is the "
            "same up to the factor G / (G - 1) in the learning rate"
        )
    return data | {"train": {k: v for k, v in train.items() if k not in REMOVED_SETTINGS}}


def _without_other_tables(method: object, data: TomlTable) -> TomlTable:
    """`data` without the tables of other methods than `method`, which version 0.1.0 wrote into every config.json."""
    others = {e.table: name for name, e in BASELINES.items() if e.trained and name != method and e.table in data}
    for table, owner in others.items():
        defaults = settings_class(owner).model_fields[table].default.model_dump()
        if not isinstance(data[table], dict) or defaults | data[table] != defaults:
            raise ConfigError(
                f"[{table}] has settings of method {owner!r}, but method is {method!r}; set method = {owner!r}, or "
                "leave the table out"
            )
    return {key: value for key, value in data.items() if key not in others}


def explain(error: ValidationError, settings: type[BaseModel] | None = None) -> str:
    """The mistakes of all settings, in one line; a wrong name with what was probably meant, of those in `settings`."""
    lines: list[str] = []
    for item in error.errors():
        name = ".".join(map(str, item["loc"])) or "recipe"
        if item["type"] == "extra_forbidden":
            meant = None if settings is None else _meant(name, settings)
            hint = f"did you mean {meant}?" if meant else "`neuromas schema` lists them"
            lines.append(f"{name}: no such setting; {hint}")
        else:
            lines.append(f"{name} is {item['input']!r}: {item['msg'].lower()}")
    return "; ".join(lines)


def _meant(name: str, settings: type[BaseModel]) -> str | None:
    """The setting that a wrong name stands for: one spelled alike in its table, else one of that name elsewhere."""
    table, _, leaf = name.rpartition(".")
    names = list(_names(settings))
    beside = {path.rpartition(".")[2]: path for path in names if path.rpartition(".")[0] == table}
    if close := difflib.get_close_matches(leaf, beside, n=1):
        return beside[close[0]]
    everywhere = {path.rpartition(".")[2]: path for path in reversed(names)}
    close = difflib.get_close_matches(leaf, everywhere, n=1)
    return everywhere[close[0]] if close else None


def _names(settings: type[BaseModel], table: str = "") -> Iterator[str]:
    for name, field in settings.model_fields.items():
        yield f"{table}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names(field.annotation, f"{table}{name}.")
