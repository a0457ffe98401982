"""Writes a model as a GGUF file, as llama.cpp's converter lays it out."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from helpers import CHATML, byte_tokenizer

_OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_INNER = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def tokens() -> list[str]:
    """The bytes, one token of two letters that a merge makes, and three markers."""
    listed = byte_tokenizer().convert_ids_to_tokens(list(range(260)))
    return [*listed[:257], "ab", *listed[258:]]


def rotated(name: str, weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows of query and key projections in the order that the format keeps them in."""
    heads = {"q_proj": 4, "k_proj": 2}.get(name.rpartition(".")[2])
    if heads is None:
        return weight
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write(file: Path, model: Any, template: str = CHATML, pre: str = "default") -> None:
    out, config = gguf.GGUFWriter(file, "llama"), model.config
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(10000.0)
    out.add_rope_dimension_count(8)
    out.add_vocab_size(260)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(pre)
    out.add_token_list(tokens())
    out.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL, gguf.TokenType.NORMAL, *[3, 3]])
    out.add_token_merges(["a b"])
    out.add_bos_token_id(259)
    out.add_eos_token_id(258)
    out.add_pad_token_id(256)
    out.add_chat_template(template)
    for key, value in model.state_dict().items():
        name = key.removesuffix(".weight")
        inner = name.split(".", 3)
        kept = _OUTER.get(name) or f"blk.{inner[2]}.{_INNER[inner[3]]}"
        out.add_tensor(f"{kept}.weight", np.ascontiguousarray(rotated(name, value.numpy())))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
