"""From what a person types to a network and its task; shared by `eval` and `ask`."""

from pathlib import Path

from neuromas.errors import ConfigError
from neuromas.network.forward import Network
from neuromas.tasks.base import Task


def load_system(
    system: str, task: str | None, backbone: str, checkpoint: str, threads: int | None
) -> tuple[Network, Task]:
    """The network of a run folder, or the bare backbone as `direct`; and the task named, or the run's own."""
    import torch

    from neuromas.evaluate.baselines.direct import Direct
    from neuromas.network.backbone import Backbone
    from neuromas.network.forward import Limits
    from neuromas.tasks import load_task
    from neuromas.train.loop import load_run

    if threads:
        torch.set_num_threads(threads)
    if system == "direct":
        loaded = load_task(task or "compositional")
        return Direct(Backbone.load(backbone), Limits(answer_tokens=loaded.max_answer_tokens)), loaded
    if not Path(system).is_dir():
        raise ConfigError(f"{system!r} is neither a run folder nor a baseline; the baselines are: direct")
    network, loaded, config = load_run(Path(system), checkpoint)
    if task is None or task == config.task.name:
        return network, loaded
    return network, load_task(task)
