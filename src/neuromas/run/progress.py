"""The state of a run, apart from its tensors."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

from neuromas.results import GrowthRecord


@dataclass
class Progress:
    """The state of a run. With the seed it is the whole random state and the whole data position."""

    step: int = 0  # Updates done.
    baseline: float = 0.0  # Running mean of the reward, for the `running_mean` estimator.
    best_step: int = 0  # The step of the best validation.
    best_validation: float = -1.0  # Its accuracy; -1 before the first validation.
    stale: int = 0  # Validations of this stage since the accuracy has last risen.
    stage: int = 0  # Number of the present stage.
    stage_start: int = 0  # The step after which the stage began.
    recent: list[float] = field(default_factory=list[float])  # Mean reward of the last steps, for promotion.
    lineage: list[GrowthRecord] = field(default_factory=list[GrowthRecord])  # How the network grew, oldest first.

    changes: list[str] = field(default_factory=list[str])  # Of questions and reward, accepted when it was resumed.

    @property
    def begins_stage(self) -> bool:
        """True where the network may have grown after this step, and has neither been trained nor validated since."""
        return self.stage > 0 and self.step == self.stage_start

    @property
    def is_best(self) -> bool:
        return self.best_step == self.step and not self.begins_stage

    def take(self, reward: float, window: int) -> None:
        """Note the mean reward of the step just done, for a promotion that looks at the last `window` steps."""
        self.baseline += (reward - self.baseline) * (1 / self.step if self.step < 10 else 0.1)
        self.recent = [*self.recent, reward][-window:]

    def begin_stage(self) -> None:
        """Go on to the next stage."""
        self.stage, self.stage_start, self.recent = self.stage + 1, self.step, []
        self.stale = 0

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {"lineage": [record.to_dict() for record in self.lineage]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return replace(cls(**data), lineage=[GrowthRecord.from_dict(entry) for entry in data.get("lineage", [])])
