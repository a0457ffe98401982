"""The files that `neuromas init` writes: a task, a recipe with comments, and the schemas that editors complete by."""

from pathlib import Path

from neuromas.errors import ConfigError
from neuromas.files import write_json, write_text
from neuromas.recipe import toml_value
from neuromas.schema import schema
from neuromas.tasks.guess import Guess

FILES = (".toml", "_recipe.toml")  # endings of task and recipe
SCHEMAS = ".neuromas"  # the folder of schemas, beside them

_TASK = """\
#:schema ./{schemas}/task.json
# The task of {table}, guessed from its columns and cells by `neuromas init`. Every setting: neuromas schema task.
"""
_RECIPE = """\
#:schema ./{schemas}/recipe.json
# A first training on {task}. Every setting: neuromas schema recipe. Its memory and time: neuromas plan THIS.
topology = "2"           # two nodes that both feed an output node; "1-1" is a chain, "single" one model (neuromas draw)
seed = 0

[task]
name = "{task}"  # beside this file

[backbone]
{note}name = "{backbone}"

[adapter]
rank = 8                 # of the LoRA of each node

[sampling]
message_tokens = 32      # the most that a hidden node writes; look at "messages cut" while it trains

[train]
steps = {steps}               # updates
questions = {questions}            # a step
rollouts = 8             # answers to each of them, which are compared with each other
learning_rate = 1e-3
validate_every = {every}
"""
_TINY = """\
# The embedded model knows arithmetic alone: it shows that everything runs. For results name a model of the hub, such as
# "Qwen/Qwen3-0.6B", or a folder with one.
"""


def existing(*files: Path) -> None:
    """Raises ConfigError where one of the files is there already."""
    for file in files:
        if file.exists():
            raise ConfigError(f"{file} exists and is not overwritten; move it away, or train with it")


def write(file: Path, text: str) -> None:
    """Write one of the files, with the schemas beside it."""
    write_text(file, text)
    for kind in ("task", "recipe"):
        if not (target := file.parent / SCHEMAS / f"{kind}.json").exists():
            write_json(target, schema(kind))


def task_text(table: Path, found: Guess) -> str:
    """The TOML file of a task."""
    lines = [
        f"{key} = {toml_value(value)}" + (f"  # {found.reasons[key]}" if key in found.reasons else "")
        for key, value in found.settings.items()
    ]
    return _TASK.format(schemas=SCHEMAS, table=table.name) + "\n".join(lines) + "\n"


def recipe_text(task: Path, backbone: str, rows: int) -> str:
    """The recipe of a first training on so many rows."""
    return _RECIPE.format(
        schemas=SCHEMAS,
        task=task.name,
        note=_TINY if backbone == "tiny" else "",
        backbone=backbone,
        questions=min(8, rows),
        steps=40,
        every=10,
    )
