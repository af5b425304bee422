#!/usr/bin/env bash
# transformers 5.23.0: an attention function of one's own takes a model's attention sinks away. Seen on 2026-12-01.
#
# Expected: a function that is registered with AttentionInterface, and computes softmax attention as torch does, gives any
# model the same logits as its eager attention; or the model says that it needs more. Seen: gpt_oss hands its learned
# sinks to the function as the keyword `s_aux`. The interface asks every function to take `**kwargs`, so the sinks vanish
# there without an error or a warning, and the logits differ by more than .01; those of llama are the same to 1e-5.
# Exits with an error where this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0
cd "$work"
export HF_HUB_OFFLINE=1
"$work/venv/bin/python" - 2>"$work/said" <<'PYTHON'
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import CONFIG_MAPPING, AttentionInterface, AutoModelForCausalLM

given = set()


def plain(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    given.update(name for name, found in kwargs.items() if isinstance(found, torch.Tensor))
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    out = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register("plain", plain)
SMALL = dict(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, head_dim=8, max_position_embeddings=64, pad_token_id=0)
KINDS = {"llama": {}, "gpt_oss": {"num_local_experts": 2, "num_experts_per_tok": 1,
                                  "layer_types": ["full_attention"] * 2}}
tokens = torch.randint(1, 32, (1, 6), generator=torch.Generator().manual_seed(0))
seen = {}
for kind, settings in KINDS.items():
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**{**SMALL, **settings})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for name, weight in model.named_parameters():
        if name.endswith("sinks"):
            torch.nn.init.constant_(weight, 2.0)
    given.clear()
    with torch.no_grad():
        eager = model(tokens).logits
        model.set_attn_implementation("plain")
        seen[kind] = float((model(tokens).logits - eager).abs().max())
    print(f"{kind}: logits differ by {seen[kind]:.1e}; other tensors that the function was given: {sorted(given)}")
raise SystemExit(not (seen["llama"] < 1e-5 and seen["gpt_oss"] > 1e-2 and "s_aux" in given))
PYTHON
if grep --ignore-case --quiet "sink" "$work/said"; then echo "there is a warning now"; exit 1; fi
echo unchanged
