"""A tracker beside metrics.jsonl: any that the package accelerate knows (wandb, trackio, mlflow, swanlab …)."""

import hashlib
import json
from pathlib import Path
from typing import Any

from neuromas.config import RunConfig
from neuromas.errors import ConfigError, require
from neuromas.recipe import TomlTable
from neuromas.results import StepMetrics
from neuromas.run.final import FinalRecord
from neuromas.run.folder import dotted, tags

_SHOWN = ("accuracy", "n", "parse_rate")  # test figures


def known(name: str) -> Any:
    """The class of a tracker in accelerate. Raises ConfigError for one that it does not know, or without accelerate."""
    install = "pip install -e '.[track]'"
    tracking = require("accelerate.tracking", "--track", install, "leave it out", error=ConfigError)
    kinds = {kind: found for kind, found in tracking.LOGGER_TYPE_TO_CLASS.items() if kind != "tensorboard"}
    if name not in kinds:
        raise ConfigError(
            f"--track is {name!r}; the trackers are {', '.join(kinds)} (every run writes TensorBoard's files)"
        )
    require(name, f"--track {name}", f"pip install {name.replace('_', '-')}", "leave it out", error=ConfigError)
    return kinds[name]


class Tracker:
    """A watcher of a run's lines that sends their numbers to a tracker.

    Where a tracker knows how (`wandb`, `trackio`, `swanlab`), a resumed run continues its own curves.
    """

    def __init__(self, name: str, project: str, run: Path, config: RunConfig) -> None:
        """Raises ConfigError without the packages, or where the tracker refuses to begin."""
        kind = known(name)
        from accelerate import PartialState

        PartialState(cpu=True)  # accelerate's trackers ask it whether this is the main process
        folder = {"logging_dir": str(run)} if kind.requires_logging_directory else {}
        try:
            self._tracker = kind(project, **folder, **_identity(name, run))
            self._tracker.start()
            self._tracker.store_init_configuration(_settings(config))
        except Exception as error:  # its own errors, the network's, and those of a login
            raise ConfigError(f"{name} did not begin ({error}); log in there, or leave out --track") from error

    def __call__(self, metrics: StepMetrics) -> None:
        """Send the metrics of a step."""
        self._tracker.log(tags(metrics.to_dict()), step=metrics.step)

    def finish(self, final: FinalRecord) -> None:
        """Send the test figures, named "test/<checkpoint>/<decoding>/<messages>/…", and end."""
        places = {f"test/{row.checkpoint}/{row.decoding}/{row.delivery}": row for row in final.results}
        figures = {f"{place}/{key}": getattr(row, key) for place, row in places.items() for key in _SHOWN}
        self._tracker.log(figures, step=final.steps)
        self._tracker.finish()


def _identity(name: str, run: Path) -> dict[str, str]:
    """The options by which a tracker knows a run again that is resumed; else its name alone, where it takes one."""
    id = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16]
    options = {
        "wandb": {"name": run.name, "id": id, "resume": "allow"},
        "trackio": {"name": run.name, "resume": "allow"},
        "swanlab": {"experiment_name": run.name, "id": id, "resume": "allow"},
        "mlflow": {"run_name": run.name},
    }
    return options.get(name, {})


def _settings(config: RunConfig) -> TomlTable:
    """The settings by their dotted names, as plain values, which is what every tracker takes."""
    plain = lambda value: value if isinstance(value, str | int | float | bool) else json.dumps(value)
    return {name: plain(value) for name, value in dotted(config).items()}
