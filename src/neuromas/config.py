"""The settings of a run, as plain validated data; a recipe is this as TOML.

The text under a setting is its description in docs/settings.md.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError

from neuromas.baselines import NETWORK
from neuromas.errors import ConfigError
from neuromas.prompt_config import PromptConfig
from neuromas.recipe import Section, TomlTable, cleaned, explain, override, read_recipe, settings_class
from neuromas.sampling_config import LEAST_VLLM_TEMPERATURE, SamplingConfig, VllmConfig

TopologySpec = str | list[int] | TomlTable  # the forms that a topology has in a recipe
Beta = Annotated[float, Field(ge=0, lt=1)]


class TaskConfig(Section):
    """The questions."""

    name: str = "compositional"
    """The task; `neuromas tasks` lists them."""
    options: TomlTable = Field(default_factory=dict)
    """The task's own options, which it gets as they are (sizes, depth, seed …)."""
    drop_long: bool = False
    """Leave out the questions whose prompts do not fit into the context window, and tell how many they are. Otherwise a
    run with such a question does not begin. Networks only."""


class BackboneConfig(Section):
    """The frozen model."""

    name: str = "tiny"
    """Built-in name, local folder, or hub id; for frozen baselines also `openai:URL#MODEL`."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1` …; `auto` takes CUDA where there is one, else the CPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`float32`, `bfloat16` or `float16`; `auto` is bfloat16 on CUDA and float32 elsewhere."""
    style: Literal["chat", "plain", "compact"] | None = None
    """Prompt style: `chat`, `plain` or `compact`. None: the style that the backbone's folder declares, else `chat`
    where there is a chat template, else `plain`."""


class AdapterConfig(Section):
    """The adapters, which are all that is trained."""

    rank: int = Field(default=8, ge=1, le=65_536)
    """Rank of each LoRA."""
    alpha: float | None = Field(default=None, gt=0)
    """LoRA alpha; the update is scaled by alpha / rank. None: 2 × rank."""
    targets: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The linear layers that get adapters, by the last part of their name. None: those that the backbone's folder
    declares, else attention's projections, by whatever name; a run keeps those of its first step."""
    tied: bool = False
    """All nodes share one adapter."""
    init_from: str | dict[str, str] | None = None
    """A LoRA that PEFT wrote, with which every node begins: its folder; or a table, node id to folder, for some nodes.
    Its rank may be lower than `rank`, and it may cover fewer layers."""


Estimator = Literal["leave_one_out", "group_normalised", "running_mean", "critic", "counterfactual", "difference"]
BRANCHING = ("counterfactual", "difference")  # estimators that replay rollouts from a node on
UNGROUPED = ("running_mean", "critic")  # estimators that never compare the rollouts of a question


class TrainConfig(Section):
    """The training."""

    steps: int = Field(default=100, ge=1)
    """Updates."""
    questions: int = Field(default=8, ge=1, le=1_000_000)
    """Questions a step (P)."""
    rollouts: int = Field(default=8, ge=1, le=1_000_000)
    """Rollouts a question (G). All estimators but `running_mean` and `critic` need 2. `malt` does not read it (see
    `malt.branching`)."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of AdamW after the warm-up."""
    warmup: int = Field(default=5, ge=0)
    """Steps over which the learning rate rises linearly, at the start of every stage."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay of AdamW."""
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    """Betas of AdamW."""
    clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm of each adapter; longer gradients are scaled down to it."""
    ratio_cap: float = Field(default=2.0, ge=1)
    """Importance ratios π / μ are cut off here, where another engine samples (from μ)."""
    max_mismatch: float | None = Field(default=None, gt=0)
    """KL(μ ‖ π) of what samples, in nats a token, above which a step is refused and the run ends. None: 1e-6 in
    float32, 0.02 in 16 bits."""
    estimator: Estimator = "leave_one_out"
    """Advantage: `leave_one_out`, `group_normalised`, `running_mean`, `critic`, `counterfactual` or `difference`."""
    alternatives: int = Field(default=1, ge=1)
    """Messages that `counterfactual` draws at each node besides the rollout's own (K)."""
    warm_start: int = Field(default=0, ge=0)
    """First steps, at most, that imitate the network's own right rollouts, of these steps and of those before, instead
    of using `estimator`. No KL penalty or entropy bonus in them."""
    warm_start_until: float | None = Field(default=None, gt=0, le=1)
    """End the warm start once the mean sampled reward of a step has reached this."""
    drop_solved: int | None = Field(default=None, ge=1)
    """Leave out questions all of whose rollouts were right in their last so many visits. None: none."""
    resample: int = Field(default=0, ge=0)
    """Where all rollouts of a question were wrong, ask another one in the same step; at most so many times in turn. The
    rollouts of both count."""
    kl: float = Field(default=0.0, ge=0)
    """Weight of a per-token penalty whose expected gradient is that of KL(node ‖ bare backbone)."""
    entropy: float = Field(default=0.0, ge=0)
    """Weight of the entropy bonus, summed over a rollout's tokens."""
    node_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Chance that a hidden node is absent from a rollout of training, so that the network learns to do without any of
    them. Nobody is left out where what remains would be no network."""
    balanced: bool = False
    """Draw questions answer by answer in turn. Exactly balanced where `questions` is a multiple of the number of
    answers."""
    micro_tokens: int = Field(default=4096, ge=1)
    """Tokens of one forward and backward of the update: bounds its memory, whatever the number of nodes and rollouts. A
    single longer row is not divided, and rows go with the prompt they share up to a quarter of its length."""
    gradient_checkpointing: bool = False
    """Keep only each layer's input for the backward pass: less memory, about a third more time."""
    validate_every: int = Field(default=10, ge=1)
    """Steps between validations; the last step is always validated."""
    validation_questions: int = Field(default=128, ge=1)
    """Validate on the first so many questions of the validation split."""
    patience: int | None = Field(default=None, ge=1)
    """End the run, or its stage where another one follows, after so many validations in a row that were no better than
    the best one before. None: go on to the end."""
    silence_questions: int = Field(default=32, ge=0)
    """Replay the first so many of them with each hidden node silenced. 0: none."""
    start_questions: int | None = Field(default=None, ge=0)
    """Before the first update, answer the first so many of them greedily and `rollouts` times, and report what the run
    starts from. 0: no report. None: 16, and 0 with the embedded backbone."""
    checkpoint_every: int = Field(default=1, ge=1)
    """Steps between checkpoints; a validation always writes one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest checkpoints that are kept, besides the best one."""
    stop_after_seconds: float | None = Field(default=None, gt=0)
    """End the run early once its training steps have taken this long; validation and testing do not count."""


class StageConfig(Section):
    """One part of a run that grows."""

    topology: TopologySpec | None = None
    """The network of the stage; it must contain the one before. None: as before; in the first stage, the run's."""
    task: str | None = None
    """Another task, whose training questions the stage asks. None: the run's. Validation and test keep the run's."""
    options: TomlTable = Field(default_factory=dict)
    """Task options for the training questions of a stage: those of its `task`, else over `task.options`."""
    steps: int | None = Field(default=None, ge=1)
    """The most steps of the stage. None: it lasts until it is promoted, or the run ends."""
    promote: float | None = Field(default=None, gt=0, le=1)
    """End the stage at this mean sampled reward over `window` whole steps."""
    window: int = Field(default=10, ge=1)
    """Steps of that mean, all of them with every node present."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Learning rate of the stage. None: `train.learning_rate`."""
    init: Literal["fade", "copy", "zero", "noise"] = "fade"
    """New nodes begin as the bare backbone, faded in (`fade`) or present at once (`zero`), with the adapters of the
    layer's old nodes in turn, else of the nearest layer's (`copy`), or with a random B as wide as those of old nodes
    (`noise`)."""
    anneal: int = Field(default=20, ge=0)
    """Steps over which nodes that `fade` in become present in all rollouts."""
    freeze: int = Field(default=0, ge=0)
    """First steps of the stage that do not change old nodes."""
    old_scale: float = Field(default=1.0, ge=0)
    """Learning rate of old message nodes, as a multiple. The output, which has to read the new messages, keeps the full
    one."""


class RunConfig(Section):
    """One training run: of a network, or, in a subclass with a table of its own, of a trained baseline."""

    method: str = NETWORK
    """What is trained: `neuromas` (a network, or a single model), or a baseline that `neuromas baselines` lists as
    trained. A baseline refuses settings that it does not use."""
    topology: TopologySpec = "2"
    """Hidden widths (`"2-2"`), a paper name (`"NeuroMAS-5"`), `"single"`, a list of widths, a table, or a path to a
    JSON or TOML file. `@first`, `@<ids>` say who reads the question; `+skip` adds edges from all earlier layers;
    `8-4/2` divides every layer into two groups that read only themselves, for the output to join."""
    seed: int = Field(default=0, ge=0)
    """Seed of initial adapters, order of questions and sampling. Tasks have a seed of their own in `task.options`."""
    task: TaskConfig = TaskConfig()
    backbone: BackboneConfig = BackboneConfig()
    adapter: AdapterConfig = AdapterConfig()
    sampling: SamplingConfig = SamplingConfig()
    prompt: PromptConfig = PromptConfig()
    vllm: VllmConfig = VllmConfig()
    train: TrainConfig = TrainConfig()
    stages: tuple[StageConfig, ...] = ()
    """Parts of a run that grows (`[[stages]]`). None: one, of the run's topology."""

    @property
    def samples(self) -> int:
        """Rollouts that the whole training draws."""
        return self.train.steps * self.train.questions * self.train.rollouts

    def with_settings(self, section: str, **values: object) -> Self:
        """A copy with other values in one of its tables; they are not checked."""
        return self.model_copy(update={section: getattr(self, section).model_copy(update=values)})

    def check(self) -> None:
        """Raises `ConfigError` where settings contradict each other."""
        t = self.train
        if isinstance(self.topology, str) and not self.topology.strip():
            raise ConfigError('topology is empty; name one such as "2-2", or "single" for a single node')
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
        if self.sampling.engine == "vllm" and self.sampling.temperature < LEAST_VLLM_TEMPERATURE:
            raise ConfigError(
                f"sampling.temperature is {self.sampling.temperature:g}, which vLLM raises to "
                f'{LEAST_VLLM_TEMPERATURE:g} on its own; set it to that or more, or sampling.engine to "built-in"'
            )
        if t.warm_start_until is not None and not t.warm_start:
            raise ConfigError("train.warm_start_until is set, but train.warm_start is 0; set it to its most steps")
        if self.sampling.engine != "vllm" and self.vllm != VllmConfig():
            raise ConfigError(
                '[vllm] has settings, but sampling.engine is "built-in"; set it to "vllm" or leave them out'
            )
        self._check_stages()

    def remarks(self) -> list[str]:
        """Remarks on settings that can be meant, and are probably mistakes."""
        t = self.train
        if t.warmup <= t.steps or t.warmup == TrainConfig().warmup:
            return []
        rate = t.learning_rate * t.steps / t.warmup
        remark = (
            f"train.warmup is {t.warmup} and train.steps is {t.steps}, so the learning rate ends at {rate:.3g}, below "
            "train.learning_rate; lower train.warmup or raise train.steps"
        )
        return [remark]

    def check_workers(self, workers: int) -> None:
        """Raises `ConfigError` where so many processes cannot share this run."""
        if workers > 1 and self.method != NETWORK:
            raise ConfigError(f"--workers is {workers}, but method {self.method!r} trains in one process; leave it out")
        if workers > 1 and self.train.resample:
            raise ConfigError(
                f"--workers is {workers}, but train.resample asks further questions; leave one of them out"
            )
        if not 1 <= workers <= self.train.questions:
            raise ConfigError(
                f"--workers is {workers}, but workers share the questions of a step, and train.questions is "
                f"{self.train.questions}; choose 1 to {self.train.questions}, or raise train.questions"
            )

    def _check_stages(self) -> None:
        """Raises `ConfigError` for a stage without end, or one that tells nodes apart that share one adapter."""
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
    def make(cls, data: TomlTable) -> "RunConfig":
        """Validate the data of a recipe or of a config.json; the method's entry in the registry names the class.

        Raises `ConfigError` that names each wrong setting.
        """
        method = data.get("method", NETWORK)
        settings = cls if method == NETWORK else settings_class(method)
        try:
            config = settings.model_validate(cleaned(data, method))
        except ValidationError as error:
            raise ConfigError(explain(error, settings)) from error
        config.check()
        return config

    @classmethod
    def saved(cls, data: TomlTable) -> "RunConfig":
        """Read a config.json. One from before words were settings holds to those that its run was trained with."""
        return cls.make({"prompt": {"version": 1}} | data)

    @classmethod
    def load(cls, path: Path, **overrides: object) -> "RunConfig":
        """Read a recipe. Overrides are dotted names ("train.steps"); one whose value is None changes nothing.

        Raises `ConfigError` for a file that cannot be read, and as `make` does.
        """
        return cls.make(override(read_recipe(path), overrides))
