"""Everything a run is made of, as plain validated data; a recipe is this as TOML."""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neuromas.baselines import BASELINES, NETWORK, RegistryEntry, trained_entry
from neuromas.errors import ConfigError
from neuromas.recipe import explain, override, without_removed


class Section(BaseModel):
    """A table of settings: unknown ones are refused, none changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskConfig(Section):
    """Which questions. `options` go to the task as they are (see `neuromas tasks`)."""

    name: str = "compositional"
    options: dict[str, Any] = Field(default_factory=dict)


class BackboneConfig(Section):
    """Which frozen model."""

    name: str = "tiny"
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    style: Literal["chat", "plain", "compact"] | None = None  # None: as the backbone declares


class AdapterConfig(Section):
    """What is trained."""

    rank: int = Field(default=8, ge=1)
    alpha: float | None = Field(default=None, gt=0)  # None: 2 * rank
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    tied: bool = False  # one adapter for all nodes


class SamplingConfig(Section):
    """How nodes write."""

    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)  # evaluation only; training samples the policy it differentiates
    message_tokens: int = Field(default=48, ge=1)
    answer_tokens: int | None = Field(default=None, ge=1)  # None: what the task needs
    batch_rows: int = Field(default=512, ge=1)  # rows of one forward pass of evaluation, about
    engine: Literal["built-in", "vllm"] = "built-in"  # who samples while a network is trained


class VllmConfig(Section):
    """Settings of engine "vllm" alone. Which Python has vLLM is a fact of the machine: NEUROMAS_VLLM_PYTHON."""

    context: int | None = Field(default=None, ge=1)  # most tokens of prompt and completion; None: the backbone's window
    eager: bool | None = None  # without compiling and CUDA graphs; None: on a CPU
    gpu_share: float = Field(default=0.4, gt=0, le=1)  # of a GPU's memory; the rest is the trainer's
    cache_gib: int = Field(default=1, ge=1)  # on a CPU: memory for keys and values
    start_seconds: float = Field(default=600, gt=0)  # within which it must have started
    call_seconds: float = Field(default=3600, gt=0)  # within which it must have sampled a layer


Estimator = Literal["leave_one_out", "group_normalised", "running_mean", "critic", "counterfactual", "difference"]
BRANCHING = ("counterfactual", "difference")  # estimators that replay rollouts from a node on
UNGROUPED = ("running_mean", "critic")  # estimators that never compare the rollouts of a question


class TrainConfig(Section):
    """How it learns."""

    steps: int = Field(default=100, ge=1)
    questions: int = Field(default=8, ge=1)  # P: questions a step
    rollouts: int = Field(default=8, ge=1)  # G: rollouts a question
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup: int = Field(default=5, ge=0)  # steps over which the learning rate rises linearly
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = Field(default=1.0, gt=0)  # largest gradient norm of each node
    ratio_cap: float = Field(default=2.0, ge=1)  # of importance ratios, where another engine samples
    max_mismatch: float | None = Field(default=None, gt=0)  # KL of such an engine above which a run stops; None: usual
    estimator: Estimator = "leave_one_out"
    alternatives: int = Field(default=1, ge=1)  # of "counterfactual": messages drawn besides the rollout's own
    warm_start: int = Field(default=0, ge=0)  # first steps that imitate the network's own right rollouts instead
    kl: float = Field(default=0.0, ge=0)  # weight of the per-token KL to the bare backbone
    entropy: float = Field(default=0.0, ge=0)  # weight of the per-token entropy bonus
    node_dropout: float = Field(default=0.0, ge=0, lt=1)  # chance that a hidden node is absent from a rollout
    balanced: bool = False  # every step asks equally many questions of each answer
    micro_tokens: int = Field(default=4096, ge=1)  # tokens of one forward/backward of the update, about: bounds memory
    gradient_checkpointing: bool = False  # less memory in the update for about a third more of its time
    validate_every: int = Field(default=10, ge=1)
    validation_questions: int = Field(default=128, ge=1)
    silence_questions: int = Field(default=32, ge=0)  # of them, replayed with each node silenced; 0: none
    checkpoint_every: int = Field(default=1, ge=1)
    keep_checkpoints: int = Field(default=2, ge=1)
    stop_after_seconds: float | None = Field(default=None, gt=0)  # ends the run early, with everything saved


class StageConfig(Section):
    """One part of a run that grows."""

    topology: str | list[int] | dict[str, Any] | None = None  # None: as in the stage before, or as the run says
    options: dict[str, Any] = Field(default_factory=dict)  # of the task, over the run's own, for training alone
    steps: int | None = Field(default=None, ge=1)  # most steps; None: until it is promoted, or the run ends
    promote: float | None = Field(default=None, gt=0, le=1)  # ends at this mean reward over `window` whole steps
    window: int = Field(default=10, ge=1)  # steps, all with every node present
    learning_rate: float | None = Field(default=None, gt=0)  # None: the run's
    init: Literal["fade", "copy", "zero", "noise"] = "fade"  # of new nodes
    anneal: int = Field(default=20, ge=0)  # steps over which they fade in
    freeze: int = Field(default=0, ge=0)  # first steps that do not change old nodes
    old_scale: float = Field(default=1.0, ge=0)  # learning rate of old message nodes, as a multiple


class RunConfig(Section):
    """One training run: of a network, or, in a subclass with a table of its own, of a trained baseline."""

    method: str = NETWORK
    topology: str | list[int] | dict[str, Any] = "2"
    seed: int = 0
    task: TaskConfig = TaskConfig()
    backbone: BackboneConfig = BackboneConfig()
    adapter: AdapterConfig = AdapterConfig()
    sampling: SamplingConfig = SamplingConfig()
    vllm: VllmConfig = VllmConfig()
    train: TrainConfig = TrainConfig()
    stages: tuple[StageConfig, ...] = ()  # none: one, of the run's topology

    @property
    def samples(self) -> int:
        """Rollouts that the whole training draws."""
        return self.train.steps * self.train.questions * self.train.rollouts

    def check(self) -> None:
        """Raises `ConfigError` where settings contradict each other."""
        t = self.train
        if t.estimator not in UNGROUPED and t.rollouts < 2:
            raise ConfigError(
                f"train.rollouts is {t.rollouts}, but estimator {t.estimator!r} compares the "
                "rollouts of a question and needs 2 or more; raise rollouts or use estimator 'running_mean'"
            )
        if t.alternatives != TrainConfig().alternatives and t.estimator != "counterfactual":
            raise ConfigError(
                f"train.alternatives is {t.alternatives}, which estimator {t.estimator!r} does not use; "
                "leave it out or set train.estimator to 'counterfactual'"
            )
        if self.sampling.engine != "vllm" and self.vllm != VllmConfig():
            raise ConfigError(
                '[vllm] has settings, but sampling.engine is "built-in"; set it to "vllm" or leave them out'
            )
        self._check_stages()

    def check_workers(self, workers: int) -> None:
        """Raises `ConfigError` where so many processes cannot share this run."""
        if workers > 1 and self.method != NETWORK:
            raise ConfigError(f"--workers is {workers}, but method {self.method!r} trains in one process; leave it out")
        if not 1 <= workers <= self.train.questions:
            raise ConfigError(
                f"--workers is {workers}, but workers share the questions of a step, and train.questions is "
                f"{self.train.questions}; choose 1 to {self.train.questions}, or raise train.questions"
            )

    def _check_stages(self) -> None:
        for number, stage in enumerate(self.stages):
            if self.adapter.tied and (stage.freeze or stage.old_scale != 1 or stage.init in ("copy", "noise")):
                raise ConfigError(
                    f"stages[{number}] tells old nodes from new ones (freeze, old_scale, init), but adapter.tied gives "
                    "all nodes one adapter; leave one of the two out"
                )
        for number, stage in enumerate(self.stages[:-1]):
            if stage.steps is None and stage.promote is None:
                raise ConfigError(
                    f"stages[{number}] has neither steps nor promote, so it would never end; set one of them, or both"
                )

    @classmethod
    def make(cls, data: dict[str, Any]) -> "RunConfig":
        """Validate the data of a recipe or of a config.json; raises `ConfigError` that names each wrong setting.

        The settings of a trained baseline are an instance of the class that its entry in the registry names.
        """
        method = data.get("method", NETWORK)
        settings = RunConfig if method == NETWORK else settings_of(trained_entry(str(method)))
        data = _without_other_tables(method, without_removed(data))
        try:
            config = settings.model_validate(data)
        except ValidationError as error:
            raise ConfigError(explain(error)) from error
        config.check()
        return config

    @classmethod
    def load(cls, path: Path, **overrides: Any) -> "RunConfig":
        """Read a recipe; overrides are dotted names ("train.steps") whose value is not None."""
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(f"recipe {str(path)!r} does not exist; published ones are in recipes/") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"recipe {str(path)!r} is not valid TOML: {error}") from error
        return cls.make(override(data, overrides))


def settings_of(entry: RegistryEntry) -> type[RunConfig]:
    """The class of a trained baseline's settings; imports its file."""
    return entry.load(entry.settings)


def _without_other_tables(method: str, data: dict[str, Any]) -> dict[str, Any]:
    """`data` without the tables of other methods than `method`, which version 0.1.0 wrote into every config.json.

    Raises `ConfigError` where such a table holds anything but defaults.
    """
    others = {e.table: name for name, e in BASELINES.items() if e.trained and name != method and e.table in data}
    for table, owner in others.items():
        defaults = settings_of(BASELINES[owner]).model_fields[table].default.model_dump()
        if not isinstance(data[table], dict) or defaults | data[table] != defaults:
            raise ConfigError(
                f"[{table}] has settings of method {owner!r}, but method is {method!r}; set method = {owner!r}, or "
                "leave the table out"
            )
    return {key: value for key, value in data.items() if key not in others}
