"""The beginning of a run, in words."""

from collections.abc import Sequence

from neuromas.config import RunConfig
from neuromas.results import GrowthRecord, StepMetrics
from neuromas.train.warm import IMITATION


def began(
    config: RunConfig, metrics: Sequence[StepMetrics], lineage: Sequence[GrowthRecord], changes: Sequence[str] = ()
) -> str:
    """From what a run began, and what its first steps did instead of plain reinforcement; as far as it has come.

    changes: of its questions and its reward, accepted on the way.
    """
    parts: list[str] = []
    if (start := config.adapter.init_from) is not None:
        folders = {"every node": start} if isinstance(start, str) else start
        parts.append("; ".join(f"{node} from the adapter {folder}" for node, folder in folders.items()))
    if origin := next((grown for grown in lineage if grown.run), None):
        parts.append(f"grown from the run {origin.run} after step {origin.step}")
    if warm := [m for m in metrics if m.estimator == IMITATION]:
        right = round(sum((m.accuracy or 0) * (m.rollouts or 0) for m in warm))
        tokens = sum(m.generated_tokens or 0 for m in warm)
        parts.append(f"warm start of {len(warm)} steps on {right} right rollouts ({tokens:,} tokens sampled)")
    elif config.train.warm_start:
        parts.append(f"warm start of up to {config.train.warm_start} steps")
    own = [str(number) for number, stage in enumerate(config.stages) if stage.task or stage.options]
    if own:
        parts.append(f"questions of their own in stages {', '.join(own)} of {len(config.stages)}")
    parts += [f"changed {change}" for change in changes]
    return ", ".join(parts) or "from the bare backbone"
