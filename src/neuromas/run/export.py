"""A trained run as a folder to share: adapters as PEFT writes them, what is needed to run them, and a model card.

The folder is itself a run that `neuromas ask`, `eval` and `serve` take; optimiser, logs and other checkpoints stay
behind.
"""

import json
import shutil
from pathlib import Path

from neuromas.config import RunConfig
from neuromas.errors import CheckpointError
from neuromas.files import read_json, whole_folder, write_json, write_text
from neuromas.run import checkpoint
from neuromas.run.final import FinalRecord
from neuromas.run.folder import saved_config

CARD = "README.md"
FLOORS = ("chance", "majority", "best_constant")
HUB = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}  # built-in backbones that the hub has too


def export(run: Path, out: Path, which: str = "best", base_model: str | None = None) -> Path:
    """Write `out` from a run folder; atomic. which: "best" on validation or "last".

    base_model: what the adapters' configuration names, a hub id or a folder; by default the backbone's own name.
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
    base = base_model or HUB.get(config.backbone.name, config.backbone.name)
    with whole_folder(out, ".exporting-") as work:
        shutil.copytree(source, work / "best", ignore=shutil.ignore_patterns("optimizer.safetensors"))
        for file in (work / "best" / "nodes").glob("*/adapter_config.json"):
            settings = read_json(file)
            write_json(file, settings | {"base_model_name_or_path": base})
        state = read_json(work / "best" / checkpoint.STATE)
        write_json(work / "best" / checkpoint.STATE, state | {"files": checkpoint.digests(work / "best")})
        final = None
        if (run / "final.json").is_file():
            final = FinalRecord.from_dict(read_json(run / "final.json"))
        for name in ("config.json", "final.json"):
            if (run / name).is_file():
                shutil.copyfile(run / name, work / name)
        write_text(work / CARD, card(out.name, config, final, base, checkpoint.step_of(work / "best"), work))
    return out


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
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise CheckpointError(
            f"{repository} could not be written ({str(error).splitlines()[0]}); log in with `hf auth login` and check "
            f"the name; the export is whole in {folder}"
        ) from error
    return f"https://huggingface.co/{repository}"


# -- the card ---------------------------------------------------------------------------------------------

_CARD = """\
---
base_model: {base}
library_name: peft
tags:
- neuromas
- multi-agent
- lora
---
# {name}

A network of {count} language-model nodes (topology `{topology}`, method `{method}`), trained jointly from one final
reward on `{task}`: {step} updates, seed {seed}. Every node is the same frozen backbone with a LoRA adapter of its own
(rank {rank}), in `best/nodes/`.

## Measured

{results}

## Use

The whole network, where neuromas is installed:

```
neuromas ask {name} "…"
neuromas serve {name}
```

One node alone is an ordinary PEFT adapter. It was trained on prompts of its place in the network, which hold the
messages of the nodes before it (`neuromas ask --prompts` shows them), so it is at home in those only.

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained({base})
model = PeftModel.from_pretrained(model, "{name}/best/nodes/{first}")
```
"""


def card(name: str, config: RunConfig, final: FinalRecord | None, base_model: str, step: int, folder: Path) -> str:
    """The model card: what it is, how it was measured, how it is used."""
    nodes = sorted(path.name for path in (folder / "best" / "nodes").iterdir())
    topology = [config.topology, *(stage.topology for stage in config.stages or () if stage.topology)][-1]
    return _CARD.format(
        name=name,
        base=json.dumps(base_model),
        count=len(nodes),
        first=nodes[0],
        topology=topology if isinstance(topology, str) else json.dumps(topology),
        method=config.method,
        task=config.task.name,
        seed=config.seed,
        rank=config.adapter.rank,
        step=step,
        results="\n".join(_results(final)),
    )


def _results(final: FinalRecord | None) -> list[str]:
    """The test figures of the run as a table, with what they are read against."""
    if final is None or not final.results:
        return ["Not measured yet: `neuromas train` writes the test figures when a run ends."]
    first = final.results[0]
    lines = [
        f"Task `{first.task}` (version {first.task_version}), test split, n = {first.n}.",
        "Floors: " + ", ".join(f"{key.replace('_', ' ')} {getattr(first.floors, key):.1%}" for key in FLOORS) + ".",
        "*blanked*: the same network with every message delivered empty.",
        "",
        "| which | decoding | messages | accuracy | 95 % | parsed | calls | tokens | trainable |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in final.results:
        low, high = row.ci95
        cells = [row.checkpoint or "", row.decoding, row.delivery or "", f"{row.accuracy:.1%}"]
        cells += [f"{low:.1%} to {high:.1%}", f"{row.parse_rate:.1%}", f"{row.calls:g}"]
        cells += [f"{row.generated_tokens:.1f}", f"{row.trainable_parameters:,}"]
        lines.append(f"| {' | '.join(cells)} |")
    began = [f"\nHow it began: {final.began}."] if final.began else []
    return lines + began + [f"\nWarning of the run: {text}" for text in final.warnings]
