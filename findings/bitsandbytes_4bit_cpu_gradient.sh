#!/usr/bin/env bash
# One would guess that measuring a model before training it changes nothing: a frozen 4-bit layer of bitsandbytes (QLoRA)
# hands the gradient on to what stands below it, in evaluation mode as in training mode.
#
# What happens on a CPU with AVX512-BF16: the first pass of a layer in evaluation mode without gradients rearranges its
# weights for inference. From then on no gradient passes through it, in no mode: its output still asks for one, the input's
# stays None, and nothing is said but a general warning of torch. Adapters below stop learning.
# Seen with bitsandbytes 0.50.2 and torch 2.13.0 (bitsandbytes/nn/modules.py, Linear4bit.forward).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.13.0" "bitsandbytes==0.50.2" "numpy<3" "packaging"
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys

import bitsandbytes as bnb
import torch

print("bitsandbytes", bnb.__version__, "torch", torch.__version__)


def passes(measured_first: bool) -> bool:
    torch.manual_seed(0)
    layer = bnb.nn.Linear4bit(128, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    layer.weight = bnb.nn.Params4bit(torch.randn(64, 128), requires_grad=False, quant_type="nf4")
    layer = layer.to("cpu").eval()
    if measured_first:
        with torch.no_grad():
            layer(torch.randn(8, 128))
    layer.train()
    x = torch.randn(8, 128, requires_grad=True)
    layer(x).sum().backward()
    return x.grad is not None


fresh, measured = passes(False), passes(True)
print("a gradient reaches the input of a fresh layer:", fresh)
print("and of one that was measured first:           ", measured)
if not bnb.functional.has_avx512bf16():
    print("this processor has no AVX512-BF16, so weights are not rearranged here")
    sys.exit(0)
sys.exit(0 if fresh and not measured else 1)
PY
