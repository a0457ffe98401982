"""The shape of a backbone, read from its config alone: no weights are loaded."""

from dataclasses import dataclass
from typing import Any

import torch

from neuromas.errors import BackboneError, ConfigError
from neuromas.network.backbone import locate


@dataclass(frozen=True)
class Model:
    """A frozen decoder as the planner sees it. Widths in numbers of values."""

    name: str
    layers: int
    width: int  # of the residual stream
    heads: int  # query heads
    kv_heads: int
    head_size: int
    inner: int  # width between up and down projection
    vocabulary: int
    normed: int  # values a token that one layer's norms read, summed over its norms
    linear: dict[str, tuple[int, int]]  # linear layers of one decoder layer: name -> (out, in)
    parameters: int  # tied ones counted once
    stored: str = "float32"  # dtype of the weights' file

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


def model_of(name: str) -> Model:
    """The shape of a built-in backbone, of a folder with at least a config.json, or of a model in the hub's cache."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config: Any = AutoConfig.from_pretrained(locate(name))
        with torch.device("meta"):
            built: Any = AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError) as error:
        raise BackboneError(
            f"the config of backbone {name!r} could not be read ({str(error).strip().splitlines()[0]}); name a folder "
            "that holds its config.json (a few kilobytes, no weights are needed) with --backbone"
        ) from error
    layer = built.get_decoder().layers[0]
    linear = {
        key.rsplit(".", 1)[-1]: (module.out_features, module.in_features)
        for key, module in layer.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    heads, kv_heads = config.num_attention_heads, getattr(config, "num_key_value_heads", config.num_attention_heads)
    each = {"q_norm": heads, "k_norm": kv_heads}  # norms of every head
    norms = {key.rsplit(".", 1)[-1]: m for key, m in layer.named_modules() if type(m).__name__.endswith("Norm")}
    return Model(
        name=name,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=heads,
        kv_heads=kv_heads,
        head_size=linear["k_proj"][0] // kv_heads,
        inner=config.intermediate_size,
        vocabulary=built.get_output_embeddings().weight.shape[0],
        normed=sum(module.weight.numel() * each.get(key, 1) for key, module in norms.items()),
        linear=linear,
        parameters=sum(p.numel() for p in built.parameters()),
        stored=str(config.dtype or "float32").removeprefix("torch."),
    )
