#!/usr/bin/env bash
# transformers 5.23.0 loads the first part of a split GGUF model without an error (gguf 0.19.0). Seen on 2026-11-30.
#
# The file states `split.count` 2 and lacks the tensors of the last layer, as the first part of two does.
# `from_pretrained(gguf_file=...)` returns a model; the weights of that layer are random and differ from load to load.
# Its loading report names the missing keys (`output_loading_info=True`), at a log level that many programs hide.
# Exits with an error where the load fails or all weights are the same.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 transformers==5.23.0 gguf==0.19.0 accelerate==1.15.0
cd "$work"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
"$work/venv/bin/python" - <<'PYTHON'
import gguf
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

SMALL = dict(vocab_size=12, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.4)


def model(rope):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(LlamaConfig(**SMALL, rope_parameters=rope)).eval()


def write(causal, state):
    """The model as llama.cpp writes it."""
    config, writer = causal.config, gguf.GGUFWriter("m.gguf", "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*"abcdefghijk", "ab"])
    writer.add_token_merges(["a b"])
    without = state(writer) or ()
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, tensor in causal.state_dict().items():
        own = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if own in without:
            continue
        if count := heads.get(own.split(".")[-2]):
            tensor = tensor.unflatten(0, (count, 2, -1)).transpose(1, 2).flatten(0, 2)
        writer.add_tensor(own, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits(causal):
    with torch.no_grad():
        return causal(torch.arange(200)[None] % 12).logits


def load():
    return AutoModelForCausalLM.from_pretrained(".", gguf_file="m.gguf", dtype=torch.float32)


def first_part(w):
    w.add_uint16("split.no", 0)
    w.add_uint16("split.count", 2)
    w.add_int32("split.tensors.count", 21)
    return [f"blk.1.{n}.weight" for n in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down",
                                          "attn_norm", "ffn_norm")]


whole = model({"rope_type": "default", "rope_theta": 10000.0})
write(whole, first_part)
results = []
for seed in (1, 2):
    torch.manual_seed(seed)
    results.append(load())  # no error
given, other = ([name for name, value in results[0].state_dict().items()
                 if torch.equal(value, results[1].state_dict()[name]) == equal] for equal in (True, False))
print("equal in both loads:", len(given), "; different from load to load:", other)
raise SystemExit(not other or not all(name.startswith("model.layers.1.") for name in other))
PYTHON
echo unchanged
