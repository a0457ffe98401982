"""The frozen language model that all nodes share, and its tokenizer.

A backbone is named by a built-in name (`tiny`, `smollm2-135m`), a local folder, or a hub id. It is never trained
and never copied: nodes differ only by the adapters that a `Route` adds.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from neuromas.errors import BackboneError, ConfigError
from neuromas.network import packed
from neuromas.network.adapters import ATTENTION_TARGETS, Route, Router, install
from neuromas.network.builtin import BUILT_IN, TINY_FOLDER, smollm2_folder
from neuromas.network.cpu import exact_products, fast_products, flushed, start_threads
from neuromas.network.endpoint import Endpoint, is_endpoint
from neuromas.network.head import token_logprobs
from neuromas.network.prompt import PromptTemplate
from neuromas.network.wording import Style

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


# A prefix and two rows that continue it. Ordinary words: on meaningless ids, rounding to bfloat16 can grow to any size.
_PROBE = "What is 3 + 4? The answer is", (" 7, since", " not 8")


class Backbone:
    """A frozen causal language model; `Backbone.load` makes one from a name."""

    def __init__(self, name: str, model: Any, tokenizer: Any, style: Style | None = None) -> None:
        config = model.config
        if getattr(config, "attn_logit_softcapping", None) is not None:
            raise BackboneError(f"backbone {name!r} caps its attention logits, which shared prefixes do not support")
        self.name, self.model, self.tokenizer = name, model, tokenizer
        model.requires_grad_(False).eval()
        prefix, *rows = (tokenizer.encode(text, add_special_tokens=False) for text in (_PROBE[0], *_PROBE[1]))
        with exact_products():
            expected = _plain_logits(model, prefix, rows)
        model.set_attn_implementation(packed.NAME)
        self.decoder: nn.Module = model.get_decoder()
        self.head: nn.Module = model.get_output_embeddings()
        self.final_softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self.context_window: int = config.max_position_embeddings
        self.vocabulary: int = self.head.weight.shape[0]  # type: ignore[union-attr]
        if style is None:
            style = "chat" if getattr(tokenizer, "chat_template", None) else "plain"
        self.template = PromptTemplate(tokenizer, style, self.context_window)
        self.end_ids = _end_ids(model, tokenizer)
        self._router = Router()
        with exact_products():
            self._check_against(expected, packed.Group(0, prefix, rows))

    @classmethod
    def load(
        cls,
        name: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        style: Style | None = None,
        trust_remote_code: bool = False,
    ) -> "Backbone":
        """Load a backbone.

        name: built-in name, folder, or hub id. device: "auto" takes CUDA where there is one, else the CPU.
        dtype: "auto" is bfloat16 on CUDA and float32 elsewhere.
        style: prompt style; by default the chat template where there is one.
        Raises `BackboneError` when it cannot be found or read.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        if is_endpoint(name):
            raise BackboneError(
                f"backbone {name!r} is an endpoint, which can neither be trained nor score text or tell "
                "log-probabilities; use it for baselines and for `untrained`, or name a folder or a hub id"
            )
        where = pick_device(device)
        if where.type == "cpu":
            fast_products()
            start_threads()
        kind = _pick_dtype(dtype, where)
        source = locate(name)
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
            model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=kind, trust_remote_code=trust_remote_code)
        except (OSError, ValueError) as error:
            raise BackboneError(
                f"backbone {name!r} could not be loaded ({str(error).strip().splitlines()[0]}); give one of "
                f"{', '.join(BUILT_IN)}, a folder with a Hugging Face model, or a hub id that this machine can reach"
            ) from error
        finally:
            if bars:
                logging.enable_progress_bar()
        return cls(name, model.to(where), tokenizer, style or declared_style(source))

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def _check_against(self, expected_BV: Tensor, probe: packed.Group) -> None:
        """Refuse a model whose packed pass differs from its ordinary one: it does more than this library knows of."""
        batch = packed.PackedPass([probe], room=0, device=self.device)
        with torch.no_grad():
            got_BV = self.logits(self.hidden(batch.ids_M, batch.position_M, batch, None)[batch.last_at_B])
        off = (got_BV.float() - expected_BV).norm() / (expected_BV - expected_BV.mean(-1, keepdim=True)).norm().clamp(
            min=1e-6
        )
        if not off <= (1e-3 if self.dtype == torch.float32 else 0.1):
            raise BackboneError(
                f"backbone {self.name!r} ({self.model.config.model_type}) computes something that packed passes leave "
                f"out: its logits differ by {off:.1%}; use a Llama, Qwen2, Qwen3 or Gemma-3 model"
            )

    def fingerprint(self) -> str:
        """Short hash of the architecture and of the weights; checkpoints refuse another backbone by it."""
        digest = hashlib.blake2b(digest_size=8)
        config = self.model.config
        shape = [config.model_type, config.hidden_size, config.num_hidden_layers, config.num_attention_heads]
        digest.update(json.dumps([*shape, self.vocabulary]).encode())
        for key, value in sorted(self.model.state_dict().items()):
            flat = value.flatten()
            sample = flat[:: max(1, flat.numel() // 512)].float().to(torch.bfloat16).float().cpu()
            digest.update(key.replace(".base.", ".").encode() + sample.numpy().tobytes())
        return digest.hexdigest()

    def adapter_shapes(self, targets: Sequence[str] = ATTENTION_TARGETS) -> dict[str, tuple[int, int]]:
        """Target module key -> (out_features, in_features); prepares those modules for routing."""
        return install(self.model, targets, self._router)

    def checkpoint_gradients(self, on: bool) -> None:
        """Keep only each layer's input for the backward pass and compute the rest again: less memory, a third slower.

        A layer computed again must go through the adapters of its own pass, so their route is remembered with it.
        """
        again = lambda: (nullcontext(), self._routed(self._router.active))
        run = partial(checkpoint, use_reentrant=False, context_fn=again)
        layers: list[Any] = [m for m in self.model.modules() if isinstance(m, GradientCheckpointingLayer)]
        if on and not layers:
            raise BackboneError(f"backbone {self.name!r} has no layers that can be checkpointed; switch it off")
        for layer in layers:
            layer.gradient_checkpointing, layer._gradient_checkpointing_func = on, run
            layer.training = on  # the layer's own flag, which transformers asks for; dropout below it stays off

    @contextmanager
    def _routed(self, route: Route | None) -> Iterator[None]:
        self._router.active = route
        try:
            yield
        finally:
            self._router.active = None

    def hidden(self, ids_M: Tensor, position_M: Tensor, batch: packed.PackedPass, route: Route | None) -> Tensor:
        """Last hidden state [M, width] of a packed stream of tokens. route=None: the bare backbone."""
        with self._routed(route), flushed():
            out = self.decoder(input_ids=ids_M[None], position_ids=position_M[None], use_cache=False, packed=batch)
        return out.last_hidden_state[0]

    def logits(self, hidden_BE: Tensor) -> Tensor:
        """Next-token logits [B, vocabulary] in the backbone's dtype; with a softcap in float32."""
        logits = self.head(hidden_BE)
        if self.final_softcap is None:
            return logits
        return torch.tanh(logits.float() / self.final_softcap) * self.final_softcap

    def token_logprobs(
        self, hidden_LE: Tensor, target_L: Tensor, temperature: float, entropy_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of each target token after its hidden state, and the entropy there; see network/head.py."""
        weight, bias = self.head.weight, getattr(self.head, "bias", None)
        return token_logprobs(
            hidden_LE,
            weight,  # pyright: ignore[reportArgumentType]
            bias,
            target_L,
            temperature=temperature,
            softcap=self.final_softcap,
            entropy_gradient=entropy_gradient,
        )


Frozen = Backbone | Endpoint  # what baselines run on


def load_frozen(name: str, *, device: str = "auto", dtype: str = "auto", style: Style | None = None) -> Frozen:
    """A backbone, or the endpoint that `name` means, which has no device, dtype or style."""
    if not is_endpoint(name):
        return Backbone.load(name, device=device, dtype=dtype, style=style)
    if (device, dtype, style) != ("auto", "auto", None):
        raise ConfigError(f"backbone {name!r} is an endpoint and has no device, dtype or style; leave them out")
    return Endpoint.load(name)


@torch.no_grad()
def _plain_logits(model: Any, prefix: list[int], rows: list[list[int]]) -> Tensor:
    """Logits after each row of the probe, by the model's own forward pass [2, vocabulary]."""
    out = [model(torch.tensor([prefix + row], device=model.device)).logits[0, -1].float() for row in rows]
    return torch.stack(out)


def pick_device(device: str) -> torch.device:
    """The device named, or the best there is for "auto"."""
    if device != "auto":
        try:
            return torch.device(device)
        except RuntimeError as error:
            raise ConfigError(f"device {device!r} is unknown; use auto, cpu, cuda or cuda:1") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")


def _pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is unknown; use auto or one of {', '.join(DTYPES)}")
    return DTYPES[dtype]


def locate(name: str) -> str:
    """The folder, or the hub id, that a backbone's name stands for."""
    if name == "tiny":
        return str(TINY_FOLDER)
    if name == "smollm2-135m":
        return str(smollm2_folder())
    if Path(name).is_dir():
        return name
    if name.startswith((".", os.sep)) or name.endswith(".gguf"):
        raise BackboneError(f"backbone {name!r} is not a folder with a Hugging Face model; check the path")
    return name


def declared_style(source: str) -> Style | None:
    """A folder may say which prompt style its model was trained on."""
    file = Path(source) / "neuromas.json"
    return json.loads(file.read_text())["prompt_style"] if file.is_file() else None


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a completion: the tokenizer's and those of the model's generation config."""
    ends: set[int] = set()
    for source in (tokenizer.eos_token_id, getattr(model.generation_config, "eos_token_id", None)):
        ends |= set(source) if isinstance(source, list) else set() if source is None else {source}
    if not ends:
        raise BackboneError("the backbone names no end-of-sequence token, so no message could ever end")
    return frozenset(ends)
