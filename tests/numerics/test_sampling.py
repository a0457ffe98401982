"""Drawing tokens: the right distribution, the right bookkeeping, never an impossible token."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from neuromas.errors import ConfigError
from neuromas.network.sampling import Decoding, draw, stream_key, uniforms

INF = float("inf")


def drawn(logits: list[float] | torch.Tensor, n: int, position: int = 0, **how) -> torch.Tensor:
    row = torch.as_tensor(logits, dtype=torch.float32)
    return draw(row.expand(n, -1), at([stream_key("k", i) for i in range(n)], position), Decoding(**how))[0]


def at(keys: Sequence[int], position: int) -> torch.Tensor:
    return torch.from_numpy(uniforms(keys, position + 1))[:, position]


def test_uniforms_are_a_fixed_function_of_key_and_position() -> None:
    keys = [0, 1, 2**64 - 1, stream_key(0, 1, "q", 2, "1.1")]
    assert uniforms(keys, 3).tolist() == uniforms(keys, 3).tolist()
    assert uniforms(keys[::-1], 3).tolist() == uniforms(keys, 3).tolist()[::-1]
    assert uniforms([0], 1)[0, 0] == (0xE220A8397B1DCDAF >> 11) / 2**53  # splitmix64 as published


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20), st.integers(0, 1_000))
def test_uniforms_lie_in_the_half_open_unit_interval(keys: list[int], position: int) -> None:
    found = at(keys, position)
    assert ((found >= 0) & (found < 1)).all()


@pytest.mark.parametrize("along", ["keys", "positions"])
def test_uniforms_are_uniform_over_streams_and_along_a_stream(along: str) -> None:
    if along == "keys":
        found = uniforms([stream_key(0, i) for i in range(20_000)], 1)[:, 0]
    else:
        found = uniforms([stream_key("one")], 5_000)[0]
    assert kstest(found, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.05


def test_stream_keys_differ_in_every_part_and_keep_parts_apart() -> None:
    keys = [stream_key(*p) for p in [(0, 1, "a"), (1, 0, "a"), (0, 1, "b"), (0, "1a"), (0, 11, ""), ("01", "a")]]
    assert len(set(keys)) == len(keys)
    assert all(0 <= k < 2**64 for k in keys)


@pytest.mark.parametrize("vocabulary", [2, 255, 256, 257, 300, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_are_drawn_as_often_as_the_softmax_says(vocabulary: int, temperature: float) -> None:
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(vocabulary)) * 1.5
    n = 20_000
    counts = torch.bincount(drawn(logits, n, temperature=temperature), minlength=vocabulary).double()
    expected = (logits.double() / temperature).softmax(0) * n
    common = expected >= 5
    observed = torch.cat([counts[common], counts[~common].sum()[None] + 1e-9]).numpy()
    wanted = torch.cat([expected[common], expected[~common].sum()[None] + 1e-9]).numpy()
    assert chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > 0.001


@pytest.mark.parametrize("vocabulary", [10, 300])
@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.9, 0.999])
def test_top_p_draws_from_the_nucleus_only_and_from_all_of_it(vocabulary: int, top_p: float) -> None:
    logits = torch.randn(vocabulary, generator=torch.Generator().manual_seed(1)) * 3
    p, order = logits.double().softmax(0).sort(descending=True)
    size = int((p.cumsum(0) < top_p).sum()) + 1  # the smallest set with at least top_p
    nucleus = set(order[:size].tolist())
    counts = torch.bincount(drawn(logits, 20_000, top_p=top_p), minlength=vocabulary)
    seen = set(torch.nonzero(counts)[:, 0].tolist())
    assert seen <= nucleus
    assert {t for t, q in zip(order[:size].tolist(), p.tolist(), strict=False) if q > 0.001} <= seen
    if size > 1:
        wanted = p[:size] / p[:size].sum()
        often = wanted * 20_000 >= 5
        observed = counts[order[:size]][often].double()
        assert (
            chisquare(observed.numpy(), (wanted[often] * observed.sum() / wanted[often].sum()).numpy()).pvalue > 0.001
        )


def test_greedy_takes_the_largest_logit_whatever_the_key_temperature_and_top_p() -> None:
    logits = torch.randn(50, 300)
    for how in (Decoding(greedy=True), Decoding(greedy=True, temperature=9.0, top_p=0.1)):
        token, logprob, _ = draw(logits, at(range(50), 0), how)
        assert torch.equal(token, logits.argmax(-1))
        torch.testing.assert_close(logprob, logits.log_softmax(-1).amax(-1))  # of the untempered distribution


@pytest.mark.parametrize("how", [Decoding(), Decoding(temperature=0.6), Decoding(temperature=2.0, top_p=0.5)])
def test_logprob_and_entropy_are_those_of_the_tempered_softmax_before_top_p(how: Decoding) -> None:
    logits = torch.randn(40, 301) * 4
    token, logprob, entropy = draw(logits, at(range(40), 5), how)
    expected = torch.distributions.Categorical(logits=logits / how.temperature)
    torch.testing.assert_close(logprob, expected.log_prob(token))
    torch.testing.assert_close(entropy, expected.entropy(), atol=1e-5, rtol=1e-5)


def test_the_position_changes_the_draw_and_the_rest_of_the_batch_does_not() -> None:
    logits = torch.zeros(3, 300)
    said = lambda keys, position: draw(logits[: len(keys)], at(keys, position), Decoding())[0].tolist()
    assert said([7, 8, 9], 0) == [said([k], 0)[0] for k in (7, 8, 9)]
    assert said([7, 8, 9], 0) != said([7, 8, 9], 1)


@pytest.mark.parametrize("vocabulary", [3, 256, 300, 513])
@pytest.mark.parametrize("greedy", [False, True])
def test_extreme_logits_give_possible_tokens_and_finite_figures(vocabulary: int, greedy: bool) -> None:
    few = torch.full((4, vocabulary), -INF)
    few[0, 0] = few[1, -1] = 0.0  # one-hot, at either end
    few[2, [0, -1]] = 5.0  # a tie between two, nothing else possible
    few[3] = torch.linspace(-1e30, 1e30, vocabulary)
    for position in range(200):
        token, logprob, entropy = draw(few, at(range(4), position), Decoding(greedy=greedy))
        assert token[0] == 0
        assert token[1] == token[3] == vocabulary - 1
        assert token[2] in (0, vocabulary - 1)
        expected = torch.tensor([0.0, 0.0, math.log(2), 0.0])
        torch.testing.assert_close(logprob, -expected)
        torch.testing.assert_close(entropy, expected)


@given(
    st.lists(st.sampled_from([-INF, -1e4, -200.0, -1.0, 0.0, 0.0, 3.0, 80.0]), min_size=1, max_size=600),
    st.integers(0, 2**64 - 1),
    st.sampled_from([1.0, 0.9, 0.1]),
)
def test_a_token_without_mass_is_never_drawn(logits: list[float], key: int, top_p: float) -> None:
    if max(logits) == -INF:
        logits[0] = 0.0
    row = torch.tensor([logits])
    token, logprob, entropy = draw(row, at([key], 0), Decoding(top_p=top_p))
    assert row.softmax(-1)[0, token] > 0
    assert torch.isfinite(logprob).all()
    assert torch.isfinite(entropy).all()


@pytest.mark.parametrize("vocabulary", [3, 256, 300])
def test_logits_that_are_not_numbers_are_reported_as_such_and_not_as_an_index_error(vocabulary: int) -> None:
    for greedy in (False, True):
        token, logprob, _ = draw(torch.full((2, vocabulary), math.nan), at([1, 2], 0), Decoding(greedy=greedy))
        assert ((token >= 0) & (token < vocabulary)).all()
        assert torch.isnan(logprob).all()


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_a_decoding_that_means_nothing_is_refused_by_name(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Decoding(**options)
