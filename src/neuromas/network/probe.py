"""Finds the path that a model takes, when it is loaded, by comparing both with the model's own forward pass.

The fast path is taken where `structure.py` finds nothing that packed passes leave out, and where a first pass, passes
of one token and a whole replay give the logits of the plain model, as far as its own rounding lets one tell.

Legend: B row, K token at the end of a row, V vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from neuromas.errors import BackboneError, ConfigError
from neuromas.network import packed, structure
from neuromas.network.adapters import AdapterBank
from neuromas.network.cpu import exact_products
from neuromas.network.packed import Group
from neuromas.network.passes import ModelPass, SharedPrefixPass, begin
from neuromas.network.plain import PlainPass

if TYPE_CHECKING:
    from neuromas.network.backbone import Backbone

# Prefixes, rows that continue them, and how all go on: in ordinary words, since rounding can grow on meaningless ids.
_PROBE = (("What is 3 + 4? The answer is", (" 7, since", "")), ("Say five", (" words, or",)))
_MORE = " it is so"
_STEPS = 2  # tokens of `_MORE` that are read one by one
# Windows, and up to which value the first prefix is longer than that; the mask is looked at for all lengths.
_WINDOWS = {"sliding_window": 256, "attention_chunk_size": 256, "window_size": 256, "attention_window_size": 256}
_TIMES = 32.0  # a path may differ from the model by so many times what rounding its embeddings differently does …
_LEAST, _MOST = 3e-4, 1e-3  # … within these bounds, in float32 …
_LEAST_16, _MOST_16 = 0.02, 0.1  # … and in 16 bits


@dataclass(frozen=True)
class Proof:
    """The findings about a model's paths. Differences are relative norms of logits, to the plain model's."""

    path: Literal["packed", "plain"] = "plain"
    why: str = ""  # it is not the packed path
    caches: bool = False  # plain path: the model's cache may be continued by one token …
    shares: bool = False  # … and copied after a prefix, and continued by several
    abreast: bool = True  # … and rows of equal length run side by side
    rounding: float = 0.0  # what rounding the embeddings differently does to the plain model's
    first: float = 0.0
    decode: float = 0.0
    replay: float = 0.0
    bound: float = 0.0

    @property
    def largest(self) -> float:
        return max(self.first, self.decode, self.replay)

    @property
    def line(self) -> str:
        """The path in a line, with the reason."""
        if self.path == "packed":
            return "fast path: packed passes that read shared prefixes once"
        how = "its cache, prefixes read once" if self.shares else "its cache" if self.caches else "no cache"
        how += "" if self.abreast else ", row by row"
        return f"plain path: the model's own passes with {how}, because {self.why}"


def prove(backbone: "Backbone", why: str = "") -> Proof:
    """The path that `backbone` takes; the plain one where there is a reason `why` already.

    Raises `BackboneError` where not even that one gives the model's logits.
    """
    model = backbone.model
    groups, more = _groups(backbone)
    rows = [group.prefix_ids + own + more for group in groups for own in group.own_ids]
    with torch.no_grad(), exact_products(), _silent(), backbone.attending(backbone.own_attention):
        expected_BKV = torch.stack([_plain_logits(model, row) for row in rows])
        rounding = _off(_rounded_otherwise(model, rows[0]), expected_BKV[0])
        least, most = (_LEAST, _MOST) if model.dtype == torch.float32 else (_LEAST_16, _MOST_16)
        proof = Proof(rounding=rounding, bound=min(max(_TIMES * rounding, least), max(most, 3 * rounding)))
        compare = partial(_compared, backbone, groups=groups, more=more, expected_BKV=expected_BKV)
        found = replace(proof, why=why) if why else _packed(backbone, rows[0], compare, proof)
        return found if found.path == "packed" and backbone.rope.kind is None else _plain(backbone, compare, found)


def first_pass(backbone: "Backbone") -> None:
    """One short pass on the path taken, for what it calls."""
    with torch.no_grad():
        begin(backbone, None, _groups(backbone)[0][-1:]).first()


def prove_adapters(backbone: "Backbone", shapes: Mapping[str, tuple[int, int]]) -> Proof:
    """The backbone's proof, or the plain path where packed passes give adapters of two nodes other gradients.

    Raises `BackboneError` where the model lets no gradient through to them.
    """
    groups, more = _groups(backbone)
    groups = [replace(group, adapter=n) for n, group in enumerate(groups)]
    bank = AdapterBank({"a": "a", "b": "b"}, shapes, rank=1, alpha=1.0, seed=0, device=backbone.device)
    with torch.no_grad():
        for stack in bank.B.values():
            stack.copy_(torch.linspace(-1, 1, stack.numel()).view(stack.shape) * stack.shape[1] ** -0.5)
    with exact_products(), torch.enable_grad():
        expected = _gradient(backbone, bank, PlainPass, groups, more)
        if not expected.norm() > 0:
            raise BackboneError(
                f"backbone {backbone.name!r} ({backbone.config.model_type}) lets no gradient through to its adapters, "
                "so it cannot be trained"
            )
        if backbone.proof.path == "plain":
            return backbone.proof
        try:
            got = _gradient(backbone, bank, SharedPrefixPass, groups, more)
            off = ((got - expected).norm() / expected.norm().clamp(min=1e-12)).item()
            if off <= (0.5 if backbone.dtype != torch.float32 else 0.01):
                return backbone.proof
            why = f"packed passes give its adapters gradients that differ by {off:.2g}"
        except ConfigError as error:
            why = f"of its adapters' layers, {error}"
    return prove(backbone, why)


def _gradient(
    backbone: "Backbone", bank: AdapterBank, kind: Callable[..., ModelPass], groups: list[Group], more: list[int]
) -> Tensor:
    """The gradient of all adapters by the sum of the log-probabilities of `more` after each row."""
    longer = [replace(group, own_ids=[own + more for own in group.own_ids]) for group in groups]
    run = kind(backbone, bank, longer, 0)
    states = run.first()[torch.cat([run.last_at_B - k for k in range(1, len(more))])]
    target = torch.tensor(more[:0:-1], device=backbone.device).repeat_interleave(len(run.last_at_B))
    logprobs, _ = backbone.token_logprobs(states, target, 1.0, False)
    if not logprobs.requires_grad:
        return torch.zeros(1)
    grads = torch.autograd.grad(logprobs.sum(), bank.stacks(), allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in grads])


def _packed(backbone: "Backbone", ids: list[int], compare: Callable[..., Proof], proof: Proof) -> Proof:
    """`proof` with the packed path where it may be taken, else with the reason why not."""
    model, doing = backbone.model, "a look at its structure"
    try:
        layers = backbone.config.num_hidden_layers
        why = None if backbone.output.direct else "it changes the last hidden state before its output layer"
        with backbone.attending(structure.NAME):
            why = why or structure.fault_of(model, backbone.decoder, ids, layers, backbone.context_window)
        if why is None:
            doing = "a packed pass"
            with backbone.attending(packed.NAME):
                found = compare(SharedPrefixPass, proof=replace(proof, path="packed"))
            if found.largest <= proof.bound:
                return found
            why = f"packed passes give logits that differ by {found.largest:.2g} (allowed: {proof.bound:.2g})"
    except Exception as error:  # whatever a model does with what it does not know
        why = f"{doing} ends in {type(error).__name__}: {_first_line(error)}"
    return replace(proof, why=why)


def _plain(backbone: "Backbone", compare: Callable[..., Proof], proof: Proof) -> Proof:
    """`proof` with the most that the model's cache may be trusted with."""
    found = proof
    for caches, shares, abreast in product((True, False), repeat=3):
        if shares and not (caches and abreast):
            continue
        tried = replace(proof, caches=caches, shares=shares, abreast=abreast)
        backbone.proof = tried
        try:
            found = compare(PlainPass, proof=tried)
        except Exception:
            if not (caches or abreast):
                raise
            continue
        if found.largest <= proof.bound:
            return tried if proof.path == "packed" else found
    fault = "does not give the same logits twice"
    if found.replay <= proof.bound:
        fault = "is no causal language model: its logits depend on later tokens"
    raise BackboneError(
        f"backbone {backbone.name!r} ({backbone.config.model_type}) {fault} (they differ by {found.largest:.2g}, "
        f"allowed are {proof.bound:.2g}), so it cannot be trained"
    )


def _compared(
    backbone: "Backbone",
    kind: Callable[..., ModelPass],
    *,
    groups: list[Group],
    more: list[int],
    expected_BKV: Tensor,
    proof: Proof,
) -> Proof:
    """`proof` with the differences of one path's logits: after the prompts, token by token, and in one replay."""
    B, K = expected_BKV.shape[0], len(more)
    run = kind(backbone, None, groups, K)
    found = [backbone.logits(run.first()[run.last_at_B])]
    for k, token in enumerate(more):
        rows = None if k == K - 1 else list(range(B))  # the last one as within a block of tokens
        found.append(backbone.logits(run.next(torch.tensor([token] * B, device=backbone.device), rows, k)))
    got_BKV = torch.stack(found, 1)
    run = kind(backbone, None, [replace(g, own_ids=[own + more for own in g.own_ids]) for g in groups], 0)
    states = run.first()
    again_BKV = torch.stack([backbone.logits(states[run.last_at_B - k]) for k in reversed(range(K))], 1)
    return replace(
        proof,
        first=_off(got_BKV[:, 0], expected_BKV[:, 0]),
        decode=_off(got_BKV[:, 1:], expected_BKV[:, 1:]),
        replay=_off(again_BKV, expected_BKV[:, 1:]),
    )


def _groups(backbone: "Backbone") -> tuple[list[Group], list[int]]:
    """The rows of the probe, whose first prefix is longer than a short window; and the tokens with which all go on."""
    encode = lambda text: backbone.tokenizer.encode(text, add_special_tokens=False) if text else []
    windows = [(getattr(backbone.config, name, None), most) for name, most in _WINDOWS.items()]
    least = max([w + 8 for w, most in windows if isinstance(w, int) and w <= most], default=0)
    more, groups = encode(_MORE)[:_STEPS], list[Group]()
    for text, rows in _PROBE:
        prefix, owns = encode(text), [encode(row) for row in rows]
        owns.append(owns[0][::-1])  # equally long, so that two run side by side
        times = 1 if groups else -(-least // len(prefix)) or 1
        longest = len(prefix) * times
        if backbone.rope.kind is not None:  # then rows that are longer take the plain path anyway
            longest = min(longest, max(1, backbone.rope.switch - max(map(len, owns)) - len(more)))
        groups.append(Group(0, (prefix * times)[:longest], owns))
    return groups, more


def _plain_logits(model: Any, ids: list[int]) -> Tensor:
    """Logits [K, V] of a row's last tokens by the model's own forward pass, alone and without a cache."""
    return model(torch.tensor([ids], device=model.device), use_cache=False).logits[0, -_STEPS - 1 :].float()


def _rounded_otherwise(model: Any, ids: list[int]) -> Tensor:
    """The same with embeddings that are off by their dtype's rounding, up and down in turn."""

    def shift(_: Any, __: Any, out: Tensor) -> Tensor:
        sign = torch.ones_like(out)
        sign[..., ::2] = -1
        return out * (1 + sign * torch.finfo(out.dtype).eps)

    handle = model.get_input_embeddings().register_forward_hook(shift)
    try:
        return _plain_logits(model, ids)
    finally:
        handle.remove()


def _off(got: Tensor, expected: Tensor) -> float:
    """Norm of the difference, relative to that of the logits' spread."""
    spread = (expected - expected.mean(-1, keepdim=True)).norm().clamp(min=1e-6)
    return ((got.float() - expected).norm() / spread).nan_to_num(nan=torch.inf).item()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


@contextmanager
def _silent() -> Iterator[None]:
    """Without transformers' own warnings about what is being tried."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
