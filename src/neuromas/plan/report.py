"""From a recipe and a device to what is printed: memory, seconds, whether it fits, and what to change."""

from dataclasses import dataclass, field
from typing import Any

from neuromas.config import RunConfig
from neuromas.errors import BackboneError, ConfigError
from neuromas.network.forward import Network
from neuromas.network.prompt import PromptTemplate
from neuromas.network.topology import Topology
from neuromas.plan.advice import Change, advise, room
from neuromas.plan.devices import CONTEXT_BYTES, RUNTIME_BYTES, Device, stated_rates
from neuromas.plan.memory import Memory, memory
from neuromas.plan.model import Model, model_of
from neuromas.plan.seconds import Rates, Seconds, seconds
from neuromas.plan.work import Work, assumed_turns, rendered_turns, work_of
from neuromas.run.stages import stages_of
from neuromas.tasks import load_task
from neuromas.train.schedule import Schedule


@dataclass(frozen=True)
class Report:
    """The plan of one run. `expected` has the lengths that calibration saw; `longest` the longest ones possible."""

    name: str
    model: Model
    device: Device
    expected: Work
    longest: Work
    expected_memory: Memory
    longest_memory: Memory
    seconds: Seconds | None  # of `expected`; None where nothing is known of the device's speed
    rates: Rates | None
    changes: list[Change]
    fits_changed: bool  # whether it fits with all changes
    room: dict[str, int]
    notes: list[str] = field(default_factory=list[str])

    @property
    def fits(self) -> bool:
        return self.longest_memory.peak <= self.device.memory

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON. Bytes and seconds."""
        w = self.longest
        return {
            "name": self.name,
            "device": vars(self.device),
            "backbone": {"name": self.model.name, "parameters": self.model.parameters, "dtype": w.dtype},
            "nodes": len(w.turns),
            "trainable_parameters": w.adapters * self.model.adapter_parameters(w.targets, w.rank),
            "questions": w.questions,
            "rollouts": w.rollouts,
            "rank": w.rank,
            "micro_tokens": w.micro_tokens,
            "sampled_tokens": {"expected": self.expected.sampled_tokens, "longest": w.sampled_tokens},
            "memory": {"expected": self.expected_memory.to_dict(), "longest": self.longest_memory.to_dict()},
            "fits": self.fits,
            "seconds": None if self.seconds is None else self.seconds.to_dict(),
            "rates": None if self.rates is None else self.rates.to_dict(),
            "changes": [change.to_dict() for change in self.changes],
            "fits_changed": self.fits_changed,
            "largest": self.room,
            "notes": self.notes,
        }


def plan(
    config: RunConfig, device: Device, *, name: str = "", prompt_tokens: int | None = None, calibrated: bool = True
) -> Report:
    """What one step of a recipe needs on `device`.

    prompt_tokens: of every shared prefix, where tokenizer or questions are not at hand. calibrated: measure this
    machine, where the device is this machine. Raises `ConfigError` and `BackboneError` for what cannot be planned.
    """
    from neuromas.plan.calibrate import calibrate
    from neuromas.run.build import build

    if config.method != "neuromas":
        raise ConfigError(f"method is {config.method!r}, but only networks can be planned (method 'neuromas')")
    model, topology, notes = model_of(config.backbone.name), stages_of(config)[-1].topology, [*_notes(config)]
    limits = _limits(config, topology)
    longest = _work(config, topology, device, limits, prompt_tokens, worst=True)
    expected = _work(config, topology, device, limits, prompt_tokens, worst=False)
    base = RUNTIME_BYTES if device.kind == "cpu" else CONTEXT_BYTES
    rates = stated_rates(model, device, longest.dtype)
    if device.kind == "cpu" and calibrated and prompt_tokens is None:
        try:
            network, task = build(config, topology=topology)
            assert isinstance(network, Network)
            found = calibrate(config, network, task, model)
            rates, base = found.rates, found.base
            if found.disturbed:
                notes.append(f"other work left {found.share:.0%} of a core while calibrating: an idle one is faster")
            expected = expected_work(config, topology, device, found.writes)
        except BackboneError as error:
            notes.append(f"not calibrated: {error}")
    elif rates is None:
        notes.append("no seconds: nothing is known of the device's speed; give --flops and --bandwidth, or calibrate")
    changes, changed = advise(model, longest, base, device.memory)
    return Report(
        name=name or config.task.name,
        model=model,
        device=device,
        expected=expected,
        longest=longest,
        expected_memory=memory(model, expected, base),
        longest_memory=memory(model, longest, base, most=True),
        seconds=None if rates is None else seconds(model, expected, rates),
        rates=rates,
        changes=changes,
        fits_changed=memory(model, changed, base, most=True).peak <= device.memory,
        room=room(model, longest, base, device.memory),
        notes=notes,
    )


def _limits(config: RunConfig, topology: Topology) -> dict[str, float]:
    """Tokens that each node may write."""
    s = config.sampling
    answer = s.answer_tokens or load_task(config.task.name, **config.task.options).max_answer_tokens
    return {n: float(answer if n == topology.output else s.message_tokens) for n in topology.nodes}


def expected_work(config: RunConfig, topology: Topology, device: Device, writes: dict[str, float]) -> Work:
    """A step whose nodes write as many tokens as `writes` says, to the mean prompt of its first questions."""
    return _work(config, topology, device, writes, None, worst=False)


def _work(
    config: RunConfig,
    topology: Topology,
    device: Device,
    writes: dict[str, float],
    prompt_tokens: int | None,
    worst: bool,
) -> Work:
    if prompt_tokens is not None:
        turns = assumed_turns(topology, prompt_tokens, writes)
    else:
        task = load_task(config.task.name, **config.task.options)
        asked = Schedule(task.questions("train"), config).questions(1)
        turns = rendered_turns(topology, _template(config), asked, writes, worst)
    dtype = config.backbone.dtype
    dtype = dtype if dtype != "auto" else "float32" if device.kind == "cpu" else "bfloat16"
    return work_of(config, topology, turns, dtype, device.kind)


def _template(config: RunConfig) -> PromptTemplate:
    """The recipe's prompts; needs the backbone's tokenizer and config, not its weights."""
    from transformers import AutoConfig, AutoTokenizer

    from neuromas.network.backbone import declared_style, locate

    name, source = config.backbone.name, locate(config.backbone.name)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source)
        window: int = AutoConfig.from_pretrained(source).max_position_embeddings
        if not tokenizer.encode("question"):
            raise ValueError("it has no vocabulary")
    except (OSError, ValueError) as error:
        raise BackboneError(
            f"the tokenizer of backbone {name!r} could not be read ({str(error).strip().splitlines()[0]}); say how "
            "long its prompts are with --prompt-tokens, e.g. 200"
        ) from error
    style = config.backbone.style or declared_style(source)
    return PromptTemplate(tokenizer, style or ("chat" if tokenizer.chat_template else "plain"), window)


def _notes(config: RunConfig) -> list[str]:
    """What the arithmetic leaves out of this recipe."""
    notes: list[str] = []
    if config.train.estimator in ("counterfactual", "difference"):
        notes.append(f"branches of estimator {config.train.estimator!r} are not counted: expect more time and memory")
    if config.stages:
        notes.append("planned for the last stage, which is the largest")
    return notes
