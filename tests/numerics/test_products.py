"""Weights laid out for oneDNN give the same products, and are gone afterwards; short numbers are multiplied as float32
by a processor that has no instructions for them."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import byte_tokenizer, make_backbone, plain_model, ragged_groups
from neuromas.network import cpu
from neuromas.network.adapters import AdapterBank
from neuromas.network.backbone import Backbone
from neuromas.network.cpu import prepacked, warn_of_wide_products
from neuromas.network.generate import generate, replay
from neuromas.network.sampling import Decoding

ONEDNN = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of torch has no oneDNN")


@pytest.fixture(autouse=True)
def precision() -> Any:
    before = torch.get_float32_matmul_precision()
    amx = torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage] - "medium" would round to bfloat16
    torch.set_float32_matmul_precision("high" if amx else "medium")
    yield
    torch.set_float32_matmul_precision(before)


@ONEDNN
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 96])
def test_products_are_as_exact_as_plain_ones(dtype: torch.dtype, bias: bool, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(48, 80, bias=bias).to(dtype).requires_grad_(False)
    x = torch.randn(2, rows, 48, generator=generator).to(dtype)
    plain = layer(x)
    with torch.no_grad(), prepacked(layer, 96, 1000):
        assert "forward" in layer.__dict__, "it went through oneDNN's layout"
        mine = layer(x)
    exact = nn.functional.linear(x.double(), layer.weight.double(), None if layer.bias is None else layer.bias.double())
    assert mine.dtype == dtype and mine.shape == plain.shape
    rounding = 2 * torch.finfo(torch.float32).eps * exact.norm()  # of one row, plain products are at times more exact
    assert (mine.double() - exact).norm() <= max(1.5 * (plain.double() - exact).norm(), rounding)


@ONEDNN
def test_weights_are_put_back_also_after_an_error_and_by_the_outermost_alone() -> None:
    layer = nn.Linear(8, 8).requires_grad_(False)
    with pytest.raises(KeyError), prepacked(layer, 96, 1000):
        with prepacked(layer, 96, 1000):
            pass
        assert "forward" in layer.__dict__, "still laid out for the outer one"
        raise KeyError
    assert "forward" not in layer.__dict__


def test_nothing_is_laid_out_for_little_work_or_at_another_precision() -> None:
    layer = nn.Linear(8, 8).requires_grad_(False)
    with prepacked(layer, 4, 4):
        assert "forward" not in layer.__dict__
    torch.set_float32_matmul_precision("highest")
    with prepacked(layer, 96, 1000):
        assert "forward" not in layer.__dict__


@ONEDNN
def test_greedy_completions_are_the_same_and_their_log_probabilities_nearly(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, groups = make_backbone(), ragged_groups((0, 0, 0))
    keys = range(sum(len(g.own_ids) for g in groups))
    found: list[list[Any]] = []
    for worth in (10**9, 1):
        monkeypatch.setattr(cpu, "PREPACKING_PAYS", worth)
        found.append(generate(backbone, None, groups, keys, 12, Decoding(greedy=True)))
    assert [c.ids for c in found[0]] == [c.ids for c in found[1]]
    for plain, mine in zip(*found, strict=True):
        assert mine.logprobs == pytest.approx(plain.logprobs, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_dtype_that_the_processor_has_no_instructions_for_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, recwarn: pytest.WarningsRecorder
) -> None:
    short = {torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    monkeypatch.setattr(torch.ops.mkldnn, f"_is_mkldnn_{short}_supported", lambda: True)
    warn_of_wide_products(dtype)
    warn_of_wide_products(torch.float32)
    assert not recwarn.list
    monkeypatch.setattr(torch.ops.mkldnn, f"_is_mkldnn_{short}_supported", lambda: False)
    with pytest.warns(UserWarning, match=f"no instructions for products in {str(dtype)[6:]}.*float32"):
        warn_of_wide_products(dtype)
    warn_of_wide_products(torch.float32)


# -- a processor that only stores bfloat16 ----------------------------------------------------------------------


@pytest.fixture
def storing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_only_stored", lambda dtype: dtype == torch.bfloat16)


class ShortProducts(TorchDispatchMode):
    """Notes every product of numbers shorter than float32."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if any(part in name for part in ("mm.", "mm_.", "mv.", "matmul", "linear.")) and args[0].dtype != torch.float32:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_multiplies_wide_forwards_and_backwards(storing: None, bias: bool) -> None:
    layer = nn.Linear(48, 80, bias=bias).bfloat16().requires_grad_(False)
    x = torch.randn(7, 48, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    cpu.widen(layer)
    with ShortProducts() as short:
        y = layer(x)
        y.sum().backward()
    assert short.found == [] and y.dtype == torch.bfloat16 and x.grad is not None
    exact = nn.functional.linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None)
    torch.testing.assert_close(y.double(), exact, rtol=2**-8, atol=0)  # rounded once, at the end
    slope = layer.weight.double().sum(0).expand(7, -1)
    torch.testing.assert_close(x.grad.double(), slope, rtol=2**-8, atol=1e-5)


@ONEDNN
def test_a_wide_layer_is_laid_out_wide_and_then_wide_again(storing: None) -> None:
    layer = nn.Linear(48, 80).bfloat16().requires_grad_(False)
    x = torch.randn(7, 48, generator=torch.Generator().manual_seed(0)).bfloat16()
    cpu.widen(layer)
    before = layer(x)
    with torch.no_grad(), prepacked(layer, 96, 1000), ShortProducts() as short:
        mine = layer(x)
    torch.testing.assert_close(mine, before, rtol=2**-7, atol=0)
    with ShortProducts() as after:
        assert torch.equal(layer(x), before)
    assert short.found == after.found == []


@pytest.mark.parametrize("path", ["packed", "plain"])
def test_no_product_of_a_backbone_is_short(storing: None, path: Any) -> None:
    backbone = Backbone("fake", plain_model().to(torch.bfloat16), byte_tokenizer(), "compact")
    bank = AdapterBank({"1": "1", "2": "2"}, backbone.adapter_shapes(), rank=2, alpha=2, seed=0)
    backbone.proof = replace(backbone.proof, path=path)
    for stack in bank.B.values():
        torch.nn.init.normal_(stack, std=0.02)
    groups = ragged_groups((0, 1))
    with ShortProducts() as short:
        done = generate(backbone, bank, groups, range(sum(len(g.own_ids) for g in groups)), 5, Decoding())
        logprobs, _ = replay(backbone, bank, groups, [c.ids for c in done], 1.0)
        logprobs.sum().backward()
    ours = [name for name in short.found if path == "packed" or "bmm" not in name]  # plain: attention is the model's
    assert ours == []
    told = torch.tensor([p for c in done for p in c.logprobs])
    torch.testing.assert_close(logprobs.detach(), told, rtol=0, atol=0.05)
