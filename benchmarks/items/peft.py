"""PEFT as an ordinary user would write REINFORCE with it. Variants:

nodes    one adapter after the other: `set_adapter`, `generate`, then forward, log-softmax, backward
trimmed  the same, with logits at completion positions only (`logits_to_keep`)
mixed    one batch per layer for all its nodes, routed by `adapter_names` (PEFT allows it in eval mode only)
"""

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.items import measure
from benchmarks.work import NodeWork, Work

PAD = 0


def build(folder: str, dtype: str, rank: int, targets: list[str], adapters: list[str], noise: float = 0.0) -> Any:
    """The backbone with one adapter for each name. noise: deviation of the B matrices; 0 leaves them zero."""
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    settings = lambda: LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=list(targets), lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, settings(), adapter_name=adapters[0])
    for name in adapters[1:]:
        model.add_adapter(name, settings())
    if noise:
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, noise)
    return model


def for_work(work: Work, adapters: list[str]) -> Any:
    """As `build`, with adapters that are not zero and rows that do not end early."""
    model = build(work.model, work.dtype, work.rank, work.targets, adapters, noise=0.02)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = PAD
    return model


def sample(model: Any, prompts: list[list[int]], tokens: int, **routing: Any) -> Tensor:
    """Completions [B, tokens]."""
    ids, mask = measure.padded(prompts, PAD)
    out = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=tokens, do_sample=True, top_k=0, top_p=1.0, **routing
    )
    return out[:, ids.shape[1] :]


def loss(model: Any, prompts: list[list[int]], done: Tensor, advantages: Tensor, trim: bool, **routing: Any) -> Tensor:
    """REINFORCE's, a mean over rollouts."""
    ids, mask = measure.padded(prompts, PAD)
    tokens = done.shape[1]
    ids, mask = torch.cat([ids, done], 1), torch.cat([mask, torch.ones_like(done)], 1)
    position = (mask.cumsum(1) - 1).clamp(min=0)
    keep = {"logits_to_keep": tokens + 1} if trim else {}
    logits = model(input_ids=ids, attention_mask=mask, position_ids=position, use_cache=False, **keep, **routing).logits
    logp = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, -logits.shape[1] + 1 :, None])[..., 0]
    return -(logp[:, -tokens:].sum(1) * advantages).mean()


def units(work: Work, variant: str) -> list[list[NodeWork]]:
    """Nodes that share a call: each for itself, or whole layers."""
    if variant != "mixed":
        return [[node] for node in work.nodes]
    layers = sorted({node.layer for node in work.nodes})
    return [[node for node in work.nodes if node.layer == layer] for layer in layers]


def main() -> None:
    args = measure.options()
    work: Work = args.work
    mixed, trim = args.variant == "mixed", args.variant == "trimmed"
    names = {node.id: f"node{n}" for n, node in enumerate(work.nodes)}
    model = for_work(work, list(names.values()))
    if mixed:
        model.base_model.set_adapter(list(names.values()))  # all of them are trained
    trained = [p for name, p in model.named_parameters() if "lora_" in name]
    optimizer = torch.optim.AdamW(trained, lr=1e-6)
    calls = units(work, args.variant)
    prompts = [[row for node in nodes for row in work.prompts(node)] for nodes in calls]
    per_node = work.rows // len(work.nodes)

    def routing(nodes: list[NodeWork], part: slice = slice(None)) -> dict[str, Any]:
        if mixed:
            return {"adapter_names": [names[node.id] for node in nodes for _ in range(per_node)][part]}
        model.set_adapter(names[nodes[0].id])
        return {}

    def rollout() -> list[Tensor]:
        model.eval()
        return [
            sample(model, rows, nodes[0].tokens, **routing(nodes)) for nodes, rows in zip(calls, prompts, strict=True)
        ]

    def update(done: list[Tensor]) -> None:
        model.train(not mixed)
        optimizer.zero_grad(set_to_none=True)
        for nodes, rows, completions in zip(calls, prompts, done, strict=True):
            at_once = args.rows or per_node
            advantages, parts = measure.advantages(len(rows)), -(-len(rows) // at_once)
            for part in (slice(n, None, parts) for n in range(parts)):
                share = loss(model, rows[part], completions[part], advantages[part], trim, **routing(nodes, part))
                (share / parts).backward()
        assert all(p.grad is not None for p in trained)
        optimizer.step()

    laps = measure.Laps()
    for _ in range(args.warmup + args.repeats):
        done = laps.timed("rollout", rollout)
        laps.timed("update", lambda done=done: update(done))
    measure.report(laps, args)


if __name__ == "__main__":
    main()
