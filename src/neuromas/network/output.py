"""The output layer of a model, and what the model does to its logits afterwards: nothing, a factor, or a softcap."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuromas.errors import BackboneError
from neuromas.network.cpu import exact_products
from neuromas.network.head import token_logprobs

_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")  # its names in configs
_IDS = [3, 1, 4, 1, 5, 9, 2, 6]


def decoder_of(model: Any) -> nn.Module:
    """The part of a model from its embeddings to its last hidden states; all of it where that cannot be told."""
    decoder: nn.Module = model.get_decoder()
    return decoder if any(part is model.get_input_embeddings() for part in decoder.modules()) else model


@dataclass(frozen=True)
class Output:
    """scale: factor of the logits. softcap: they pass through `softcap * tanh(· / softcap)`. At most one of the two.

    vocabulary: logits of a token; those of the layer beyond it are dropped."""

    layer: nn.Module
    vocabulary: int
    scale: float = 1.0
    softcap: float | None = None
    direct: bool = True  # the layer is given the decoder's last hidden state as it is

    @classmethod
    @torch.no_grad()
    def of(cls, model: Any, name: str) -> "Output":
        """Found by one pass. Raises `BackboneError` for a model that does anything else to its logits."""
        layer = model.get_output_embeddings()
        if layer is None or getattr(layer, "weight", None) is None:
            raise BackboneError(f"backbone {name!r} ({model.config.model_type}) has no output layer")
        seen: dict[str, Any] = {}
        hooks = [
            layer.register_forward_hook(lambda _, given, out: seen.update(given=given[0], out=out)),
            decoder_of(model).register_forward_hook(lambda _, __, out: seen.update(decoder=out)),
        ]
        try:
            with exact_products():
                logits = model(input_ids=torch.tensor([_IDS], device=model.device), use_cache=False).logits
        finally:
            for hook in hooks:
                hook.remove()
        if logits.isnan().any():
            raise BackboneError(
                f"backbone {name!r} ({model.config.model_type}) gives logits that are no numbers; a setting of its "
                "config.json, or the dtype, is not what its weights were made for"
            )
        if "out" not in seen:
            raise BackboneError(f"backbone {name!r} ({model.config.model_type}) does not call its output layer")
        if seen["given"].shape[:2] != (1, len(_IDS)):
            raise BackboneError(
                f"backbone {name!r} ({model.config.model_type}) predicts more than one token at each place"
            )
        states = getattr(seen.get("decoder"), "last_hidden_state", None)
        direct = states is not None and states.shape == seen["given"].shape and torch.equal(states, seen["given"])
        config = model.config.get_text_config(decoder=True)
        cap = next((c for name in _CAPS if (c := getattr(config, name, None)) is not None), None)
        V = logits.shape[-1]
        scale, softcap = _after(seen["out"][..., :V].float(), logits.float(), cap, layer.weight.dtype, name)
        return cls(layer, V, scale, softcap, direct)

    def logits(self, hidden_BE: Tensor) -> Tensor:
        """Next-token logits [B, vocabulary] in the backbone's dtype; with a softcap in float32."""
        logits = self.layer(hidden_BE)[..., : self.vocabulary]
        if self.softcap is not None:
            return torch.tanh(logits.float() / self.softcap) * self.softcap
        return logits if self.scale == 1 else logits * self.scale

    def token_logprobs(
        self, hidden_LE: Tensor, target_L: Tensor, temperature: float, entropy_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of each target token after its hidden state, and the entropy there; see network/head.py."""
        weight: Any = self.layer.weight
        bias: Any = getattr(self.layer, "bias", None)
        return token_logprobs(
            hidden_LE,
            weight[: self.vocabulary],
            None if bias is None else bias[: self.vocabulary],
            target_L,
            temperature=temperature / self.scale,
            softcap=self.softcap,
            entropy_gradient=entropy_gradient,
        )


def _after(out: Tensor, logits: Tensor, cap: float | None, dtype: torch.dtype, name: str) -> tuple[float, float | None]:
    """Factor and softcap that make the output layer's values into the model's logits."""
    if torch.equal(out, logits):
        return 1.0, None
    allowed = 4 * torch.finfo(dtype).eps * logits.norm()
    if cap is not None and (torch.tanh(out / cap) * cap - logits).norm() <= allowed:
        return 1.0, cap
    scale = ((out.double() * logits.double()).sum() / out.double().square().sum()).item()
    if (out * scale - logits).norm() <= allowed:
        return scale, None
    raise BackboneError(f"backbone {name!r} changes its logits after the output layer in a way that is not known here")
