"""A model of a `.gguf` file, converted: the same logits and tokens as the model that was written into the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from harness.api import UsageError
from harness.judge.gguf import convert
from harness.origins.converted import converted

gguf = pytest.importorskip("gguf", reason="needs the extra gguf")

HEADS = 2
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "max_position_embeddings": 64}
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
    "model.layers.": "blk.",
}
TOKENS = [*sorted(ByteLevel.alphabet()), "th", "the", "<|end|>"]


def interleaved(weight: torch.Tensor) -> torch.Tensor:
    """Return the rows of a query's or key's weight in the order of llama.cpp, which rotates neighbours."""
    return weight.reshape(HEADS, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def write(model: LlamaForCausalLM, path: Path) -> None:
    writer: Any = gguf.GGUFWriter(path, "llama")
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // HEADS)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_merges(["t h", "th e"])
    writer.add_token_types([1] * (len(TOKENS) - 1) + [3])
    writer.add_eos_token_id(len(TOKENS) - 1)
    writer.add_bos_token_id(len(TOKENS) - 1)
    for name, weight in model.state_dict().items():
        written = interleaved(weight) if "q_proj" in name or "k_proj" in name else weight
        for ours, theirs in NAMES.items():
            name = name.replace(ours, theirs)
        writer.add_tensor(name, written.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_the_converted_model_gives_the_logits_and_reads_the_tokens_of_the_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    heads = {"num_attention_heads": HEADS, "num_key_value_heads": HEADS, "tie_word_embeddings": False}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(TOKENS), **SIZES, **heads)).eval()
    write(model, tmp_path / "tiny.gguf")
    folder = tmp_path / "tiny"
    convert(tmp_path / "tiny.gguf", folder)
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    tokens = AutoTokenizer.from_pretrained(folder, local_files_only=True)("the end", return_tensors="pt")["input_ids"]
    assert [TOKENS[token] for token in tokens[0].tolist()] == ["the", "Ġ", "e", "n", "d"]
    with torch.no_grad():
        torch.testing.assert_close(again(tokens).logits, model(tokens).logits, rtol=0, atol=0)
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".jinja"}


def test_a_file_that_is_cut_off_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(b"GGUF" + (3).to_bytes(4, "little") + b"\0" * 3)
    with pytest.raises(UsageError, match="cannot be converted: the file is cut off, damaged or no GGUF") as caught:
        converted(tmp_path / "cut.gguf", tmp_path / "cache")
    assert len(caught.value.problems) == 1
