"""From a recipe and a device to what is printed: memory, seconds, whether it fits, and what to change."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from neuromas.config import NETWORK, RunConfig
from neuromas.errors import BackboneError, ConfigError
from neuromas.network.forward import Limits, Network
from neuromas.network.prompt import PromptTemplate
from neuromas.network.topology import Topology
from neuromas.network.wording import Words
from neuromas.plan.advice import Change, advise, room
from neuromas.plan.devices import CONTEXT_BYTES, RUNTIME_BYTES, Device, stated_rates
from neuromas.plan.memory import Memory, memory
from neuromas.plan.model import ModelSizes, model_of
from neuromas.plan.seconds import Rates, Seconds, seconds
from neuromas.plan.work import LABEL_TOKENS, Lengths, Work, prompt_lengths, work_of
from neuromas.run.stages import stages_of
from neuromas.tasks import load_task
from neuromas.tasks.base import Task
from neuromas.train.schedule import Schedule


@dataclass(frozen=True)
class Report:
    """The plan of one run. `expected` has the lengths that calibration saw; `longest` the longest ones possible."""

    name: str
    model: ModelSizes
    device: Device
    expected: Work
    longest: Work
    expected_memory: Memory
    longest_memory: Memory
    seconds: Seconds | None  # Those of `expected`; None where nothing is known of the device's speed.
    rates: Rates | None
    changes: list[Change]
    fits_changed: bool  # Whether it fits with all changes.
    notes: list[str]

    @property
    def fits(self) -> bool:
        return self.longest_memory.peak <= self.device.memory

    @cached_property
    def room(self) -> dict[str, int]:
        """The values to which each setting alone could be raised; takes seconds for wide networks."""
        return room(self.model, self.longest, self.longest_memory.base, self.device.memory)

    def to_dict(self) -> dict[str, object]:
        """The plan as JSON knows it, in bytes and seconds."""
        w, most = self.longest, self.longest_memory
        held = {"expected": self.expected_memory, "longest": most}
        step = self.seconds and self.seconds.to_dict() | {"step": self.seconds.step}
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
            "memory": {name: m.to_dict() | {"peak": m.peak, "phase": m.phase} for name, m in held.items()},
            "fits": self.fits,
            "seconds": step,
            "rates": self.rates and self.rates.to_dict(),
            "changes": [change.to_dict() for change in self.changes],
            "fits_changed": self.fits_changed,
            "largest": self.room,
            "notes": self.notes,
        }


def plan(
    config: RunConfig, device: Device, *, name: str = "", prompt_tokens: int | None = None, calibrated: bool = True
) -> Report:
    """The memory and the seconds that one step of a recipe needs on `device`.

    prompt_tokens: of every shared prefix, where tokenizer or questions are not at hand. calibrated: measure this
    machine, where the device is this machine. Raises `ConfigError` and `BackboneError` for what cannot be planned.
    """
    from neuromas.plan.calibrate import calibrate
    from neuromas.run.build import build

    if config.method != NETWORK:
        raise ConfigError(f"method is {config.method!r}, but only networks can be planned (method 'neuromas')")
    model, topology, notes = model_of(config.backbone.name), stages_of(config)[-1].topology, _notes(config)
    limits = Limits.from_config(config.sampling, config.sampling.answer_tokens or _task(config).max_answer_tokens)
    writes = {node: limits.of(node == topology.output) for node in topology.nodes}
    mean_prompt, longest_prompt = _lengths(config, topology, prompt_tokens)
    longest = work_of(config, topology, longest_prompt, writes, device.kind, model.targets)
    expected = work_of(config, topology, mean_prompt, writes, device.kind, model.targets)
    base = RUNTIME_BYTES if device.kind == "cpu" else CONTEXT_BYTES
    rates = stated_rates(model, device, longest.dtype)
    if device.kind == "cpu" and calibrated and prompt_tokens is None:
        try:
            network, task = build(config, topology=topology)
            assert isinstance(network, Network)
            here = calibrate(config, network, task, model)
            rates, base, expected = here.rates, here.base, here.work
            if here.disturbed:
                notes.append(f"other work left {here.share:.0%} of a core while calibrating: an idle one is faster")
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
        notes=notes,
    )


def _lengths(config: RunConfig, topology: Topology, prompt_tokens: int | None) -> tuple[Lengths, Lengths]:
    """The mean and the longest prompts of the first step's questions, or assumed ones of `prompt_tokens`."""
    if prompt_tokens is not None:
        assumed = {node: (prompt_tokens, LABEL_TOKENS * len(topology.parents(node))) for node in topology.nodes}
        return assumed, assumed
    questions, template = Schedule(_task(config).questions("train"), config).questions(1), _template(config)
    words = Words.of(config.prompt, template.style)
    mean, longest = (prompt_lengths(topology, template, words, questions, *how) for how in ((), (max,)))
    return mean, longest


def _task(config: RunConfig) -> Task:
    return load_task(config.task.name, **config.task.options)


def _template(config: RunConfig) -> PromptTemplate:
    """The recipe's prompts; needs the backbone's tokenizer and config, not its weights."""
    from transformers import AutoConfig, AutoTokenizer

    from neuromas.network.loading import declared, locate

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
    style = config.backbone.style or declared(source).style
    return PromptTemplate(tokenizer, style or ("chat" if tokenizer.chat_template else "plain"), window)


def _notes(config: RunConfig) -> list[str]:
    """The parts of this recipe that the arithmetic leaves out."""
    notes: list[str] = []
    if config.train.estimator in ("counterfactual", "difference"):
        notes.append(f"branches of estimator {config.train.estimator!r} are not counted: expect more time and memory")
    if config.stages:
        notes.append("planned for the last stage, which is the largest")
    return notes


# -- in words --


def verdict(report: Report) -> str:
    """One paragraph: memory, seconds, and the settings that could be raised or must be changed."""
    work, most = report.longest, report.longest_memory
    text = (
        f"{len(work.turns)} nodes of rank {work.rank} on {report.model.name} ({work.dtype}), {work.questions} "
        f"questions × {work.rollouts} rollouts: at most {gigabytes(most.peak)} of {gigabytes(report.device.memory)}"
    )
    text += ", so it fits." if report.fits else ", so it does not fit."
    if report.seconds is not None:
        s = report.seconds
        source = "calibrated here" if report.device.kind == "cpu" else "estimated from published peaks, not measured"
        text += f" A step takes about {s.step:.3g} s ({source}): {s.sample:.3g} sampling, "
        text += f"{s.update:.3g} updating if no group has equal rewards, {s.measure:.3g} measuring."
    if report.fits:
        text += " Each alone could be raised to: " + ", ".join(f"{k} {v:,}" for k, v in report.room.items()) + "."
    elif report.fits_changed:
        text += " It fits with these changes, in this order:"
    else:
        text += " It does not fit even with all of these; take a smaller backbone, fewer nodes or a larger device:"
    return text


def change_line(change: Change) -> str:
    return (
        f"{change.setting} {change.before} → {change.after}: saves {gigabytes(change.saves)}, peak "
        f"{gigabytes(change.peak)} ({change.cost})"
    )


def gigabytes(count: int) -> str:
    """In units of 10^9 bytes."""
    return f"{count / 1e9:.2f} GB"
