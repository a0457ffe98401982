"""Tiny random configs for every causal LM of the installed transformers."""

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

W = 48  # window: longer than the product's probe (37 byte tokens), shorter than the prompts
COMMON = {
    "vocab_size": 259,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
    "bos_token_id": 257,
    "eos_token_id": 258,
    "pad_token_id": 256,
    "sliding_window": W,
    "window_size": W,
    "attention_window_size": W,
    "attention_chunk_size": W,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "moe_num_experts": 4,
    "moe_k": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_topk": 2,
    "first_k_dense_replace": 1,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "index_topk": W,
    "index_n_heads": 2,
    "index_head_dim": 16,
    "state_size": 8,
    "mamba_d_state": 8,
    "mamba_n_heads": 4,
    "mamba_d_head": 32,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_chunk_size": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "rnn_width": 64,
    "lru_width": 64,
    "attention_hidden_size": 64,
    "ssm_state_size": 8,
    "mamba_head_dim": 32,
    "hidden_size_per_layer_input": 16,
    "vocab_size_per_layer_input": 259,
    "num_kv_shared_layers": 2,
    "word_embed_proj_dim": 64,
    "ffn_dim": 96,
    "d_model": 64,
    "decoder_layers": 4,
    "decoder_attention_heads": 4,
    "encoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_ffn_dim": 96,
    "encoder_ffn_dim": 96,
    "n_inner": 96,
    "n_positions": 1024,
    "n_ctx": 1024,
    "n_embd": 64,
    "n_head": 4,
    "n_layer": 4,
    "n_layers": 4,
    "n_heads": 4,
    "max_seq_len": 1024,
    "rotary_dim": 8,
    "embedding_size": 64,
    "original_max_position_embeddings": W,
    "global_head_dim": 16,
    "is_decoder": True,
    "index_block_size": 16,
    "index_topk_blocks": 3,
    "num_global_key_value_heads": 2,
    "expert_intermediate_size": 32,
}
# per model type: what the generic rule gets wrong
MLA = ["sliding_window"]
SPECIAL = {
    "bamba": {"attn_layer_indices": [1, 3], "layer_types": None, "mamba_d_head": 32, "mamba_n_heads": 4},
    "falcon_h1": {"layer_types": None, "mamba_d_ssm": 128, "mamba_d_head": 32, "mamba_n_heads": 4},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "mamba_dt_rank": 8,
        "use_mamba_kernels": False,
    },
    "mamba2": {"num_heads": 4, "head_dim": 32, "n_groups": 1, "chunk_size": 16, "expand": 2},
    "recurrent_gemma": {
        "layer_types": None,
        "block_types": ["recurrent", "recurrent", "attention"],
        "num_hidden_layers": 3,
    },
    "granitemoehybrid": {"layer_types": ["mamba", "attention", "mamba", "attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"], "num_dense_layers": 1},
    "dots1": {"n_shared_experts": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "num_layers": 4},
    "zamba": {
        "layer_types": None,
        "attention_head_dim": 32,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "hidden_size": 64,
        "attention_hidden_size": 128,
        "mamba_dt_rank": 8,
        "use_mamba_kernels": False,
        "n_mamba_heads": 2,
    },
    "zamba2": {
        "layer_types": None,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "attention_head_dim": 32,
        "attention_hidden_size": 128,
        "num_mem_blocks": 1,
        "n_mamba_heads": 4,
        "mamba_ngroups": 1,
        "add_bias_linear": False,
        "use_shared_attention_adapter": False,
        "chunk_size": 16,
        "kv_channels": 32,
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {
            "ffn_hidden_size": 64,
            "moe_num_experts": 4,
            "moe_top_k": 2,
            "ffn_act_fn": {"name": "silu"},
            "hidden_size": 64,
        },
    },
    "reformer": {
        "axial_pos_embds": False,
        "attn_layers": ["local", "local"],
        "num_hidden_layers": 2,
        "attention_head_size": 16,
        "local_attn_chunk_length": 16,
        "is_decoder": True,
    },
    "xlstm": {"embedding_dim": 64, "num_blocks": 2, "num_heads": 4, "mode": "inference", "chunk_size": 16},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "opt": {"init_std": 0.2},
    "bart": {"init_std": 0.2},
    "xglm": {"init_std": 0.2},
    "whisper": {"init_std": 0.2},
    "prophetnet": {"init_std": 0.2},
    "trocr": {"init_std": 0.2},
    "inkling2_text": {"unpadded_vocab_size": 259},
    "inkling2_loop_text": {
        "unpadded_vocab_size": 259,
        "n_layers_per_attn_res_block": 1,
        "loop_layer_index_start": 1,
        "loop_layer_index_end": 3,
        "loop_num_passes": 2,
    },
    "longcat_flash": {
        "head_dim": 8,
        "qk_head_dim": 24,
        "num_layers": 2,
        "ffn_hidden_size": 96,
        "expert_ffn_hidden_size": 32,
        "zero_expert_num": 1,
    },
    "cohere_compass_text": {
        "logit_scale": 0.5,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
        },
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "dory": {"n_input_layers": 1, "n_output_layers": 1, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "zaya": {"num_experts_per_tok": 1},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 48,
        "indexer_compress_ratio": 16,
        "ngram_vocab_size_base": 500,
        "split_ngram_parts": 1,
        "hc_lowrank": 16,
    },
    "rwkv": {"attention_hidden_size": 64},
    "cohere": {"logit_scale": 0.5},
    "cohere2": {"logit_scale": 0.5},
}


def shrunk(mt, text_key="text_config", text=None, vision=None, **more):
    """A composite config with a tiny text part."""
    cls = CONFIG_MAPPING[mt]
    sub = cls().get_text_config()
    t = tiny(text or sub.model_type).to_dict()
    t.pop("architectures", None)
    kw = {text_key: t}
    for k in getattr(cls, "sub_configs", {}) or {}:
        if k != text_key and vision is not None:
            kw[k] = vision
    return cls(**kw, **more)


VIS = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
COMPOSITE = {
    "gemma3": lambda **c: shrunk("gemma3", vision=VIS, mm_tokens_per_image=4, **c),
    "gemma4": lambda **c: shrunk("gemma4", vision=None, vision_config=None, audio_config=None, **c),
    "gemma4_unified": lambda **c: shrunk("gemma4_unified", vision_config=None, audio_config=None, **c),
    "qwen3_5": lambda **c: shrunk(
        "qwen3_5",
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 64,
            "num_position_embeddings": 16,
        },
        **c,
    ),
    "llama4": lambda **c: shrunk(
        "llama4",
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 128,
            "vision_output_dim": 64,
            "projector_input_dim": 64,
            "projector_output_dim": 64,
            "image_size": 28,
            "patch_size": 14,
        },
        **c,
    ),
}


def layer_kinds(default, n):
    kinds = list(dict.fromkeys(default))
    out = [kinds[i % len(kinds)] for i in range(n)]
    return out


def tiny(mt, **changes):
    cls = CONFIG_MAPPING[mt]
    base = cls()
    keys = set(base.to_dict()) | set(getattr(cls, "attribute_map", {}) or {})
    kw = {k: v for k, v in COMMON.items() if k in keys}
    amap = getattr(cls, "attribute_map", {}) or {}
    for alias, real in amap.items():  # keep one of the two
        if alias in kw and real in kw:
            kw.pop(alias)
    if "qk_rope_head_dim" in keys:
        kw.pop("head_dim", None)
        if "num_key_value_heads" in kw:
            kw["num_key_value_heads"] = 4
    for k in list(kw):
        if isinstance(getattr(cls, k, None), property):
            kw.pop(k)
    if "encoder_layers" in kw:
        kw["encoder_layers"] = 4
    if mt in COMPOSITE:
        return COMPOSITE[mt](**changes)
    n = 4
    if getattr(base, "layer_types", None) is not None and isinstance(base.layer_types, (list, tuple)):
        kw["layer_types"] = layer_kinds(base.layer_types, n)
    if getattr(base, "mlp_layer_types", None) is not None and isinstance(base.mlp_layer_types, (list, tuple)):
        kw["mlp_layer_types"] = layer_kinds(base.mlp_layer_types, n)
    for k in ("layer_types",):
        if isinstance(getattr(cls, k, None), property):
            kw.pop(k, None)
    kw |= SPECIAL.get(mt, {})
    for k in [k for k, v in kw.items() if v is None]:
        kw.pop(k)
    kw |= changes
    return cls(**kw)


L = {"rope_theta": 10000.0}
VARIANTS = {  # name -> (model type, changes)
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-mqa-headdim": ("llama", {"num_key_value_heads": 1, "head_dim": 32, "tie_word_embeddings": True}),
    "llama-rope-linear": ("llama", {"rope_parameters": dict(rope_type="linear", factor=4.0, **L)}),
    "llama-rope-llama3": (
        "llama",
        {
            "rope_parameters": dict(
                rope_type="llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=64,
                **L,
            )
        },
    ),
    "llama-rope-yarn": (
        "llama",
        {"rope_parameters": dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=64, **L)},
    ),
    "llama-rope-dynamic": (
        "llama",
        {"rope_parameters": dict(rope_type="dynamic", factor=4.0, original_max_position_embeddings=48, **L)},
    ),
    "llama-rope-dynamic-1024": ("llama", {"rope_parameters": dict(rope_type="dynamic", factor=4.0, **L)}),
    "llama-longrope": (
        "llama",
        {
            "rope_parameters": dict(
                rope_type="longrope",
                short_factor=[1.0] * 8,
                long_factor=[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0],
                factor=20.0,
                original_max_position_embeddings=48,
                **L,
            )
        },
    ),
    "phi3-longrope": (
        "phi3",
        {
            "sliding_window": None,
            "original_max_position_embeddings": 48,
            "rope_parameters": dict(
                rope_type="longrope",
                short_factor=[1.0] * 8,
                long_factor=[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0],
                original_max_position_embeddings=48,
                **L,
            ),
        },
    ),
    "phi3-window": ("phi3", {"sliding_window": 48}),
    "phi3-partial": ("phi3", {"sliding_window": None, "partial_rotary_factor": 0.5}),
    "qwen2-window": (
        "qwen2",
        {
            "use_sliding_window": True,
            "sliding_window": 48,
            "max_window_layers": 2,
            "layer_types": ["full_attention", "full_attention", "sliding_attention", "sliding_attention"],
        },
    ),
    "qwen3-window": (
        "qwen3",
        {
            "use_sliding_window": True,
            "sliding_window": 48,
            "max_window_layers": 2,
            "layer_types": ["full_attention", "full_attention", "sliding_attention", "sliding_attention"],
        },
    ),
    "qwen3_moe-window": ("qwen3_moe", {"use_sliding_window": True, "sliding_window": 48, "max_window_layers": 0}),
    "qwen2_moe-window": ("qwen2_moe", {"use_sliding_window": True, "sliding_window": 48, "max_window_layers": 0}),
    "gemma3-bidirectional": ("gemma3_text", {"use_bidirectional_attention": True}),
    "gemma2-nocap": ("gemma2", {"attn_logit_softcapping": None}),
    "gemma2-nocap-nofinal": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "falcon-alibi": ("falcon", {"alibi": True, "bias": True}),
    "falcon-40b": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "alibi": False}),
    "falcon-7b": ("falcon", {"multi_query": True, "parallel_attn": True, "new_decoder_architecture": False}),
    "gpt2-scaled": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    "gpt_neox-serial": ("gpt_neox", {"use_parallel_residual": False}),
    "stablelm-2": ("stablelm", {"use_qkv_bias": True, "qk_layernorm": True, "use_parallel_residual": True}),
    "cohere-scale1": ("cohere", {"logit_scale": 1.0}),
    "cohere-qknorm": ("cohere", {"logit_scale": 1.0, "use_qk_norm": True}),
    "granite-multipliers": (
        "granite",
        {"embedding_multiplier": 3.0, "residual_multiplier": 0.3, "attention_multiplier": 0.1, "logits_scaling": 4.0},
    ),
    "granite-logits1": (
        "granite",
        {"embedding_multiplier": 3.0, "residual_multiplier": 0.3, "attention_multiplier": 0.1, "logits_scaling": 1.0},
    ),
    "olmo-clip": ("olmo", {"clip_qkv": 1.0}),
    "opt-proj": ("opt", {"word_embed_proj_dim": 32, "do_layer_norm_before": True}),
    "smollm3-nope": ("smollm3", {"no_rope_layers": [1, 1, 1, 0], "use_sliding_window": False, "sliding_window": None}),
    "llama4-temp": ("llama4_text", {"attn_temperature_tuning": True, "floor_scale": 48, "attn_scale": 0.5}),
    "ministral3-scaled": (
        "ministral3",
        {
            "sliding_window": None,
            "rope_parameters": dict(
                rope_type="yarn", factor=16.0, original_max_position_embeddings=48, llama_4_scaling_beta=0.5, **L
            ),
        },
    ),
    "nanochat-nocap": ("nanochat", {"final_logit_softcapping": None}),
    "gemma3n-noshare": ("gemma3n_text", {"num_kv_shared_layers": 0}),
    "gemma4-noshare": ("gemma4_text", {"num_kv_shared_layers": 0}),
    "mimo-novsplit": ("mimo_v2_flash", {}),
    "minicpm3-scale1": ("minicpm3", {"dim_model_base": 64, "scale_emb": 1}),
    "dory-1loop": ("dory", {"n_recurrent_loops": 1}),
    "inkling2_loop-1": ("inkling2_loop_text", {"loop_num_passes": 1}),
    "deepseek_v3-noqlora": ("deepseek_v3", {"q_lora_rank": None}),
    "bitnet-plain": ("bitnet", {}),
    "doge-full": ("doge", {"keep_window_size": 2048}),
    "granitemoehybrid-attn": ("granitemoehybrid", {"layer_types": ["attention"] * 4, "logits_scaling": 1.0}),
}


def make(name):
    mt, ch = VARIANTS.get(name, (name, {}))
    return tiny(mt, **ch)


ALT = ["sliding_attention", "full_attention"] * 2
VARIANTS |= {
    "qwen2_moe-swa": (
        "qwen2_moe",
        {"use_sliding_window": True, "sliding_window": 48, "max_window_layers": 0, "layer_types": ALT},
    ),
    "mellum-swa": ("mellum", {"layer_types": ALT}),
    "laguna-swa": ("laguna", {"layer_types": ALT}),
    "dots1-swa": ("dots1", {"layer_types": ALT}),
    "smollm3-swa": ("smollm3", {"use_sliding_window": True, "sliding_window": 48, "layer_types": ALT}),
    "doge-keep48": ("doge", {"keep_window_size": 48, "sliding_window": None}),
    "gemma3-ropescaled": (
        "gemma3_text",
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            }
        },
    ),
}
VARIANTS |= {
    "lfm2-conv": ("lfm2", {"layer_types": ["conv", "full_attention"] * 2}),
    "minimax_m3-sparse": ("minimax_m3_vl_text", {"layer_types": ["full_attention", "minimax_m3_sparse"] * 2}),
    "zaya-swa": ("zaya", {"layer_types": ["hybrid", "hybrid_sliding"] * 2}),
}
