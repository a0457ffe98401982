"""The forms in which a program may give a task, a backbone and a recipe."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.network.backbone import Backbone
from neuromas.run.build import GIVEN
from neuromas.tasks.base import Task
from neuromas.tasks.graders import Plain
from neuromas.tasks.rows import Reward, RowsTask

TaskLike = str | Path | Task | Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Mapping[str, Any]]]


def given_task(task: TaskLike | None, reward: Reward | Plain | None) -> Task | None:
    """A task that only the program has; None for one that is known by its name."""
    if task is None or isinstance(task, str | Path | Task):
        if reward is not None:
            raise ConfigError("a reward function goes with rows; a Task grades by itself: override its `grade`")
        return task if isinstance(task, Task) else None
    return RowsTask(task, reward)


def given_backbone(backbone: Any, tokenizer: Any) -> Backbone | None:
    """A backbone that is loaded already; None for one that is known by its name, or not given."""
    if backbone is None or isinstance(backbone, Backbone | str | Path):
        if tokenizer is not None:
            raise ConfigError("a tokenizer goes with a loaded transformers model; a named backbone brings its own")
        return backbone if isinstance(backbone, Backbone) else None
    if tokenizer is None:
        raise ConfigError(f"backbone is a loaded {type(backbone).__name__}; give its tokenizer too (tokenizer=…)")
    name = getattr(backbone.config, "_name_or_path", "") or backbone.config.model_type
    return Backbone(name, backbone, tokenizer)


def default_folder_name(recipe: str | Path | RunConfig | None, config: RunConfig) -> str:
    stem = Path(recipe).stem if isinstance(recipe, str | Path) else config.task.name.removeprefix(GIVEN)
    return f"{stem.replace('/', '-')}_s{config.seed}"
