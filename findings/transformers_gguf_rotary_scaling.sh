#!/usr/bin/env bash
# transformers 5.23.0 drops the rotary scaling that a GGUF file states (gguf 0.19.0, torch 2.13.0). Seen on 2026-11-30.
#
# A tiny Llama is written as llama.cpp writes it, with linear, yarn (metadata `llama.rope.scaling.*`) and Llama 3's
# scaling (tensor `rope_freqs.weight`), and loaded with `from_pretrained(gguf_file=...)`. There is no error and no
# warning. Without scaling the logits are those of the model that was written. With scaling the loaded config says
# "default", and the logits differ by .82 (linear, factor 4), .72 (yarn) and .84 (llama3) of their length.
# Exits with an error where a scaling is kept.
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


plain = {"rope_type": "default", "rope_theta": 10000.0}
write(model(plain), lambda w: None)
same = logits(load()).sub(logits(model(plain))).norm() / logits(model(plain)).norm()
print(f"without scaling: the logits differ by {same:.3f} of their length")


def linear(w):
    w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    w.add_rope_scaling_factor(4.0)


def yarn(w):
    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(4.0)
    w.add_rope_scaling_orig_ctx_len(64)


LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


def llama3(w):
    w.add_tensor("rope_freqs.weight",
                 (model(plain).model.rotary_emb.inv_freq / model(LLAMA3).model.rotary_emb.inv_freq).numpy())


dropped = 0
for rope, state in (
    ({"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}, linear),
    ({"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}, yarn),
    (LLAMA3, llama3),
):
    causal = model(rope)
    write(causal, state)
    loaded = load()
    change = logits(loaded).sub(logits(causal)).norm() / logits(causal).norm()
    print(f"{rope['rope_type']}: loaded as {loaded.config.rope_parameters}, the logits differ by {change:.3f}")
    dropped += loaded.config.rope_parameters["rope_type"] == "default" and bool(change > 0.1)
raise SystemExit(same > 1e-4 or dropped != 3)
PYTHON
echo unchanged
