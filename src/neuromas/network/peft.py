"""The folder of a LoRA as PEFT writes it, and its settings: what a node can compute, and what it has to refuse."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from neuromas.errors import CheckpointError
from neuromas.files import write_json

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."  # of every tensor's name
# Fields that say where an adapter is, where it comes from, or how it was trained: what it computes follows from its
# tensors, its rank and its alpha.
_MAY_DIFFER = {
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "r", "lora_alpha", "use_rslora", "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform",
    "layers_pattern", "target_parameters", "runtime_config", "eva_config", "loftq_config", "corda_config",
    "lora_ga_config", "megatron_core", "qalora_group_size", "ensure_weight_tying",
}  # fmt: skip
_PLAIN: dict[str, tuple[object, ...]] = {  # other fields that ask for nothing by another value than null, false or {}
    "bias": ("none",),
    "init_lora_weights": (True, "gaussian", "orthogonal", "eva"),  # others change the backbone too
}


def scale(config: Mapping[str, Any], where: str) -> float:
    """The factor of B A x in a plain LoRA: alpha / r, or alpha / sqrt(r) with `use_rslora`.

    where: the adapter, for messages. Raises `CheckpointError` that names the field where it is anything else.
    """
    if (kind := config.get("peft_type")) != "LORA":
        raise CheckpointError(f"{where} is a {kind}; only a LoRA can be a node's adapter")
    for field, value in config.items():
        empty = value is None or value is False or value in ([], {}, "")
        if field not in _MAY_DIFFER and not empty and value not in _PLAIN.get(field, ()):
            raise CheckpointError(
                f"{where} has {field} = {value!r}, which a node cannot compute; train a plain LoRA (rsLoRA is "
                "understood too), or merge it into the backbone"
            )
    r, alpha = config.get("r"), config.get("lora_alpha")
    if type(r) is not int or r < 1 or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise CheckpointError(f"{where} has r = {r!r} and lora_alpha = {alpha!r}; both must be numbers, r 1 or more")
    return float(alpha) / (math.sqrt(r) if config.get("use_rslora") else r)


def write(folder: Path, state: Mapping[str, Tensor], config: Mapping[str, object]) -> None:
    """Make the folder of an adapter."""
    folder.mkdir(parents=True)
    save_file(dict(state), folder / WEIGHTS, metadata={"format": "pt"})
    write_json(folder / CONFIG, config)
