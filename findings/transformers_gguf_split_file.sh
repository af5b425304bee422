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
import numpy as np
import torch
from transformers import AutoModelForCausalLM

# A Llama of two layers: the first part has the embeddings and layer 0, all ones.
SHAPES = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32), "ffn_gate": (48, 32),
          "ffn_up": (48, 32), "ffn_down": (32, 48), "attn_norm": (32,), "ffn_norm": (32,)}
writer = gguf.GGUFWriter("m.gguf", "llama")
for key, value in (("block_count", 2), ("context_length", 64), ("embedding_length", 32), ("feed_forward_length", 48),
                   ("head_count", 4), ("head_count_kv", 2), ("layer_norm_rms_eps", 1e-6), ("rope_freq_base", 1e4)):
    getattr(writer, f"add_{key}")(value)
writer.add_tokenizer_model("gpt2")
writer.add_token_list([*"abcdefghijk", "ab"])
writer.add_token_merges(["a b"])
writer.add_uint16("split.no", 0)
writer.add_uint16("split.count", 2)
writer.add_int32("split.tensors.count", 21)
for name, shape in {"token_embd": (12, 32), "output": (12, 32), "output_norm": (32,)}.items():
    writer.add_tensor(f"{name}.weight", np.ones(shape, np.float32))
for name, shape in SHAPES.items():
    writer.add_tensor(f"blk.0.{name}.weight", np.ones(shape, np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()


def load():
    return AutoModelForCausalLM.from_pretrained(".", gguf_file="m.gguf", dtype=torch.float32)


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
