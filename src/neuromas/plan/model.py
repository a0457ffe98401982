"""The sizes of a backbone, read from its config alone: no weights are loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from neuromas.errors import BackboneError, ConfigError, NeuromasError
from neuromas.network.adapters import ATTENTION_TARGETS
from neuromas.network.loading import declared, locate
from neuromas.network.output import decoder_of


@dataclass(frozen=True)
class ModelSizes:
    """A frozen decoder as the planner sees it. Widths count values."""

    name: str
    layers: int
    width: int  # The residual stream's.
    heads: int  # Query heads.
    queries: int  # All query heads together.
    keys: int  # All key heads together; all value heads are as wide.
    inner: int  # Between up and down projection.
    vocabulary: int
    normed: int  # Values a token that the norms of one layer read, added up.
    linear: Mapping[str, tuple[int, int]]  # Linear layers of one decoder layer: name -> (out, in).
    parameters: int  # Tied ones count once.
    stored: str = "float32"  # The dtype of the weights' file.
    targets: tuple[str, ...] = ATTENTION_TARGETS  # Layers that get adapters where no recipe names any.

    @property
    def layer_weights(self) -> int:
        """Weights of one decoder layer's products."""
        return sum(out * inp for out, inp in self.linear.values())

    @property
    def head_weights(self) -> int:
        return self.vocabulary * self.width

    def adapter_parameters(self, targets: tuple[str, ...], rank: int) -> int:
        """Trainable parameters of one node. Raises `ConfigError` for a target that no layer has."""
        missing = sorted(set(targets) - set(self.linear))
        if missing:
            raise ConfigError(
                f"adapter targets {missing} match no linear layer of {self.name}; it has {[*self.linear]}"
            )
        return self.layers * rank * sum(sum(self.linear[target]) for target in targets)


def model_of(name: str) -> ModelSizes:
    """The sizes of a built-in backbone, of a folder with at least a config.json, or of a model in the hub's cache.

    Raises `BackboneError` where there is no config, or one of an architecture that cannot be trained here.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        source = locate(name)
        whole: Any = AutoConfig.from_pretrained(source)
        with torch.device("meta"):
            built: Any = AutoModelForCausalLM.from_config(whole)
    except NeuromasError:
        raise
    except Exception as error:  # whatever a library makes of a config
        said = " ".join(str(error).split())
        raise BackboneError(
            f"the config of backbone {name!r} could not be read ({type(error).__name__}: {said}); "
            "name a folder that holds its config.json (a few kilobytes, no weights are needed) with --backbone"
        ) from error
    config = whole.get_text_config(decoder=True)
    layers = list(getattr(decoder_of(built), "layers", []))
    kinds = [_linear(layer) for layer in layers] or [{}]
    linear = kinds[0]
    if why := _unknown(config, layers, kinds):
        raise BackboneError(
            f"backbone {name!r} ({whole.model_type}) {why}, so it cannot be planned; name a dense model whose layers "
            "are all alike, such as Llama, Qwen2, Qwen3 or Gemma-3, with --backbone"
        )
    heads = config.num_attention_heads
    each = {"q_norm": heads, "k_norm": getattr(config, "num_key_value_heads", heads)}  # These norm every head.
    norms = {key.rsplit(".", 1)[-1]: m for key, m in layers[0].named_modules() if type(m).__name__.endswith("Norm")}
    size = lambda key, norm: _values(norm) or (linear["q_proj"][0] // heads if key in each else config.hidden_size)
    return ModelSizes(
        name=name,
        layers=len(layers),
        width=config.hidden_size,
        heads=heads,
        queries=linear["q_proj"][0],
        keys=linear["k_proj"][0],
        inner=linear["down_proj"][1],
        vocabulary=built.get_output_embeddings().weight.shape[0],
        normed=sum(size(key, module) * each.get(key, 1) for key, module in norms.items()),
        linear=linear,
        parameters=sum(p.numel() for p in built.parameters()),
        targets=declared(source).targets or ATTENTION_TARGETS,
        stored=str(whole.dtype or config.dtype or "float32").removeprefix("torch."),
    )


def _linear(layer: torch.nn.Module) -> dict[str, tuple[int, int]]:
    return {
        key.rsplit(".", 1)[-1]: (module.out_features, module.in_features)
        for key, module in layer.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


def _values(module: torch.nn.Module) -> int:
    """The number of a module's weights."""
    return sum(p.numel() for p in module.parameters(recurse=False))


def _unknown(config: Any, layers: list[torch.nn.Module], kinds: list[dict[str, tuple[int, int]]]) -> str:
    """The reason why the sums of packed passes do not hold for a model; empty where they do."""
    if missing := [key for key in ("q_proj", "k_proj", "down_proj") if key not in kinds[0]]:
        return f"has no layers {missing}"
    if any(kind != kinds[0] for kind in kinds):
        return "has layers of several kinds or sizes"
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "caps its attention logits and takes the plain path"
    counted = sum(_values(m) for m in layers[0].modules() if isinstance(m, torch.nn.Linear))
    if counted < 0.95 * sum(p.numel() for p in layers[0].parameters()):
        return "has weights outside of linear layers, such as experts,"
    return ""
