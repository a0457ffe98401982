"""vLLM's CPU build on the rollouts of a layer: all nodes in one call, one LoRA each. Variants: eager, compiled.

Prefix caching is on, but forgotten between repeats, for the adapters of a training step are new.
"""

import json
import os
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig

from benchmarks.items import measure
from benchmarks.work import Work


def write_adapter(work: Work, folder: Path) -> None:
    """A PEFT adapter with small weights, for the attention projections of a Llama."""
    config = AutoConfig.from_pretrained(work.model)
    size = config.head_dim
    heads, shared = config.num_attention_heads * size, config.num_key_value_heads * size
    width = config.hidden_size
    shapes = {"q_proj": (heads, width), "k_proj": (shared, width), "v_proj": (shared, width), "o_proj": (width, heads)}
    assert set(work.targets) == set(shapes), "only attention adapters are written here"
    state: dict[str, torch.Tensor] = {}
    for layer in range(config.num_hidden_layers):
        for target, (out, inp) in shapes.items():
            key = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            state[f"{key}.lora_A.weight"] = torch.randn(work.rank, inp) * inp**-0.5
            state[f"{key}.lora_B.weight"] = torch.randn(out, work.rank) * 0.02
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": work.rank, "lora_alpha": 2 * work.rank}
    settings |= {"lora_dropout": 0.0, "bias": "none", "target_modules": sorted(shapes)}
    folder.mkdir(parents=True)
    save_file(state, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(settings))


def settle(threads: int) -> None:
    """Settings that vLLM reads from the environment when it is imported."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # in this process, so that its memory is counted
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, sorted(os.sched_getaffinity(0))[:threads]))
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB, taken at once
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")


def main() -> None:
    args = measure.options()
    settle(args.threads)
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    work: Work = args.work
    if work.topology != "layer":
        raise SystemExit("rollouts of single layers only")
    with tempfile.TemporaryDirectory() as scratch:
        loras: list[LoRARequest] = []
        for n, node in enumerate(work.nodes):
            write_adapter(work, Path(scratch) / node.id)
            loras.append(LoRARequest(node.id, n + 1, str(Path(scratch) / node.id)))
        engine = LLM(
            model=work.model,
            dtype=work.dtype,
            enable_lora=True,
            max_loras=len(loras),
            max_lora_rank=max(8, work.rank),
            enforce_eager=args.variant == "eager",
            max_model_len=512,
            max_num_seqs=work.rows,
            enable_prefix_caching=True,
        )
        how = SamplingParams(n=work.rollouts, max_tokens=work.nodes[0].tokens, ignore_eos=True, temperature=1.0)
        prompts = [{"prompt_token_ids": ids} for node in work.nodes for ids in node.prefix_ids]
        routed = [lora for lora in loras for _ in range(work.questions)]
        laps = measure.Laps()
        for _ in range(args.warmup + args.repeats):
            engine.reset_prefix_cache()
            done = laps.timed("rollout", lambda: engine.generate(prompts, how, lora_request=routed, use_tqdm=False))
            assert sum(len(one.token_ids) for out in done for one in out.outputs) == work.sampled_tokens
        measure.report(laps, args)


if __name__ == "__main__":
    main()
