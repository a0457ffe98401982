"""The paper's two backbones, scaled down: random weights, the published architecture, a byte tokenizer of their shape.

`PUBLISHED` holds the settings of the published `config.json` that shape a model. `scaled` keeps what makes the
architectures what they are (the ratio of query to key/value heads, the heads' width beside the residual stream, tied
embeddings, the pattern of sliding windows, two bases of rotary positions) and shrinks widths, layers and vocabulary.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from helpers import byte_tokenizer

RECIPES = Path(__file__).parents[1] / "recipes"
PUBLISHED: dict[str, dict[str, Any]] = {
    "qwen3-0.6b": {
        "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu",
        "max_position_embeddings": 40960, "rope_theta": 1000000, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
        "attention_bias": False, "use_sliding_window": False, "sliding_window": None, "vocab_size": 151936,
    },
    "gemma-3-1b-it": {
        "model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 32768, "rope_theta": 1000000, "rope_local_base_freq": 10000, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True, "attention_bias": False, "sliding_window": 512, "sliding_window_pattern": 6,
        "query_pre_attn_scalar": 256, "vocab_size": 262144,
    },
}  # fmt: skip
_SMALLER: dict[str, dict[str, Any]] = {
    "qwen3-0.6b": {
        "hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16,
    },
    "gemma-3-1b-it": {
        "hidden_size": 36, "intermediate_size": 216, "num_hidden_layers": 6, "head_dim": 8, "sliding_window": 16,
        "query_pre_attn_scalar": 8,
    },
}  # fmt: skip

# The first is what ends a text, the second what ends a turn; then the others that are special, and those that are not.
_QWEN = (["<|endoftext|>", "<|im_end|>", "<|im_start|>"], ["<think>", "</think>"])
_GEMMA = (["<eos>", "<end_of_turn>", "<start_of_turn>", "<bos>", "<pad>"], ["\n\n", "▁▁"])
TOKENS = {"qwen3-0.6b": _QWEN, "gemma-3-1b-it": _GEMMA}

# Templates of our own that put markers where the published ones do.
TEMPLATES = {
    "qwen3-0.6b": (
        "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
        "{%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
        "{%- endif %}"
    ),
    "gemma-3-1b-it": (  # no turn of the system's: its words open the user's
        "{{ bos_token }}{%- set first = namespace(words='') %}{%- for m in messages %}"
        "{%- if m.role == 'system' %}{%- set first.words = m.content + '\\n\\n' %}"
        "{%- else %}{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + first.words }}"
        "{{- m.content | trim }}{{- '<end_of_turn>\\n' }}{%- set first.words = '' %}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}"
    ),
}


def tokenizer_of(name: str) -> Any:
    """One token a byte, and the special tokens and chat template in the shape of the published tokenizer's."""
    special, added = TOKENS[name]
    made = byte_tokenizer(TEMPLATES[name], special, added)
    made.eos_token = "<|im_end|>" if name.startswith("qwen") else "<eos>"
    made.pad_token = "<|endoftext|>" if name.startswith("qwen") else "<pad>"
    if "<bos>" in special:
        made.bos_token = "<bos>"
    return made


def scaled(name: str, **changes: Any) -> dict[str, Any]:
    """The published settings with a small model's widths, as `AutoConfig.for_model` takes them."""
    tokens = tokenizer_of(name)
    ids = {f"{role}_token_id": getattr(tokens, f"{role}_token_id") for role in ("eos", "pad", "bos")}
    small = {"vocab_size": len(tokens), "max_position_embeddings": 8192, "initializer_range": 0.2}
    return PUBLISHED[name] | _SMALLER[name] | small | ids | changes


def random_model(name: str, seed: int = 0, **changes: Any) -> Any:
    """A model of the scaled-down architecture, eager attention, float32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = AutoConfig.for_model(**scaled(name, **changes))
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        for key, parameter in model.named_parameters():
            if "norm" in key:  # random too, so that a norm left out or misread would show
                torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.2)
    tokens = tokenizer_of(name)
    ends = TOKENS[name][0][:2]
    model.generation_config.eos_token_id = tokens.convert_tokens_to_ids(ends)
    return model.eval().requires_grad_(False)


def save(name: str, folder: Path) -> Path:
    """Model and tokenizer as a folder that `backbone.name` can name."""
    random_model(name).save_pretrained(folder)
    tokenizer_of(name).save_pretrained(folder)
    return folder
