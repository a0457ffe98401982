"""A trained run as a folder to share: adapters as PEFT writes them, what is needed to run them, and a model card.

The folder is itself a run that `neuromas ask`, `eval`, `serve` and `inspect` take, on any machine and from the hub;
rows of a user's own, the optimiser, logs and other checkpoints stay behind.
"""

import re
import shutil
from pathlib import Path

from neuromas.errors import CheckpointError
from neuromas.files import read_object, read_record, whole_folder, write_json, write_text
from neuromas.run import checkpoint
from neuromas.run.build import task_of
from neuromas.run.card import card
from neuromas.run.carry import (
    BASE_FILE,
    WORDING_FILE,
    BaseModel,
    base_model,
    carried_task,
    carry_task,
    without_places,
    wording,
)
from neuromas.run.digests import digests_of, sealed
from neuromas.run.final import FinalRecord
from neuromas.run.folder import saved_config
from neuromas.tasks.base import Task

CARD = "README.md"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def export(
    run: Path, out: Path, which: str = "best", base_model_name: str | None = None, task: Task | None = None
) -> BaseModel:
    """Write `out` from a run folder; atomic. Returns the base model as others will look for it.

    which: "best" on validation or "last". base_model_name: what the adapters' settings name, a hub id or a folder; by
    default the backbone's own name. task: where it was given in Python; None: that of the run.
    Raises CheckpointError where there is no such checkpoint, or where `out` exists.
    """
    source = run / "best" if which == "best" else checkpoint.newest(run / "checkpoints")
    if source is None or not source.is_dir() or not (run / "config.json").is_file():
        raise CheckpointError(
            f"{run} holds no run with a {which} checkpoint; name a folder that `neuromas train` wrote"
        )
    if out.exists():
        raise CheckpointError(f"{out} exists; choose another --out, or remove it")
    config = saved_config(run)
    task = task or carried_task(run, config) or task_of(config)
    state = checkpoint.whole_state(source.resolve())
    base = base_model(config, state["backbone_fingerprint"], base_model_name)
    public = lambda data: without_places(data, config, base)
    with whole_folder(out, ".exporting-") as work:
        shutil.copytree(source, work / "best", ignore=shutil.ignore_patterns("optimizer.safetensors"))
        for file in (work / "best" / "nodes").glob("*/adapter_config.json"):
            write_json(file, read_object(file) | {"base_model_name_or_path": base.adapters_name})
        state = public(state | {"files": digests_of(work / "best")})
        write_json(work / "best" / checkpoint.STATE, sealed(state))
        for name in ("config.json", "final.json"):
            if (run / name).is_file():
                write_json(work / name, public(read_object(run / name)))
        write_json(work / WORDING_FILE, wording(task, config).to_dict())
        write_json(work / BASE_FILE, base.to_dict())
        carry_task(task, work)
        final = read_record(work / "final.json", FinalRecord.from_dict) if (work / "final.json").is_file() else None
        nodes = sorted(path.name for path in (work / "best" / "nodes").iterdir())
        text = card(out.name, saved_config(work), final, base, checkpoint.step_of(work / "best"), nodes)
        write_text(work / CARD, text)
    return base


def contents(folder: Path) -> list[tuple[str, int]]:
    """Every file of an export with its size in bytes, in the order of their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path.relative_to(folder)), path.stat().st_size) for path in files]


def push(folder: Path, repository: str, private: bool) -> str:
    """Upload an export to the Hugging Face hub ("owner/name", made if need be); returns its address.

    Raises CheckpointError with what the hub said.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise CheckpointError(
            f"{repository} could not be written ({str(error).splitlines()[0]}); log in with `hf auth login` and check "
            f"the name; the export is whole in {folder}"
        ) from error
    return str(address)


def found(name: str | Path) -> Path | None:
    """The folder that a name means: one that is here, else an export on the hub ("owner/name"), which is downloaded.

    None where it can be neither. Raises CheckpointError with what the hub said.
    """
    if Path(name).is_dir():
        return Path(name)
    if not _HUB_NAME.fullmatch(str(name)):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(str(name)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"{name} is no folder here and could not be had from the hub ({said[0]}); check the name, the network, and "
            "`hf auth login` for private ones"
        ) from error
