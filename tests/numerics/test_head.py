"""Scoring through the head in chunks with a hand-written derivative equals the plain softmax and its autograd."""

import pytest
import torch
from torch import Tensor

from neuromas.network import head

L, E, V = 37, 12, 53


def inputs(dtype: torch.dtype = torch.float32, bias: bool = True) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    generator = torch.Generator().manual_seed(0)
    new = lambda *shape: torch.randn(*shape, generator=generator).to(dtype)
    target = torch.randint(0, V, (L,), generator=generator)
    return new(L, E).requires_grad_(), new(V, E), new(V) if bias else None, target


def plain(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, temperature: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    logits = torch.nn.functional.linear(hidden, weight, bias)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logp = (logits.float() / temperature).log_softmax(-1)
    return logp.gather(-1, target[:, None])[:, 0], -(logp.exp() * logp).sum(-1)


@pytest.mark.parametrize(("rows_a_chunk", "rows_cached"), [(1, 1), (8, 3), (1000, 1000)])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("entropy_gradient", [False, True])
def test_values_and_gradients_equal_the_plain_ones(
    monkeypatch: pytest.MonkeyPatch,
    rows_a_chunk: int,
    rows_cached: int,
    softcap: float | None,
    bias: bool,
    entropy_gradient: bool,
) -> None:
    monkeypatch.setattr(head, "CHUNK", rows_a_chunk * V)
    monkeypatch.setattr(head, "_CACHED", rows_cached * V)
    hidden, weight, b, target = inputs(bias=bias)
    mine = head.token_logprobs(
        hidden, weight, b, target, temperature=0.7, softcap=softcap, entropy_gradient=entropy_gradient
    )
    expected = plain(hidden, weight, b, target, 0.7, softcap)
    for got, want in zip(mine, expected, strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    w = torch.linspace(-1, 1, L)
    share = lambda pair: (w * pair[0]).sum() + (0.3 * (w * w * pair[1]).sum() if entropy_gradient else 0)
    (got,) = torch.autograd.grad(share(mine), hidden)
    (want,) = torch.autograd.grad(share(expected), hidden)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_in_bfloat16_the_gradient_stays_within_its_rounding() -> None:
    hidden, weight, _, target = inputs(torch.bfloat16, bias=False)
    (got,) = torch.autograd.grad(head.token_logprobs(hidden, weight, None, target)[0].sum(), hidden)
    exact = hidden.detach().double().requires_grad_()
    (want,) = torch.autograd.grad(plain(exact, weight.double(), None, target, 1.0, None)[0].sum(), exact)
    assert (got.double() - want).norm() <= 0.02 * want.norm()


def test_without_gradient_nothing_is_kept_and_an_entropy_not_asked_for_has_none() -> None:
    hidden, weight, _, target = inputs(bias=False)
    assert not head.token_logprobs(hidden.detach(), weight, None, target)[0].requires_grad
    logprob, entropy = head.token_logprobs(hidden, weight, None, target)
    assert logprob.requires_grad
    assert not entropy.requires_grad
