"""The files of checkpoints: safetensors and JSON, written whole or not at all, refused when they do not fit.

`checkpoints/step-N/` holds `topology.json`, `nodes/<adapter>/` as PEFT writes them, `optimizer.safetensors` and
`state.json`, which has the digests of the others. All randomness is a function of (seed, step, …), so step and seed are
the whole random state and the whole data position.
"""

import os
import platform
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neuromas.baselines.trained.team import Team
from neuromas.errors import CheckpointError, DivergenceError
from neuromas.files import plain, read_object, read_record, whole_folder, write_json
from neuromas.network import peft
from neuromas.network.forward import Network
from neuromas.network.topology import Topology
from neuromas.network.wording import WORDS
from neuromas.run.digests import STATE, check_files, digests_of, sealed
from neuromas.run.progress import Progress
from neuromas.train.optimizer import NodeAdamW

FORMAT = 2
_NAME = re.compile(r"step-(\d{6,})(?:-stage-(\d+))?")

Trained = Network | Team  # what a run trains


def save(
    folder: Path,
    network: Trained,
    optimizer: NodeAdamW,
    progress: Progress,
    questions: Mapping[str, str] | None = None,
) -> Path:
    """Write `folder/step-N`, or `step-N-stage-K` where stage K (above 0) begins; atomic.

    questions: the task's fingerprint. Raises `DivergenceError`, with nothing written, where a number is not finite.
    """
    moments = optimizer.tensors()
    if not _finite([*parameters(network), *moments.values()]):
        raise DivergenceError(
            f"step {progress.step}: the weights, or the optimiser's state, are not finite; lower train.learning_rate"
        )
    suffix = f"-stage-{progress.stage}" if progress.begins_stage else ""
    target = folder / f"step-{progress.step:06d}{suffix}"
    with whole_folder(target, ".saving-") as work:
        write_json(work / "topology.json", _shape(network))
        for name in network.adapters.names:
            peft.write(work / "nodes" / name, *network.adapters.export_peft(name, network.backbone.name))
        if extras := network.extras:
            save_file({k: v.detach().cpu().contiguous() for k, v in extras.items()}, work / "extras.safetensors")
        save_file(moments, work / "optimizer.safetensors")
        about = {"progress": progress.to_dict(), **_identity(network), "versions": _versions()}
        about |= {"questions": dict(questions or {}), "files": digests_of(work)}
        write_json(work / STATE, sealed(about))
        for file in work.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        if target.exists():  # the same step of the same run: the content is the same
            remove(target)
    return target


def load(folder: Path, network: Trained, optimizer: NodeAdamW | None = None) -> Progress:
    """Fill `network` (and `optimizer`) from a checkpoint. Raises `CheckpointError` naming what differs."""
    state, mine = whole_state(folder), _identity(network)
    if "words" not in state:  # from before words were settings
        state["words"] = mine["words"] and WORDS[1, "chat"].to_dict()
    for name, value in mine.items():
        if state.get(name) != value and name != "backbone":  # a model may have another name here; its fingerprint tells
            raise CheckpointError(
                f"checkpoint {folder.name} was made with {name} {state.get(name)!r}, this network has {value!r}; "
                "use the run's own config.json, or start a new run in another folder"
            )
    for name in network.adapters.names:
        node = folder / "nodes" / name
        network.adapters.import_peft(name, _tensors(node / peft.WEIGHTS), read_object(node / peft.CONFIG))
    if extras := network.extras:
        _fill(extras, _tensors(folder / "extras.safetensors"))
    if optimizer is not None:
        optimizer.fill(_tensors(folder / "optimizer.safetensors"))
    return Progress.from_dict(state["progress"])


def whole_state(folder: Path) -> dict[str, Any]:
    """The state of a checkpoint. Raises `CheckpointError` where any of its files is not what was saved."""
    state = _state(folder)
    if missing := [key for key in ("format", "topology", "backbone_fingerprint") if key not in state]:
        raise CheckpointError(f"{folder / STATE} has no {missing[0]}; the checkpoint is damaged, choose another")
    check_files(folder, state.get("files", {}))
    return state


def progress_of(folder: Path, stages: int) -> Progress:
    """The progress of a checkpoint's run, which has `stages` stages.

    Raises `CheckpointError` where the checkpoint is damaged.
    """
    progress = Progress.from_dict(_state(folder)["progress"])
    if not 0 <= progress.stage < stages:
        raise CheckpointError(
            f"checkpoint {folder.name} is of stage {progress.stage}, and the run has {stages} (from 0); "
            "it is damaged, choose another"
        )
    return progress


def questions_of(folder: Path) -> dict[str, str]:
    """The fingerprint of the task that a checkpoint was trained on; {} where it has none."""
    return _state(folder).get("questions", {})


def newest_progress(run: Path) -> Progress:
    """The progress of a run as of its newest checkpoint."""
    last = newest(run / "checkpoints")
    return Progress() if last is None else Progress.from_dict(_state(last)["progress"])


def parameters(network: Trained) -> list[nn.Parameter]:
    """Every tensor that training changes."""
    return [*network.adapters.stacks(), *network.extras.values()]


def topology_of(folder: Path) -> Topology:
    return read_record(folder / "topology.json", Topology.from_dict)


def step_of(folder: Path) -> int:
    """The step of a checkpoint; -1 when there is none at `folder`."""
    return _state(folder)["progress"]["step"] if folder.exists() else -1


def newest(folder: Path) -> Path | None:
    """The checkpoint with the highest step in `folder`, None when there is none."""
    found = saved_in(folder)
    return found[-1] if found else None


def saved_in(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, by their step, then their stage; nothing else that lies there."""
    names = {path: match for path in folder.glob("step-*") if (match := _NAME.fullmatch(path.name))}
    return sorted(names, key=lambda path: (int(names[path][1]), int(names[path][2] or -1)))


def number(folder: Path) -> int:
    """The step in the name of a checkpoint."""
    return int(folder.name.split("-")[1])


def set_aside(folder: Path, last: Path) -> None:
    """Rename the checkpoints after `last`, so that it is the newest one."""
    for later in saved_in(folder)[saved_in(folder).index(last) + 1 :]:
        later.rename(folder / f"aside-{later.name}-{os.getpid()}")


def chosen(run: Path, which: str) -> Path | None:
    """The checkpoint of a run that is its "best" on validation, where there is one, or its "last"."""
    best = run / "best"
    return best.resolve() if which == "best" and best.exists() else newest(run / "checkpoints")


def mark_best(run: Path, checkpoint: Path) -> None:
    """Make `run/best` point at `checkpoint`; atomic. A folder that somebody copied there is set aside."""
    best = run / "best"
    if best.is_dir() and not best.is_symlink():
        best.rename(run / f"aside-best-{os.getpid()}")
    link = run / f".best.{os.getpid()}.tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(checkpoint.relative_to(run))
    os.replace(link, best)


def prune(folder: Path, keep: int, best: Path | None) -> None:
    """Delete all but the newest `keep` checkpoints and the best one, and what crashes left behind."""
    spared = {best.resolve()} if best is not None and best.exists() else set[Path]()
    for old in saved_in(folder)[:-keep]:
        if old.resolve() not in spared:
            remove(old)


def remove(folder: Path) -> None:
    """Delete a checkpoint; of one that lies elsewhere the link to it alone."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder)


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


def _state(folder: Path) -> dict[str, Any]:
    """The state of a checkpoint. Raises `CheckpointError` where it has another form, or is of another step."""
    state, name = read_object(folder / STATE), _NAME.fullmatch(folder.resolve().name)
    try:
        step = Progress.from_dict(state["progress"]).step
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / STATE} holds no progress of a run ({error}); the checkpoint is damaged, choose another"
        ) from error
    if type(step) is not int or step < 0 or (name is not None and step != int(name[1])):
        raise CheckpointError(
            f"{folder / STATE} is of step {step}; the checkpoint is damaged, choose another: --resume --from STEP"
        )
    if "digest" in state and state != sealed(state):
        raise CheckpointError(
            f"{folder / STATE} is not what was saved; the checkpoint is damaged, choose another: --resume --from STEP"
        )
    return state


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(torch.isfinite(tensor).all().item() for tensor in tensors)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        found = load_file(plain(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); the checkpoint is damaged, choose another") from error
    if not _finite(found.values()):
        raise CheckpointError(f"{path} holds numbers that are not finite; choose another: --resume --from STEP")
    return found
