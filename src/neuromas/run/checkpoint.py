"""The files of checkpoints: safetensors and JSON, written whole or not at all, refused when they do not fit.

`checkpoints/step-N/` holds `topology.json`, `nodes/<adapter>/` as PEFT writes them, `optimizer.safetensors` and
`state.json`. All randomness is a function of (seed, step, …), so step and seed are the whole random state and the
whole data position.
"""

import json
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neuromas.baselines.trained.team import Team
from neuromas.errors import CheckpointError
from neuromas.files import read_json, whole_folder, write_json
from neuromas.network.forward import Network
from neuromas.network.topology import Topology
from neuromas.network.wording import WORDS
from neuromas.results import GrowthRecord
from neuromas.run.progress import Progress
from neuromas.train.optimizer import NodeAdamW

FORMAT = 2

Trained = Network | Team  # what a run trains


def save(folder: Path, network: Trained, optimizer: NodeAdamW, progress: Progress) -> Path:
    """Write `folder/step-N`, or `step-N-stage-K` where stage K (above 0) begins; atomic."""
    suffix = f"-stage-{progress.stage}" if progress.begins_stage else ""
    target = folder / f"step-{progress.step:06d}{suffix}"
    with whole_folder(target, ".saving-") as work:
        write_json(work / "topology.json", _shape(network))
        for name in network.adapters.names:
            state, config = network.adapters.export_peft(name, network.backbone.name)
            node = work / "nodes" / name
            node.mkdir(parents=True)
            save_file(state, node / "adapter_model.safetensors", metadata={"format": "pt"})
            write_json(node / "adapter_config.json", config)
        if extras := network.extras:
            save_file({k: v.detach().cpu().contiguous() for k, v in extras.items()}, work / "extras.safetensors")
        save_file(optimizer.tensors(), work / "optimizer.safetensors")
        write_json(work / "state.json", {"progress": progress.to_dict(), **_identity(network), "versions": _versions()})
        for file in work.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        if target.exists():  # the same step of the same run: the content is the same
            shutil.rmtree(target)
    return target


def load(folder: Path, network: Trained, optimizer: NodeAdamW | None = None) -> Progress:
    """Fill `network` (and `optimizer`) from a checkpoint. Raises `CheckpointError` naming what differs."""
    state = _read(folder / "state.json")
    mine = _identity(network)
    if "words" not in state:  # from before words were settings
        state["words"] = mine["words"] and WORDS[1, "chat"].to_dict()
    for name, value in mine.items():
        if state.get(name) != value:
            raise CheckpointError(
                f"checkpoint {folder.name} was made with {name} {state.get(name)!r}, this network has {value!r}; "
                "use the run's own config.json, or start a new run in another folder"
            )
    for name in network.adapters.names:
        node = folder / "nodes" / name
        network.adapters.import_peft(
            name, _tensors(node / "adapter_model.safetensors"), _read(node / "adapter_config.json")
        )
    if extras := network.extras:
        _fill(extras, _tensors(folder / "extras.safetensors"))
    if optimizer is not None:
        optimizer.fill(_tensors(folder / "optimizer.safetensors"))
    return Progress.from_dict(state["progress"])


def progress_of(folder: Path, stages: int) -> Progress:
    """The progress of a checkpoint's run, which has `stages` stages.

    Raises `CheckpointError` where the checkpoint is damaged.
    """
    progress = Progress.from_dict(_read(folder / "state.json")["progress"])
    if not 0 <= progress.stage < stages:
        raise CheckpointError(
            f"checkpoint {folder.name} is of stage {progress.stage}, and the run has {stages} (from 0); "
            "it is damaged, choose another"
        )
    return progress


def lineage_of(run: Path) -> list[GrowthRecord]:
    """The growths of a run's network so far, oldest first; [] before its first checkpoint."""
    last = newest(run / "checkpoints")
    return [] if last is None else Progress.from_dict(_read(last / "state.json")["progress"]).lineage


def parameters(network: Trained) -> list[nn.Parameter]:
    """Every tensor that training changes."""
    return [*network.adapters.stacks(), *network.extras.values()]


def topology_of(folder: Path) -> Topology:
    return Topology.from_dict(_read(folder / "topology.json"))


def step_of(folder: Path) -> int:
    """The step of a checkpoint; -1 when there is none at `folder`."""
    return _read(folder / "state.json")["progress"]["step"] if folder.exists() else -1


def newest(folder: Path) -> Path | None:
    """The checkpoint with the highest step in `folder`, None when there is none."""
    found = sorted(folder.glob("step-[0-9]*")) if folder.is_dir() else []
    return found[-1] if found else None


def chosen(run: Path, which: str) -> Path | None:
    """The checkpoint of a run that is its "best" on validation, where there is one, or its "last"."""
    best = run / "best"
    return best.resolve() if which == "best" and best.exists() else newest(run / "checkpoints")


def mark_best(run: Path, checkpoint: Path) -> None:
    """Make `run/best` point at `checkpoint`; atomic."""
    link = run / f".best.{os.getpid()}.tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(checkpoint.relative_to(run))
    os.replace(link, run / "best")


def prune(folder: Path, keep: int, best: Path | None) -> None:
    """Delete all but the newest `keep` checkpoints and the best one, and what crashes left behind."""
    spared = {best.resolve()} if best is not None and best.exists() else set[Path]()
    for old in sorted(folder.glob("step-[0-9]*"))[:-keep]:
        if old.resolve() not in spared:
            shutil.rmtree(old)


def clean(folder: Path) -> None:
    """Remove half-written checkpoints that a killed process left."""
    for left in folder.glob(".saving-*"):
        shutil.rmtree(left, ignore_errors=True)


def _identity(network: Trained) -> dict[str, object]:
    """Everything that a checkpoint and the network it is loaded into must have in common."""
    bank = network.adapters
    return {
        "format": FORMAT,
        "words": _words(network),
        "backbone": network.backbone.name,
        "backbone_fingerprint": network.backbone.fingerprint(),
        "topology": _shape(network),
        "adapters": bank.nodes,
        "rank": bank.rank,
        "alpha": bank.alpha,
        "targets": sorted(bank.shapes),
    }


def _words(network: Trained) -> dict[str, str] | None:
    """The words that a network is trained with; None where prompts have none (style `compact`, and teams)."""
    if not isinstance(network, Network) or network.backbone.template.style == "compact":
        return None
    return network.words.to_dict()


def _shape(network: Trained) -> Mapping[str, object]:
    return network.topology.to_dict() if isinstance(network, Network) else network.shape


@torch.no_grad()
def _fill(mine: dict[str, nn.Parameter], tensors: dict[str, Tensor]) -> None:
    for name, parameter in mine.items():
        if name not in tensors or tensors[name].shape != parameter.shape:
            raise CheckpointError(f"{name} is missing or has another shape; the checkpoint is damaged, choose another")
        parameter.copy_(tensors[name])


def _versions() -> dict[str, str]:
    import transformers

    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; the checkpoint is incomplete, choose another") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}); the checkpoint is damaged, choose another") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); the checkpoint is damaged, choose another") from error
