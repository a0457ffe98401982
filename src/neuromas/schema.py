"""JSON schemas of recipes, comparisons and task files, by which editors complete and check them."""

from neuromas.baselines import BASELINES
from neuromas.compare.spec import Spec
from neuromas.config import RunConfig
from neuromas.recipe import TomlTable, settings_class
from neuromas.tasks.own_file import OwnTaskFile

KINDS = ("recipe", "task", "comparison")
_DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def schema(kind: str) -> TomlTable:
    """The schema of files of one of `KINDS`. A recipe may have the table of any trained baseline."""
    if kind in (others := {"task": OwnTaskFile, "comparison": Spec}):
        return _DIALECT | others[kind].model_json_schema()
    found = RunConfig.model_json_schema()
    for name, entry in BASELINES.items():
        if entry.trained:
            other = settings_class(name).model_json_schema()
            found["$defs"] |= other["$defs"]
            found["properties"] |= {key: value for key, value in other["properties"].items() if key == entry.table}
    found["properties"]["method"]["enum"] = ["neuromas", *(n for n, entry in BASELINES.items() if entry.trained)]
    return _DIALECT | found
