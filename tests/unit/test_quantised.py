"""Quantised layers: their gradients are tried; bitsandbytes and torchao where they are installed."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import byte_tokenizer, make_network, plain_model, ragged_groups
from neuromas.errors import BackboneError
from neuromas.network.backbone import Backbone
from neuromas.network.generate import generate, replay
from neuromas.network.quantised import gradient_error
from neuromas.network.sampling import Decoding


class EightBitLinear(nn.Module):
    """A linear layer with whole-number weights, which can be told to be wrong in its gradient."""

    def __init__(self, linear: nn.Linear, wrong: str = "") -> None:
        super().__init__()
        self.out_features, self.in_features, self.wrong = *linear.weight.shape, wrong
        self.scale = nn.Parameter(linear.weight.abs().amax(1) / 127, requires_grad=False)
        bias: Tensor | None = linear._parameters["bias"]
        self.bias = torch.zeros(self.out_features) if bias is None else bias.detach()
        self.weight = nn.Parameter((linear.weight / self.scale[:, None]).round().char(), requires_grad=False)

    def dequantised(self) -> Tensor:
        return self.weight.float() * self.scale[:, None]

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.dequantised(), self.bias
        if self.wrong == "none in evaluation" and not self.training:
            x = x.detach()
        if self.wrong == "of other weights":
            return x @ weight.flip(0).T + (x @ (weight - weight.flip(0)).T).detach() + bias
        return x @ weight.T + bias


def quantised(wrong: str = "") -> Any:
    model = plain_model()
    for name in ("q_proj", "v_proj"):
        for block in model.model.layers:
            setattr(block.self_attn, name, EightBitLinear(getattr(block.self_attn, name), wrong))
    return model


def trained_on(model: Any) -> tuple[list[list[int]], Tensor, Tensor]:
    """Tokens, their log-probabilities and the gradient of all adapters."""
    backbone = Backbone("made", model, byte_tokenizer(), "compact")
    assert backbone.proof.path == "packed"
    bank = make_network("1-1", backbone).adapters
    groups = ragged_groups()
    rows = range(sum(len(group.own_ids) for group in groups))
    ids = [one.ids for one in generate(backbone, bank, groups, list(rows), 6, Decoding())]
    logprobs, _ = replay(backbone, bank, groups, ids, 1.0)
    logprobs.sum().backward()
    return ids, logprobs.detach(), torch.cat([p.grad.flatten() for p in bank.stacks() if p.grad is not None])


@pytest.mark.parametrize("wrong", ["", "none in evaluation"])
def test_a_quantised_model_learns_as_its_dequantised_one_does(wrong: str) -> None:
    plain = plain_model()
    for block, theirs in zip(plain.model.layers, quantised().model.layers, strict=True):
        for name in ("q_proj", "v_proj"):
            getattr(block.self_attn, name).weight.data = getattr(theirs.self_attn, name).dequantised()
    (ids, logprobs, gradient), (their_ids, *theirs) = trained_on(quantised(wrong)), trained_on(plain)
    assert ids == their_ids
    torch.testing.assert_close(logprobs, theirs[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, theirs[1], rtol=1e-3, atol=1e-4)


def test_a_wrong_gradient_is_refused_with_its_layer() -> None:
    with pytest.raises(BackboneError, match=r"quantised layers \(EightBitLinear, such as model\.layers\.0\.self_attn"):
        Backbone("wrong", quantised("of other weights"), byte_tokenizer(), "compact")


def test_the_error_of_a_gradient_is_measured() -> None:
    linear, model = nn.Linear(24, 16), plain_model()
    assert gradient_error(EightBitLinear(linear), model) < 1e-5
    assert gradient_error(EightBitLinear(linear, "none in evaluation").eval(), model) == pytest.approx(1.0)
    assert gradient_error(EightBitLinear(linear, "of other weights"), model) > 0.5


def test_four_bits_of_bitsandbytes_learn_after_a_pass_without_gradients() -> None:
    bnb: Any = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    model = plain_model(hidden_size=64, head_dim=16)
    plain = copy.deepcopy(model)
    for mine, theirs in zip(model.model.layers, plain.model.layers, strict=True):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            linear = getattr(mine.self_attn, name)
            layer = bnb.nn.Linear4bit(
                linear.in_features, linear.out_features, bias=False, compute_dtype=torch.float32, quant_type="nf4"
            )
            layer.weight = bnb.nn.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4")
            setattr(mine.self_attn, name, layer.to("cpu"))
            weight = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
            getattr(theirs.self_attn, name).weight.data = weight.float()
    (ids, _, gradient), (their_ids, _, theirs) = trained_on(model), trained_on(plain)
    assert ids == their_ids
    torch.testing.assert_close(gradient, theirs, rtol=1e-3, atol=1e-4)


def test_whole_numbers_of_torchao_learn() -> None:
    ao: Any = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    model = plain_model(hidden_size=64, head_dim=16)
    ao.quantize_(model.model, ao.Int8WeightOnlyConfig())
    plain = plain_model(hidden_size=64, head_dim=16)
    for mine, theirs in zip(model.modules(), plain.modules(), strict=True):
        if isinstance(theirs, nn.Linear):
            theirs.weight.data = getattr(mine.weight, "dequantize", lambda mine=mine: mine.weight.data)()
    (ids, _, gradient), (their_ids, _, theirs) = trained_on(model), trained_on(plain)
    assert ids == their_ids
    torch.testing.assert_close(gradient, theirs, rtol=1e-3, atol=1e-4)
