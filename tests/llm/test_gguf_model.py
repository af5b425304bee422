"""gguf_model.py: a GGUF file gives the model that it states, or one line that says what is in the way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from transformers import AutoModelForCausalLM, LlamaConfig

from lea_core.common.errors import LeaError
from lea_core.llm import language_model
from tests.support import tiny_llm

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
SCALINGS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    "llama3": {**LLAMA3, "original_max_position_embeddings": 32},
}


def llama(scaling: dict[str, Any], **changes: Any) -> Any:
    """A model whose weights float16 holds exactly, and large enough that positions matter."""
    torch.manual_seed(0)
    rope = {"rope_theta": 500.0, **scaling}
    config = LlamaConfig(**tiny_llm.SMALL, initializer_range=0.4, rope_parameters=rope, **changes)
    causal = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in causal.parameters():
            weight.copy_(weight.half())
    return causal


def states(kind: str, causal: Any) -> Callable[[GGUFWriter], None]:
    """What llama.cpp writes of a scaling."""

    def state(writer: GGUFWriter) -> None:
        rope = causal.config.rope_parameters
        if kind in ("linear", "yarn"):
            writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
            writer.add_rope_scaling_factor(rope["factor"])
        if kind == "yarn":
            writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if kind == "llama3":
            plain, scaled = (each.model.rotary_emb.inv_freq for each in (llama(SCALINGS["default"]), causal))
            writer.add_tensor("rope_freqs.weight", (plain / scaled).numpy())

    return state


@torch.no_grad()
@pytest.mark.parametrize("kind", SCALINGS)
def test_the_same_model_as_from_safetensors(tmp_path: Path, kind: str) -> None:
    causal = llama(SCALINGS[kind])
    file = tiny_llm.write_gguf(tmp_path / "m.gguf", causal, states(kind, causal))
    language_model.fetch(str(file), None, tmp_path, tmp_path / "from_gguf")
    tiny_llm.write(tmp_path / "model")
    causal.save_pretrained(tmp_path / "model")
    language_model.fetch(str(tmp_path / "model"), None, tmp_path, tmp_path / "from_folder")
    ids = torch.arange(100)[None] % 14
    found, expected = (
        language_model.load(tmp_path / name, 0).causal.float()(ids).logits for name in ("from_gguf", "from_folder")
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0.0)
    unscaled = llama(SCALINGS["default"])(ids).logits
    assert kind == "default" or float((found - unscaled).norm() / unscaled.norm()) > 0.1


def refused(file: Path, folder: Path) -> str:
    with pytest.raises(LeaError) as caught:
        language_model.fetch(str(file), None, folder, folder / "llm")
    assert not (folder / "llm").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (lambda w: w.add_uint16("split.count", 3), "one of 3 parts of a GGUF model (split.count): join them"),
        (lambda w: w.add_tensor("blk.0.attn_q.bias", np.ones(16, np.float32)), "no place for (blk.0.attn_q.bias): use"),
        (lambda w: w.add_tensor("blk.1.new.weight", np.ones(2, np.float32)), "no place for (blk.1.new.weight): use"),
        (lambda w: w.add_logit_scale(0.5), "states llama.logit_scale 0.5, but transformers makes LlamaConfig"),
        (lambda w: w.add_key_length(4), "states llama.attention.key_length 4, but transformers makes LlamaConfig"),
        (lambda w: w.add_sliding_window(8), "states llama.attention.sliding_window 8, but"),
        (
            lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE),
            "rotary scaling not known here (rope.scaling.type)",
        ),
        (lambda w: w.add_bos_token_id(77), "tokenizer cannot be built (IndexError: list index out of range)"),
    ],
)
def test_what_the_model_would_not_hold_is_refused(
    tmp_path: Path, state: Callable[[GGUFWriter], None], message: str
) -> None:
    file = tiny_llm.write_gguf(tmp_path / "m.gguf", llama(SCALINGS["default"]), state)
    assert message in refused(file, tmp_path)


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    file = tiny_llm.write_gguf(
        tmp_path / "m.gguf", llama(SCALINGS["default"]), without=("output_norm.weight", "blk.1.attn_q.weight")
    )
    assert "without model.layers.1.self_attn.q_proj.weight, model.norm.weight: use a file" in refused(file, tmp_path)


@pytest.mark.parametrize("merges", [[], ["ab"], ["a z"]])
def test_a_tokenizer_without_usable_merges_and_scores_is_refused(tmp_path: Path, merges: list[str]) -> None:
    file = tiny_llm.write_gguf(tmp_path / "m.gguf", llama(SCALINGS["default"]), merges=merges)
    assert "tokenizer cannot be built" in refused(file, tmp_path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = tiny_llm.write_gguf(tmp_path / "m.gguf", llama(SCALINGS["default"])).read_bytes()
    damaged = tmp_path / "damaged.gguf"
    for length in (5, 30, 100, 700):
        damaged.write_bytes(whole[:length])
        assert "damaged.gguf: GGUF file whose header is cut short: fetch it again" in refused(damaged, tmp_path)
    damaged.write_bytes(whole[:-50])
    assert "damaged.gguf: GGUF file that cannot be read (ValueError: " in refused(damaged, tmp_path)
    place = whole.index(b"output_norm.weight") + len("output_norm.weight") + 4 + 8  # its format
    damaged.write_bytes(whole[:place] + (99).to_bytes(4, "little") + whole[place + 4 :])
    assert "99) is not a valid GGMLQuantizationType): fetch it again, or use a file" in refused(damaged, tmp_path)


def test_weights_beyond_float16_are_refused(tmp_path: Path) -> None:
    causal = llama(SCALINGS["default"])
    with torch.no_grad():
        causal.model.norm.weight[0] = 1e6
    file = tiny_llm.write_gguf(tmp_path / "m.gguf", causal)
    assert "model.norm.weight beyond the range of float16" in refused(file, tmp_path)
