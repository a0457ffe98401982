"""The things that a run carries so that it works without what it was made from: its task's wording, its base model.

`task.json` says how the task asks. An export has besides `base.json`, and `task.toml` for a table of the user's own,
with the file of its reward function; rows stay where they are. What named a place on the exporter's machine is named by
its last part.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from neuromas.config import RunConfig
from neuromas.errors import CheckpointError, TaskError
from neuromas.files import read_record, write_text
from neuromas.network.builtin import BUILT_IN
from neuromas.recipe import TomlTable, toml_value
from neuromas.results.record import JsonRecord
from neuromas.tasks import Task, is_known, load_task
from neuromas.tasks.base import Split
from neuromas.tasks.golds import Grader
from neuromas.tasks.own import OwnTask
from neuromas.tasks.rows import RowsTask
from neuromas.tasks.tables import is_table
from neuromas.types import Grade, Question

WORDING_FILE, TASK_FILE, BASE_FILE = "task.json", "task.toml", "base.json"
GIVEN = "python:"  # what the name of a task begins with that was given in Python
HUB = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}  # built-in backbones that the hub has too


@dataclass(frozen=True, kw_only=True)
class TaskWording(JsonRecord):
    """The wording of a task, without its questions."""

    name: str
    version: int
    instruction: str
    answer_prefix: str
    max_answer_tokens: int

    @classmethod
    def of(cls, task: Task, name: str) -> "TaskWording":
        like = task.asked("")
        return cls(
            name=name,
            version=task.version,
            instruction=like.instruction,
            answer_prefix=like.answer_prefix,
            max_answer_tokens=task.max_answer_tokens,
        )

    @property
    def pattern(self) -> Question:
        """A question without text, which others are asked like."""
        return Question("asked", "", "", self.instruction, self.answer_prefix)


@dataclass(frozen=True, kw_only=True)
class BaseModel(JsonRecord):
    """The model that an export's adapters are for."""

    name: str  # a built-in backbone, a hub id, or, if `local`, the last part of the folder's path
    adapters_name: str  # as the adapters' own settings name it
    fingerprint: str  # of architecture and weights
    local: bool  # True where the exporter's run names a folder or file, which nobody else has


class CarriedTask(Task):
    """A task that only the program has that trained the run: it asks as that one, without questions or grades."""

    def __init__(self, wording: TaskWording) -> None:
        self.name, self.version, self.max_answer_tokens = wording.name, wording.version, wording.max_answer_tokens
        self.source, self.pattern = "an export", wording.pattern

    def questions(self, split: Split) -> list[Question]:
        raise TaskError(
            f"the questions of task {self.name!r} are not here (it was given in Python, or its file is gone); name "
            "another with --task, or hand it over: neuromas.load(folder, task=…)"
        )

    def grade(self, question: Question, text: str) -> Grade:
        raise TaskError(
            f"the grader of task {self.name!r} is not here (it was given in Python, or its file is gone); hand it "
            "over: neuromas.load(folder, task=…)"
        )


def base_model(config: RunConfig, fingerprint: str, told: str | None) -> BaseModel:
    """The base model of a run, as others can find it. told: its hub id, or what else the adapters are to name."""
    name = config.backbone.name
    local = name not in BUILT_IN and (Path(name).exists() or name.startswith((".", "/", "~")))
    if local and told is not None and not Path(told).exists():  # a hub id for what lies in a folder here
        name, local = told, False
    public = Path(name).name if local else name
    return BaseModel(name=public, adapters_name=told or HUB.get(name, public), fingerprint=fingerprint, local=local)


def adapter_names(nodes: Sequence[str]) -> dict[str, str]:
    """For each node id a name that is valid as an identifier; different ids have different names."""
    names: dict[str, str] = {}
    for node in nodes:
        name = "node_" + re.sub(r"\W", "_", node)
        while name in names.values():
            name += "_"
        names[node] = name
    return names


def carry_task(task: Task, folder: Path) -> None:
    """Write into an export what a table of the user's own is asked and graded by; nothing for other tasks."""
    settings: TomlTable | None = None
    if type(task) is OwnTask:  # a subclass may grade otherwise
        settings = task.file.model_dump(mode="json", exclude_defaults=True)
        local = (key for key in ("data", "test") if (table := settings.get(key)) and task.is_local(str(table)))
        settings |= {key: Path(settings[key]).name for key in local}
        if task.file.grader not in get_args(Grader):
            file, _, function = task.file.grader.rpartition(":")
            shutil.copyfile(task.folder / file, folder / Path(file).name)
            settings["grader"] = f"{Path(file).name}:{function}"
    elif type(task) is RowsTask and task.graded_by_answer:
        settings = task.settings()
    if settings is not None:
        lines = ["# How this export's task is asked and graded. Its rows are not here; put the table beside this file."]
        lines += [f"{key} = {toml_value(value)}" for key, value in settings.items()]
        write_text(folder / TASK_FILE, "\n".join(lines) + "\n")


def wording(task: Task, config: RunConfig) -> TaskWording:
    """The wording of a run's task; a file of the user's own is named without its folder."""
    name = config.task.name.removeprefix(GIVEN)
    return TaskWording.of(task, name if is_known(name, files=False) else Path(name).name)


def carried_task(run: Path, config: RunConfig) -> Task | None:
    """The task of a run, as far as the run alone knows it; None where it must be loaded by its name."""
    if (run / TASK_FILE).is_file():
        return OwnTask(str(run / TASK_FILE))
    if not (run / WORDING_FILE).is_file() or is_table(config.task.name):
        return None
    carried = read_record(run / WORDING_FILE, TaskWording.from_dict)
    if not is_known(config.task.name):
        return CarriedTask(carried)
    task = load_task(config.task.name, **config.task.options)
    task.pattern = task.pattern or carried.pattern
    return task


def base_of(run: Path) -> BaseModel | None:
    """The base model of an export; None of a run folder, and of early exports."""
    return read_record(run / BASE_FILE, BaseModel.from_dict) if (run / BASE_FILE).is_file() else None


def backbone_name(run: Path, config: RunConfig, told: str | None) -> str:
    """The name under which the base model of a run is loaded; `told` wins.

    Raises `CheckpointError` for an export whose base model was only a folder of the exporter's.
    """
    base, name = base_of(run), told or config.backbone.name
    if told is None and base is not None and base.local and not Path(name).exists():
        raise CheckpointError(
            f"{run} was trained on {name!r}, a folder of the one who exported it (fingerprint {base.fingerprint}); say "
            "where that model lies here, or what the hub calls it: --backbone NAME"
        )
    return name


def without_places(data: Any, config: RunConfig, base: BaseModel) -> Any:
    """JSON data of a run in which no path of this machine is left: each is named by its last part."""
    init = config.adapter.init_from
    paths = [config.task.name, *([init] if isinstance(init, str) else (init or {}).values())]
    paths += [stage.task for stage in config.stages if stage.task]
    names = {path: Path(path).name for path in paths if "/" in path and not is_known(path, files=False)}
    names |= {config.backbone.name: base.name} if config.backbone.name != base.name else {}
    return _replaced(data, names)


def _replaced(data: Any, names: Mapping[str, str]) -> Any:
    if isinstance(data, str):
        for path in sorted(names, key=len, reverse=True):
            data = data.replace(path, names[path])
        return data
    if isinstance(data, list):
        return [_replaced(item, names) for item in data]
    return {key: _replaced(value, names) for key, value in data.items()} if isinstance(data, dict) else data
