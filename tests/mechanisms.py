"""Small random models, one for each way in which models differ."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

COMMON: dict[str, Any] = {
    "vocab_size": 260, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "initializer_range": 0.2,
    "bos_token_id": 259, "eos_token_id": 258, "pad_token_id": 256,
}  # fmt: skip
MOE = {"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2}
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
_DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
_MLA = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 6}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
_SMALL = {"vocab_size_per_layer_input": 260, "hidden_size_per_layer_input": 8}
BOTH = ["sliding_attention", "full_attention"]

# mechanism -> (expected path, model type, what differs from COMMON)
MECHANISMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "window": ("packed", "mistral", {"sliding_window": 8}),
    "window told by its mask alone": ("plain", "phimoe", {"sliding_window": 8, **MOE}),
    "softcap": ("plain", "gemma2", {"sliding_window": 8, "layer_types": BOTH, "query_pre_attn_scalar": 8}),
    "sinks": ("plain", "gpt_oss", {"sliding_window": 8, "layer_types": BOTH, **MOE}),
    "ALiBi": ("plain", "bloom", {"n_head": 4, "n_layer": 2}),
    "MLA": ("packed", "deepseek_v3", {"head_dim": 4, "num_key_value_heads": 4, "first_k_dense_replace": 2, **_MLA}),
    "linear attention": ("plain", "qwen3_5_text", {"layer_types": ["linear_attention", "full_attention"], **_DELTA}),
    "state space": ("plain", "mamba2",
        {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 8}),
    "convolution": ("plain", "lfm2", {"layer_types": ["conv", "full_attention"]}),
    "attention beside a state space": ("plain", "falcon_h1", {**_MAMBA, "mamba_d_ssm": 64}),
    "MoE": ("packed", "mixtral", MOE),
    "shared keys and values": ("packed", "gemma4_text",
        {"num_kv_shared_layers": 2, "num_hidden_layers": 4, "layer_types": BOTH * 2, **_SMALL}),
    "sizes by layer": ("packed", "gemma4_text",
        {"global_head_dim": 16, "layer_types": BOTH, "sliding_window": 8, **_SMALL}),
    "fused projections": ("packed", "phi3", {"sliding_window": None}),
    "NoPE": ("packed", "smollm3", {"no_rope_layers": [1, 0]}),
    "partial rotary": ("packed", "phi3", {"sliding_window": None, "partial_rotary_factor": 0.5}),
    "logit scaling": ("packed", "cohere", {"logit_scale": 0.5}),
    "Conv1D": ("packed", "gpt2", {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 256}),
    "learned positions": ("packed", "opt", {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.2}),
    "tied heads": ("packed", "qwen2", {"tie_word_embeddings": True}),
    "residual scaling": ("packed", "granite",
        {"residual_multiplier": 0.3, "embedding_multiplier": 3.0, "logits_scaling": 4.0}),
    "places": ("plain", "blenderbot-small", {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4,
        "decoder_ffn_dim": 48, "encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 48}),
    "two calls a layer": ("plain", "diffllama", {}),
    "frequencies by the longest row": ("packed", "llama", {"rope_parameters": {
        "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0, 2.0, 4.0, 8.0], "factor": 8.0,
        "original_max_position_embeddings": 20, "rope_theta": 10000.0}}),
}  # fmt: skip


def model_of(kind: str, changes: dict[str, Any]) -> Any:
    known = AutoConfig.for_model(kind)
    names = {*known.to_dict(), *(getattr(known, "attribute_map", None) or {})}
    settings = {k: v for k, v in COMMON.items() if k in names} | changes
    return random_model(
        AutoConfig.for_model(kind, **{k: v for k, v in settings.items() if v is not None or k == "sliding_window"})
    )


def random_model(config: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return model.eval().requires_grad_(False)
