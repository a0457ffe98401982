"""Weights & Biases beside metrics.jsonl and TensorBoard, for whoever wants it (`pip install wandb`)."""

import hashlib
import importlib
from pathlib import Path
from typing import Any

from neuromas.config import RunConfig
from neuromas.errors import ConfigError
from neuromas.results import StepMetrics
from neuromas.run.final import FinalRecord
from neuromas.run.folder import flat


def require_package() -> Any:
    """The package. Raises ConfigError without it."""
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise ConfigError("--wandb needs the package wandb; run `pip install wandb`, or leave it out") from error


class WandbBoard:
    """A watcher of a run's lines that sends their numbers to a project; a resumed run continues its own curves."""

    def __init__(self, project: str, run: Path, config: RunConfig) -> None:
        """Raises ConfigError without the package, or where W&B refuses to begin."""
        wandb = require_package()
        id = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16]  # of the folder: the same when resumed
        settings = config.model_dump(mode="json")
        try:
            self._run: Any = wandb.init(project=project, name=run.name, id=id, resume="allow", config=settings)
        except Exception as error:  # its own errors, the network's, and those of a login
            raise ConfigError(f"Weights & Biases did not begin ({error}); log in with `wandb login`") from error

    def __call__(self, metrics: StepMetrics) -> None:
        """Send the metrics of a step."""
        self._run.log(flat(metrics.to_dict()), step=metrics.step)

    def finish(self, final: FinalRecord) -> None:
        """Send the test figures, named "test/<checkpoint>/<decoding>/<messages>/…", and end."""
        for row in final.results:
            place = f"test/{row.checkpoint}/{row.decoding}/{row.delivery}"
            self._run.summary.update({f"{place}/{k}": getattr(row, k) for k in ("accuracy", "n", "parse_rate")})
        self._run.finish()
