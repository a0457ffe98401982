"""The model card of an exported run: what it is, how it was measured, and how it is used."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from neuromas.config import RunConfig
from neuromas.network.builtin import QUANTISED
from neuromas.results import Result, reading_lines
from neuromas.run.carry import BaseModel, adapter_names
from neuromas.run.final import FinalRecord

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

FLOORS = ("chance", "majority", "best_constant")

_CARD = """\
---
{data}
---
# {name}

A network of {count} language-model nodes (topology `{topology}`, method `{method}`), trained jointly from one final
reward on `{task}`: {step} updates, seed {seed}. Every node is the same frozen backbone with a LoRA adapter of its own
(rank {rank}), in `best/nodes/`. The base model is {base} (fingerprint `{fingerprint}`).{weights}

## Measured

{results}

## Use

The whole network, where neuromas is installed; from the hub `OWNER/NAME` stands for the folder:

```
neuromas ask {name} "…"{backbone}
neuromas serve {name}{backbone}
```

One node alone is an ordinary PEFT adapter. It was trained on prompts of its place in the network, which hold the
messages of the nodes before it (`neuromas ask --prompts` shows them), so it is at home in those only. From the hub:
`folder = huggingface_hub.snapshot_download("OWNER/NAME")`.

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

folder = "{name}"
adapters = {adapters}
{model}
for node, adapter in adapters.items():
    path = f"{{folder}}/best/nodes/{{node}}"
    if isinstance(model, PeftModel):
        model.load_adapter(path, adapter_name=adapter)
    else:
        model = PeftModel.from_pretrained(model, path, adapter_name=adapter)
model.set_adapter(adapters["{first}"])  # from here on the model writes as this node
```
"""
_MODEL = 'model = AutoModelForCausalLM.from_pretrained({}, dtype="{}")'
_QUANTISED = """

It was trained on the weights of `{file}`, which are quantised, in full precision. {others} other weights: with them a
node computes somewhat other numbers than those measured here."""


def card(
    name: str, config: RunConfig, final: FinalRecord | None, base: BaseModel, step: int, nodes: Sequence[str]
) -> str:
    """The text of an export's README.md. name: of the folder. nodes: its adapters."""
    from huggingface_hub import ModelCardData

    results = [] if final is None else final.results
    data = ModelCardData(
        base_model=base.adapters_name if _on_hub(base.adapters_name) else None,
        library_name="peft",
        tags=["neuromas", "multi-agent", "lora"],
        model_name=name if results else None,
        eval_results=[_entry(row) for row in results if row.checkpoint == "best"] or None,
    )
    topology = [config.topology, *(stage.topology for stage in config.stages or () if stage.topology)][-1]
    return _CARD.format(
        data=data.to_yaml(),
        name=name,
        count=len(nodes),
        first=nodes[0],
        topology=topology,
        method=config.method,
        task=config.task.name,
        seed=config.seed,
        rank=config.adapter.rank,
        step=step,
        base=f"`{base.name}`" + (", a folder that did not come along" if base.local else ""),
        fingerprint=base.fingerprint,
        backbone=" --backbone FOLDER" if base.local else "",
        adapters=adapter_names(nodes),
        model=_loading(base, config.backbone.dtype.replace("auto", "float32")),
        weights=_weights(base),
        results="\n".join(_results(final)),
    )


def _on_hub(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def _weights(base: BaseModel) -> str:
    """A paragraph on the weights that were trained on, where those of the base model's name are others."""
    file = QUANTISED.get(base.name, base.name if base.name.endswith(".gguf") else None)
    if file is None:
        return ""
    other = base.adapters_name != base.name
    return _QUANTISED.format(file=file, others=f"`{base.adapters_name}` has" if other else "The unquantised model has")


def _loading(base: BaseModel, dtype: str) -> str:
    """The lines that load the base model."""
    if base.adapters_name == "tiny":
        return "from neuromas.network.builtin import TINY_FOLDER\n\n" + _MODEL.format("TINY_FOLDER", dtype)
    return _MODEL.format(f'"{base.adapters_name}"', dtype)


def _entry(row: Result) -> "EvalResult":
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type="text-generation",
        dataset_type=row.task,
        dataset_name=f"{row.task}, version {row.task_version}",
        dataset_split=row.split,
        metric_type="accuracy",
        metric_name=f"accuracy ({row.decoding}, messages {row.delivery}, n = {row.n})",
        metric_value=row.accuracy,
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
    for row in final.results:
        lines += [f"\n{row.checkpoint}, {row.decoding}: {line}." for line in reading_lines(row)]
    began = [f"\nHow it began: {final.began}."] if final.began else []
    return lines + began + [f"\nWarning of the run: {text}" for text in final.warnings]
