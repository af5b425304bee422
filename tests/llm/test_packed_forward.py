"""packed_forward.py: models that keep packed windows and actions apart pass, all others are refused in one line."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from lea_core.common.errors import LeaError
from lea_core.environment.model import Environment
from lea_core.llm import language_model, prefix_attention
from lea_core.llm.language_model import LanguageModel
from lea_core.llm.packed_forward import changed_by_others, check_independence
from tests.support.tiny_le import item_tokens, make

SMALL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LINEAR = {"layer_types": ["linear_attention", "full_attention"]} | {
    f"linear_{name}": 2 for name in ("num_value_heads", "num_key_heads", "key_head_dim", "value_head_dim")
}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
PLAIN = (
    *("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "olmo3", "exaone4", "granite"),
    *("phi3", "gpt_neox", "ernie4_5", "ministral"),
)
APART: dict[str, dict[str, Any]] = {kind: {} for kind in PLAIN} | {"gpt2": GPT2, "qwen3_moe": EXPERTS}
SEE_EACH_OTHER: dict[str, tuple[dict[str, Any], str]] = {
    "qwen3_5_text": (LINEAR, "linear_attention"),
    "qwen3_next": (LINEAR | EXPERTS | {"shared_expert_intermediate_size": 16}, "linear_attention"),
    "granitemoehybrid": (MAMBA | {"num_local_experts": 0, "shared_intermediate_size": 32}, "linear_attention"),
    "bamba": (MAMBA | {"attn_layer_indices": [1]}, "linear_attention"),
    "falcon_h1": (MAMBA | {"mamba_d_ssm": 32}, "hybrid"),
    "lfm2": ({"layer_types": ["conv", "full_attention"]}, "conv"),
    "mamba2": ({"num_heads": 4, "head_dim": 8, "state_size": 8, "n_groups": 1}, "linear_attention"),
}


def model(kind: str, settings: dict[str, Any], dtype: torch.dtype = torch.float32) -> LanguageModel:
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**{**SMALL, **settings})
    causal = AutoModelForCausalLM.from_config(config).to(dtype).eval()
    device = torch.device("cpu")
    return LanguageModel(causal, causal.get_decoder(), None, 16, 2, 64, language_model._window(config), device, dtype)


@pytest.mark.parametrize("kind", APART)
def test_softmax_attention_keeps_windows_and_actions_apart(kind: str) -> None:
    tried = model(kind, APART[kind])
    check_independence(tried)
    assert changed_by_others(tried) <= (1e-6 if kind == "qwen3_moe" else 0.0)
    prefix_attention.register()
    tried.decoder.set_attn_implementation(prefix_attention.NAME)
    assert changed_by_others(tried, use_prefix_attention=True) <= (1e-6 if kind == "qwen3_moe" else 0.0)


@pytest.mark.parametrize("kind", SEE_EACH_OTHER)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_along_the_row_is_refused(kind: str, dtype: torch.dtype) -> None:
    settings, layers = SEE_EACH_OTHER[kind]
    with pytest.raises(LeaError, match=rf"lets packed windows .* each other \(layers of type {layers}\)") as caught:
        check_independence(model(kind, settings, dtype))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("mpt", {"d_model": 16, "n_heads": 2, "n_layers": 2}, "reads packed windows otherwise than alone"),  # ALiBi
        ("bloom", {"n_head": 2, "n_layer": 2}, "reads no packed windows"),
        (
            "gpt_neo",
            {"num_heads": 2, "num_layers": 2, "attention_types": [[["global", "local"], 1]]},
            "local attention",
        ),
    ],
)
def test_positions_by_place_in_the_row_are_refused(kind: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LeaError, match=message):
        check_independence(model(kind, settings))


def test_a_sliding_window_is_given_up_under_the_mask() -> None:
    """The trial compares five tokens with the same alone, where the model's own window holds."""
    for kind in ("mistral", "gemma2", "ministral"):
        check_independence(model(kind, {"sliding_window": 5}))
        with pytest.raises(LeaError, match="reads packed windows otherwise than alone"):
            check_independence(model(kind, {"sliding_window": 4, "initializer_range": 0.5}))


@pytest.mark.parametrize(
    ("kind", "settings", "window"),
    [
        ("llama", {}, None),
        ("mistral", {"sliding_window": 7}, 7),
        ("qwen2", {"sliding_window": 7}, None),  # use_sliding_window is false
        ("gemma2", {"sliding_window": 7}, 7),
        ("gemma2", {"sliding_window": 7, "layer_types": ["full_attention"] * 2}, None),
        ("llama4_text", {"attention_chunk_size": 7, "layer_types": ["chunked_attention", "full_attention"]}, 7),
    ],
)
def test_the_tokens_that_a_layer_reaches(kind: str, settings: dict[str, Any], window: int | None) -> None:
    assert language_model._window(CONFIG_MAPPING[kind](**{**SMALL, **settings})) == window


def test_attention_by_prefix_that_leaks_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that agrees with the masked attention within what a number format may change, but looks beyond its mask."""
    attend = prefix_attention.attend

    def leaking(module: Any, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **more: Any) -> tuple[Tensor, None]:
        output, _ = attend(module, query, key, value, *rest, **more)
        return output + 0.01 * value.mean(), None

    monkeypatch.setattr(prefix_attention, "attend", leaking)
    le = make(tmp_path)
    le.optimize_for_inference()
    assert not le.use_prefix_attention


def test_attention_with_sinks_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its sinks, the hidden states of a small random model differ by less than rounding may."""
    shape = dataclasses.replace(make(tmp_path).shape, lora_rank=0)
    le = Environment(model("gpt_oss", {"num_local_experts": 4, "num_experts_per_tok": 2}), item_tokens(), shape)
    le.optimize_for_inference()
    assert not le.use_prefix_attention
    assert le.llm.decoder.config._attn_implementation == "eager"
    assert "slower than prefix attention on a CPU: its attention has sinks" in capsys.readouterr().err


def test_an_le_needs_windows_apart_and_within_reach(tmp_path: Path) -> None:
    le = make(tmp_path)
    hybrid = model("lfm2", SEE_EACH_OTHER["lfm2"][0])
    with pytest.raises(LeaError, match="layers of type conv"):
        type(le)(hybrid, item_tokens(), le.shape)
    near = dataclasses.replace(le.llm, window=6)
    with pytest.raises(LeaError, match=r"finetune_le\.history 6 .* the 6 tokens .*sliding window\): lower it to 5"):
        type(le)(near, item_tokens(), le.shape)
