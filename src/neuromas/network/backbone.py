"""The frozen language model that all nodes share, and its tokenizer.

A backbone is named by a built-in name (`tiny`, `smollm2-135m`), a local folder, or a hub id. It is never trained
and never copied: nodes differ only by the adapters that a `Route` adds.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from neuromas.errors import BackboneError, ConfigError
from neuromas.network import packed, quantised
from neuromas.network.adapters import ATTENTION_TARGETS, Route, Router
from neuromas.network.cpu import fast_products, flushed, start_threads, warn_of_wide_products, widen
from neuromas.network.endpoint import Endpoint, is_endpoint
from neuromas.network.loading import (
    context_of,
    declared,
    end_ids,
    locate,
    pick_device,
    pick_dtype,
    quoting,
    read,
    take_memory,
)
from neuromas.network.output import Output, decoder_of
from neuromas.network.plain import State, head_inputs
from neuromas.network.probe import Proof, first_pass, prove, prove_adapters
from neuromas.network.prompt import PromptTemplate
from neuromas.network.rope import Rope
from neuromas.network.targets import install
from neuromas.network.wording import Style


class Backbone:
    """A frozen causal language model; `Backbone.load` makes one from a name."""

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        style: Style | None = None,
        targets: tuple[str, ...] = ATTENTION_TARGETS,
    ) -> None:
        """style: prompt style; by default the chat template where there is one.
        targets: linear layers that get adapters where nobody names any."""
        self.name, self.model, self.tokenizer, self.targets = name, model, tokenizer, targets
        model.requires_grad_(False).eval()
        quantised.prepare(model, name)
        widen(model)
        self.config: Any = model.config.get_text_config(decoder=True)
        self.own_attention: str = model.config._attn_implementation
        self.decoder = decoder_of(model)
        self.output = Output.of(model, name)
        self.context_window = context_of(self.config, tokenizer)
        self.rope = Rope.of(self.config)
        if style is None:
            style = "chat" if getattr(tokenizer, "chat_template", None) else "plain"
        self.template = PromptTemplate(tokenizer, style, self.context_window)
        self.end_ids = end_ids(model, tokenizer)
        self._router = Router()
        self._proven: set[str] = set()  # layers whose adapters have been tried
        self.proof = Proof()
        self._take(prove(self))

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
        if is_endpoint(name):
            raise BackboneError(
                f"backbone {name!r} is an endpoint, which can neither be trained nor score text or tell "
                "log-probabilities; use it for baselines and for `untrained`, or name a folder or a hub id"
            )
        where = pick_device(device)
        if where.type == "cpu":
            fast_products()
            start_threads()
        kind = pick_dtype(dtype, where)
        if where.type == "cpu":
            warn_of_wide_products(kind)
        source = locate(name)
        with quoting(name, source):
            model, tokenizer = read(name, source, kind, where, trust_remote_code)
            take_memory(model)
            said = declared(source)
            return cls(name, model, tokenizer, style or said.style, said.targets or ATTENTION_TARGETS)

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def packs(self, tokens: int) -> bool:
        """True where rows of up to `tokens` tokens take the fast path."""
        return self.proof.path == "packed" and self.rope.fits(tokens)

    def fingerprint(self) -> str:
        """Short hash of the architecture and of the weights; checkpoints refuse another backbone by it."""
        digest = hashlib.blake2b(digest_size=8)
        sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads")
        shape = [
            self.model.config.model_type,
            *(getattr(self.config, size, None) for size in sizes),
            self.output.vocabulary,
        ]
        shape += filter(None, [getattr(self.model.config, "tokenizer_splits", None)])  # of a converted GGUF file
        digest.update(json.dumps(shape).encode())
        for key, value in sorted(self.model.state_dict().items()):
            digest.update(key.replace(".base.", ".").encode())
            for part in _parts(value):
                flat = part.flatten()
                sample = flat[:: max(1, flat.numel() // 512)].float().to(torch.bfloat16).float().cpu()
                digest.update(sample.numpy().tobytes())
        return digest.hexdigest()

    def adapter_shapes(self, targets: Sequence[str] | None = None) -> dict[str, tuple[int, int]]:
        """Target module key -> (out_features, in_features); prepares those modules for routing. See `install`.

        targets: by default those of the backbone.
        Where packed passes cannot route such adapters, the backbone takes the plain path from here on.
        """
        run = lambda: first_pass(self)
        named = self.targets if targets is None else targets
        shapes = install(self.model, self.decoder, self.output.layer, named, self._router, run)
        if shapes.keys() - self._proven:
            self._take(prove_adapters(self, shapes))
        self._proven |= shapes.keys()
        return shapes

    def checkpoint_gradients(self, on: bool) -> None:
        """Keep only each layer's input for the backward pass and compute the rest again: less memory, a third slower.

        A layer computed again must go through the adapters of its own pass, so their route is remembered with it. The
        flag that transformers has for this would switch on training, and with it the dropout of some layers.
        """
        again = lambda: (nullcontext(), self._as(self._router.active, self.model.config._attn_implementation))
        layers: list[Any] = [m for m in self.model.modules() if isinstance(m, GradientCheckpointingLayer)]
        if on and not layers:
            raise BackboneError(f"backbone {self.name!r} has no layers that can be checkpointed; switch it off")
        for layer in layers:
            layer.__dict__.pop("forward", None)
            if on:
                layer.forward = partial(_checkpointed, layer.forward, again)

    @contextmanager
    def _routed(self, route: Route | None) -> Iterator[None]:
        self._router.active = route
        try:
            yield
        finally:
            self._router.active = None

    @contextmanager
    def attending(self, attention: str) -> Iterator[None]:
        """With another attention function than the one in use."""
        before = self.model.config._attn_implementation
        if attention != before:
            self.model.set_attn_implementation(attention)
        try:
            yield
        finally:
            if attention != before:
                self.model.set_attn_implementation(before)

    @contextmanager
    def _as(self, route: Route | None, attention: str) -> Iterator[None]:
        with self._routed(route), self.attending(attention):
            yield

    def _take(self, proof: Proof) -> None:
        self.proof = proof
        self.model.set_attn_implementation(packed.NAME if proof.path == "packed" else self.own_attention)

    def hidden(self, ids_M: Tensor, position_M: Tensor, batch: packed.PackedPass, route: Route | None) -> Tensor:
        """Last hidden state [M, width] of a packed stream of tokens. route=None: the bare backbone."""
        with self._routed(route), flushed():
            out = self.decoder(input_ids=ids_M[None], position_ids=position_M[None], use_cache=False, packed=batch)
        return out.last_hidden_state[0]

    def plain_states(self, ids_BT: Tensor, state: State | None, route: Route | None) -> tuple[Tensor, State | None]:
        """The output layer's inputs [B, T, width] in a pass of the model's own, and the state to go on from."""
        self.rope.reset(self.model)
        with self._as(route, self.own_attention), flushed():
            return head_inputs(self.model, self.output.layer, ids_BT, state)

    def logits(self, hidden_BE: Tensor) -> Tensor:
        """Next-token logits [B, vocabulary]; see `Output`."""
        return self.output.logits(hidden_BE)

    def token_logprobs(
        self, hidden_LE: Tensor, target_L: Tensor, temperature: float, entropy_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of each target token after its hidden state, and the entropy there; see network/head.py."""
        return self.output.token_logprobs(hidden_LE, target_L, temperature, entropy_gradient)


def _parts(weight: Tensor) -> list[Tensor]:
    """A weight, or the plain tensors that a quantised one is made of."""
    if not hasattr(weight, "__tensor_flatten__"):
        return [weight]
    names, _ = cast("Any", weight).__tensor_flatten__()
    return [part for name in names for part in _parts(getattr(weight, name))]


def _checkpointed(forward: Callable[..., Any], again: Callable[[], Any], *args: Any, **keywords: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **keywords)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=again, **keywords)


Frozen = Backbone | Endpoint  # what baselines run on


def load_frozen(name: str, *, device: str = "auto", dtype: str = "auto", style: Style | None = None) -> Frozen:
    """A backbone, or the endpoint that `name` means, which has no device, dtype or style."""
    if not is_endpoint(name):
        return Backbone.load(name, device=device, dtype=dtype, style=style)
    if (device, dtype, style) != ("auto", "auto", None):
        raise ConfigError(f"backbone {name!r} is an endpoint and has no device, dtype or style; leave them out")
    return Endpoint.load(name)
