"""From what a person types to a network and its task; shared by `eval` and `ask`."""

from dataclasses import replace
from pathlib import Path

from neuromas.config import RunConfig, override
from neuromas.errors import ConfigError
from neuromas.evaluate.baselines.logit import Logit
from neuromas.network.forward import Network
from neuromas.tasks.base import Task


def load_system(
    system: str, task: str | None, recipe: Path | None, backbone: str | None, checkpoint: str, threads: int | None
) -> tuple[Network | Logit, Task]:
    """The network of a run folder, or the bare backbone as `direct` or `logit`; and the task named, or the run's own.

    recipe: where a baseline takes task (with its options), backbone and sampling from.
    """
    import torch

    from neuromas.tasks import load_task
    from neuromas.train.loop import load_run

    if threads:
        torch.set_num_threads(threads)
    if system in ("direct", "logit"):
        changes = {"task.name": task, "backbone.name": backbone}
        return _baseline(system, RunConfig.load(recipe, **changes) if recipe else RunConfig.make(override({}, changes)))
    if not Path(system).is_dir():
        raise ConfigError(f"{system!r} is neither a run folder nor a baseline; the baselines are: direct, logit")
    network, loaded, config = load_run(Path(system), checkpoint)
    if task is not None and task != config.task.name:
        loaded = load_task(task)
        network.limits = replace(network.limits, answer_tokens=loaded.max_answer_tokens)
    return network, loaded


def _baseline(name: str, config: RunConfig) -> tuple[Network | Logit, Task]:
    from neuromas.evaluate.baselines.direct import Direct
    from neuromas.network.backbone import Backbone
    from neuromas.network.forward import Limits
    from neuromas.tasks import load_task

    task, b, s = load_task(config.task.name, **config.task.options), config.backbone, config.sampling
    loaded = Backbone.load(b.name, device=b.device, dtype=b.dtype, style=b.style)
    limits = Limits(s.message_tokens, s.answer_tokens or task.max_answer_tokens, s.batch_rows)
    return (Direct(loaded, limits) if name == "direct" else Logit(loaded, limits, task.choices)), task
