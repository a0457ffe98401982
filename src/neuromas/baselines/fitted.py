"""Baselines that read the training split before they answer: the cost of it, and their state as a file."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuromas.baselines.chat import Baseline, Chat
from neuromas.errors import CheckpointError, TaskError
from neuromas.files import read_json, write_json
from neuromas.results import FitCost
from neuromas.tasks.base import Task
from neuromas.types import Question, Trace

FORMAT = 1  # raise it when a state file holds something else

FitProgress = Callable[[int, int], None]  # called with (questions done, all questions)
FittedState = dict[str, Any]  # the learned part of a baseline, as JSON holds it


class Fitted(Baseline):
    """A baseline with something to learn besides weights, from the training split only.

    Unfitted it answers too, as it stands before the first question.
    """

    def __init__(self, chat: Chat) -> None:
        super().__init__(chat)
        self.fit_cost = FitCost(questions=0, calls=0, prompt_tokens=0, generated_tokens=0, seconds=0.0, reward=0.0)
        self.fit_task: str | None = None  # the task it was fitted on; None before

    @abstractmethod
    def fit(self, *args: Any, **options: Any) -> None:
        """Learn from the train split of a task (the first argument), and count the cost in `fit_cost`.

        options: the baseline's own, and `seed` and `progress`. Raises TaskError where the split is empty.
        """

    def count(self, traces: Sequence[Trace], rewards: Sequence[float]) -> None:
        """Add answered training questions to `fit_cost`."""
        cost = self.fit_cost
        self.fit_cost = FitCost(
            questions=cost.questions + len(traces),
            calls=cost.calls + sum(len(trace.calls) for trace in traces),
            prompt_tokens=cost.prompt_tokens + sum(trace.prompt_tokens for trace in traces),
            generated_tokens=cost.generated_tokens + sum(trace.generated_tokens for trace in traces),
            seconds=(cost.seconds or 0.0) + sum(trace.seconds for trace in traces),
            reward=cost.reward + sum(rewards),
        )

    @abstractmethod
    def state(self) -> FittedState:
        """The learned part, ready for JSON, with the settings that it depends on."""

    @abstractmethod
    def restore(self, state: FittedState) -> None:
        """Take over a state. Raises CheckpointError when it was made under other settings."""

    def save(self, path: Path) -> None:
        """Write the state and its cost, whole or not at all."""
        identity = {"format": FORMAT, "baseline": self.title, "backbone": self.chat.name}
        write_json(path, identity | {"task": self.fit_task, "cost": self.fit_cost.to_dict(), "state": self.state()})

    def load(self, path: Path) -> None:
        """Take over a saved state. Raises CheckpointError, naming what differs, when it is not this baseline's."""
        damaged = f"state {str(path)!r} cannot be read; delete it and fit again"
        try:
            saved = read_json(path)
            content = {key: saved[key] for key in ("format", "baseline", "backbone", "task", "cost", "state")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{damaged} ({error!r})") from error
        for key, value in {"format": FORMAT, "baseline": self.title, "backbone": self.chat.name}.items():
            if content[key] != value:
                raise CheckpointError(
                    f"state {str(path)!r} has {key} {content[key]!r}, not {value!r}; give another file or fit again"
                )
        try:
            self.restore(content["state"])
            self.fit_cost, self.fit_task = FitCost(**content["cost"]), content["task"]
        except (AttributeError, KeyError, TypeError) as error:
            raise CheckpointError(f"{damaged} ({error!r})") from error

    def check(self, state: FittedState, **settings: object) -> None:
        """Raises CheckpointError when a state was made under other settings."""
        for name, value in settings.items():
            made = state.get(name)
            if made != value:
                raise CheckpointError(
                    f"the state was fitted with {name} {made!r}, not {value!r}; use that setting or fit again"
                )


def training_order(task: Task, count: int, seed: int) -> list[Question]:
    """`count` training questions, shuffled anew in each pass over the split. Raises TaskError where there is none."""
    pool = task.questions("train")
    if not pool:
        raise TaskError(f"task {task.name!r} has no train questions to fit on; give that split a size above 0")
    passes = -(-count // len(pool))
    order = [i for epoch in range(passes) for i in np.random.default_rng([seed, epoch]).permutation(len(pool))]
    return [pool[i] for i in order[:count]]
