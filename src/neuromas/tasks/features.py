"""The types of a table, which say more of its cells: the names of classes, and numbers of single and half precision.

A feature describes a column as the `datasets` library writes it down: {"_type": "ClassLabel", "names": […]}, {"_type":
"Value", "dtype": "float32"}, {"_type": "List", "feature": …}, or a dict of features for a record.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

Feature = Mapping[str, Any]
_SHORT = {"float32": "float32", "float": "float32", "float16": "float16", "halffloat": "float16"}  # NumPy's names


class Label(str):
    """The name of a class; `place` is its 0-based place among the classes."""

    place: int


def in_schema(schema: Any) -> dict[str, Feature]:
    """The features of an Arrow schema: those that the `datasets` library wrote into it, else those of its types."""
    features = {field.name: _of_type(field.type) for field in schema}
    told = (schema.metadata or {}).get(b"huggingface")
    return features | (json.loads(told).get("info", {}).get("features") or {} if told else {})


def of_dataset(rows: Any) -> dict[str, Feature]:
    """The features of a data set of the `datasets` library; none of other rows."""
    features: Any = getattr(rows, "features", None)
    return features.to_dict() if hasattr(features, "to_dict") else {}


def read(rows: Iterable[Mapping[str, Any]], features: Mapping[str, Feature]) -> list[dict[str, Any]]:
    """Rows where a class stands as its `Label`, a class of no name (-1) as None, and a short float by its numeral.

    So 0.1 of single precision is 0.1, not 0.10000000149011612. An Arrow map, a list of pairs, is a dict.
    """
    telling = {name: feature for name, feature in features.items() if _tells(feature)}
    return [{name: _cell(cell, telling.get(name)) for name, cell in row.items()} for row in rows]


def _of_type(kind: Any) -> Feature:
    """The feature of an Arrow type."""
    text = str(kind)
    if text.startswith("struct<"):
        return {field.name: _of_type(field.type) for field in kind}
    if hasattr(kind, "value_type") and "list" in text.partition("<")[0]:
        return {"_type": "List", "feature": _of_type(kind.value_type)}
    return {"_type": "Map"} if text.startswith("map<") else {"_type": "Value", "dtype": text}


def _tells(feature: Any) -> bool:
    text = json.dumps(feature)
    return any(f'"{kind}"' in text for kind in ("ClassLabel", "Map", *_SHORT))


def _cell(cell: Any, feature: Any) -> Any:
    if cell is None or feature is None:
        return cell
    if isinstance(feature, list):  # as older versions write a list
        feature = {"_type": "List", "feature": feature[0]}
    match feature.get("_type"):
        case "ClassLabel":
            return _label(cell, feature.get("names"))
        case "Value":
            short = _SHORT.get(feature.get("dtype"))
            return _shortest(cell, short) if short and isinstance(cell, float) else cell
        case "List" | "LargeList" | "Sequence":
            inner = feature["feature"]
            if isinstance(cell, dict):  # a list of records, kept as a record of lists
                return {key: [_cell(value, inner.get(key)) for value in values] for key, values in cell.items()}
            return [_cell(value, inner) for value in cell]
        case "Map":
            return dict(cell)
        case str():
            return cell
        case _:  # a record
            return {key: _cell(value, feature.get(key)) for key, value in cell.items()}


def _label(cell: Any, names: Any) -> Any:
    """The name of a class; names are a list, or a mapping from places as older versions write it."""
    if not isinstance(cell, int) or isinstance(cell, bool) or not names:
        return cell
    found = list(names.values() if isinstance(names, dict) else names)
    if not 0 <= cell < len(found):
        return None
    label = Label(found[cell])
    label.place = cell
    return label


def _shortest(number: float, kind: str) -> float:
    """The shortest numeral that is `number` in a NumPy type."""
    import numpy as np  # not for tables that have no such column

    return float(str(np.dtype(kind).type(number)))
