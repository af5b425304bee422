#!/usr/bin/env bash
# transformers 5.23.0: layers with a recurrent state or a convolution look past a 4D attention mask. Seen on 2026-11-30.
#
# Two sequences stand in one row under a mask (1, 1, N, N) that closes each to the other, with position ids from 0 in
# each. Softmax attention (llama, qwen3, gemma3, mpt) keeps the second one's states to the bit when the first one's tokens
# change. In qwen3_5_text, bamba, falcon_h1 and lfm2 they change: linear attention, state space and short convolution
# layers ignore such a mask and run on over the row. There is no error and no warning. Seen: changes of 5e-5 (lfm2) to
# .14 (bamba) of the states' length with random tiny weights. Exits with an error where this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 transformers==5.23.0 gguf==0.19.0 accelerate==1.15.0
cd "$work"
export HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error
"$work/venv/bin/python" - <<'PYTHON'
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

SMALL = dict(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, head_dim=8, max_position_embeddings=64, pad_token_id=0)
MAMBA = dict(mamba_n_heads=4, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=8)
LINEAR = {f"linear_{name}": 2 for name in ("num_value_heads", "num_key_heads", "key_head_dim", "value_head_dim")}
KINDS = {
    "llama": {}, "qwen3": {}, "gemma3_text": {},
    "qwen3_5_text": {**LINEAR, "layer_types": ["linear_attention", "full_attention"]},
    "bamba": {**MAMBA, "attn_layer_indices": [1]},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 32},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mpt": {"d_model": 16, "n_heads": 2, "n_layers": 2},
}
# Two sequences of six tokens in one row: a mask (1, 1, 12, 12) that is causal within each and closed between them.
sees = torch.block_diag(*[torch.ones(6, 6).tril()] * 2) > 0
mask = torch.zeros(1, 1, 12, 12).masked_fill(~sees, torch.finfo(torch.float32).min)
positions = torch.arange(6).repeat(2)[None]
first, second, other = torch.randint(1, 32, (3, 1, 6), generator=torch.Generator().manual_seed(0))
seen = {}
for kind, settings in KINDS.items():
    torch.manual_seed(0)
    decoder = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**{**SMALL, **settings})).eval().get_decoder()

    def states(before):
        vectors = decoder.get_input_embeddings()(torch.cat([before, second], dim=1))
        with torch.no_grad():
            hidden = decoder(inputs_embeds=vectors, attention_mask=mask, position_ids=positions, use_cache=False)
        return hidden.last_hidden_state[0, 6:]

    one, two = states(first), states(other)
    seen[kind] = float(((one - two).norm(dim=1) / one.norm(dim=1)).max())
    print(f"{kind}: the second sequence's states change by {seen[kind]:.1e} with the first sequence's tokens")
softmax = ("llama", "qwen3", "gemma3_text", "mpt")
raise SystemExit(not all((value == 0.0) == (kind in softmax) for kind, value in seen.items()))
PYTHON
echo unchanged
