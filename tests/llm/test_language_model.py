"""language_model.py: any decoder-only model by folder or hub id, layers cut, mistakes named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    CpmAntConfig,
    CpmAntForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from lea_core.common.errors import LeaError
from lea_core.llm import language_model
from tests.support import tiny_llm


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_first_layers_are_those_of_the_whole_model(tmp_path: Path, kind: str) -> None:
    whole = tiny_llm.load(tmp_path, 0, kind)
    part = tiny_llm.load(tmp_path, 2, kind)
    assert (whole.num_layers, part.num_layers, part.width) == (3, 2, 16)
    inputs = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0))
    hidden = whole.decoder(inputs_embeds=inputs, output_hidden_states=True).hidden_states[2]
    norm = whole.decoder.ln_f if kind == "gpt2" else whole.decoder.norm
    torch.testing.assert_close(part.decoder(inputs_embeds=inputs).last_hidden_state, norm(hidden))


def test_folder_is_pinned_by_content_and_not_copied(tmp_path: Path) -> None:
    model = tiny_llm.write(tmp_path / "model")
    language_model.fetch(str(model), None, tmp_path, tmp_path / "a")
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    language_model.fetch(f"file:{model}", None, tmp_path, tmp_path / "b")
    first, second = (json.loads((tmp_path / name / "llm.json").read_text()) for name in "ab")
    changed = {name for name in first["sha256"] if first["sha256"][name] != second["sha256"][name]}
    assert changed == {"config.json"}
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["llm.json"]


def test_hub_model_comes_from_the_cache_when_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--someone--tiny"
    tiny_llm.write(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    language_model.fetch("hub:someone/tiny@main", None, tmp_path, tmp_path / "llm")
    card = json.loads((tmp_path / "llm" / "llm.json").read_text())
    assert card == {"kind": "hub", "model": "someone/tiny", "revision": commit}
    with pytest.raises(LeaError, match=r"someone/other@main: not in the Hugging Face cache"):
        language_model.fetch("hub:someone/other@main", None, tmp_path, tmp_path / "other")
    with pytest.raises(LeaError, match="pins no revision: write hub:someone/tiny@COMMIT"):
        language_model.fetch("hub:someone/tiny", None, tmp_path, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_is_no_causal_language_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(LeaError, match=r"empty: no Hugging Face model: config.json is missing"):
        language_model.fetch(str(tmp_path / "empty"), None, tmp_path, tmp_path / "llm")
    (tmp_path / "notes.gguf").write_text("not a model")
    with pytest.raises(LeaError, match=r"notes.gguf: neither a folder nor a GGUF file"):
        language_model.fetch(str(tmp_path / "notes.gguf"), None, tmp_path, tmp_path / "llm")
    vision = tmp_path / "encoder"
    encoder = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(encoder).save_pretrained(vision)
    config = json.loads((vision / "config.json").read_text())
    (vision / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))
    language_model.fetch(str(vision), None, tmp_path, tmp_path / "llm")
    with pytest.raises(LeaError, match=r"encoder: cannot be loaded as a causal language model"):
        language_model.load(tmp_path / "llm", 0)


@pytest.mark.parametrize(
    ("lost", "added", "message"),
    [
        ("model.layers.1.", "", r"hold no model.layers.1.input_layernorm.weight, .* and 6 more: fetch the whole model"),
        ("lm_head", "", "hold no lm_head.weight: fetch the whole model"),
        (
            "",
            "model.layers.0.self_attn.q_proj.bias",
            "hold .*q_proj.bias, which LlamaForCausalLM does not read with this",
        ),
    ],
)
def test_weights_that_do_not_fit_the_config_are_named(tmp_path: Path, lost: str, added: str, message: str) -> None:
    file = tiny_llm.write(tmp_path / "model") / "model.safetensors"
    weights = {name: value for name, value in load_file(file).items() if not lost or not name.startswith(lost)}
    save_file(weights | ({added: torch.ones(16)} if added else {}), file, metadata={"format": "pt"})
    language_model.fetch(str(tmp_path / "model"), None, tmp_path, tmp_path / "llm")
    with pytest.raises(LeaError, match=message):
        language_model.load(tmp_path / "llm", 0)
    if lost == "model.layers.1.":  # of a layer that is not in use, nothing need be there
        assert language_model.load(tmp_path / "llm", 1).num_layers == 1


def test_the_fingerprint_knows_the_config(tmp_path: Path) -> None:
    tiny_llm.load(tmp_path)
    first, again = (language_model.fingerprint(language_model.load(tmp_path / "llm", 0)) for _ in range(2))
    assert again == first
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rms_norm_eps": 0.5}))
    language_model.fetch(str(tmp_path / "model"), None, tmp_path, tmp_path / "llm")
    assert language_model.fingerprint(language_model.load(tmp_path / "llm", 0)) != first


@pytest.mark.parametrize("change", ["other weights", "new", "gone"])
def test_a_model_that_changed_since_it_was_fetched_is_refused(tmp_path: Path, change: str) -> None:
    """Else what was computed before and after would be of two models under one name."""
    folder = tiny_llm.write(tmp_path / "model")
    language_model.fetch(str(folder), None, tmp_path, tmp_path / "llm")
    language_model.load(tmp_path / "llm", 0)
    (folder / "notes.md").write_text("which transformers does not read")
    file = folder / {"other weights": "model.safetensors", "new": "a.safetensors", "gone": "tokenizer.json"}[change]
    if change == "other weights":
        save_file({name: value + 1 for name, value in load_file(file).items()}, file, metadata={"format": "pt"})
    elif change == "new":
        save_file({}, file)
    else:
        file.unlink()
    with pytest.raises(LeaError, match=rf"^{file}: gone, new or changed .*: restore .* `dvc repro --force fetch_llm`$"):
        language_model.load(tmp_path / "llm", 0)
    if change != "gone":
        language_model.fetch(str(folder), None, tmp_path, tmp_path / "llm")
        language_model.load(tmp_path / "llm", 0)


def test_truncated_weights_and_too_many_layers(tmp_path: Path) -> None:
    tiny_llm.load(tmp_path)
    with pytest.raises(LeaError, match="has 3 layers, fewer than 4: lower it"):
        language_model.load(tmp_path / "llm", 4)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        file = tmp_path / "model" / name
        whole = file.read_bytes()
        damaged = whole.replace(b'"hidden_size": 16', b'"hidden_size": "a"') if name == "config.json" else whole[:-100]
        file.write_bytes(damaged)
        language_model.fetch(str(tmp_path / "model"), None, tmp_path, tmp_path / "llm")
        with pytest.raises(LeaError, match=r"model: cannot be loaded as a causal language model") as caught:
            language_model.load(tmp_path / "llm", 0)
        assert "\n" not in str(caught.value)
        file.write_bytes(whole)


def save(kind: type[PreTrainedModel], config: PretrainedConfig, folder: Path) -> Path:
    """A model of any kind with the tiny tokenizer, fetched; returns the folder to load."""
    tiny_llm.write(folder / "tokenizer")
    kind(config).save_pretrained(folder / "model")
    for file in (folder / "tokenizer").glob("tokenizer*"):
        file.rename(folder / "model" / file.name)
    language_model.fetch(str(folder / "model"), None, folder, folder / "llm")
    return folder / "llm"


T5 = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 14}
CPMANT = {"hidden_size": 8, "num_attention_heads": 2, "dim_head": 4, "dim_ff": 8, "num_hidden_layers": 1}
OPT = {"hidden_size": 8, "ffn_dim": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 14}


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        (T5ForConditionalGeneration, T5Config(**T5), "t5 is an encoder-decoder: use a decoder-only model"),
        (CpmAntForCausalLM, CpmAntConfig(**CPMANT, vocab_size=14), "CpmAntForCausalLM reads token ids alone"),
        (
            OPTForCausalLM,
            OPTConfig(**OPT, word_embed_proj_dim=4),
            "its input embeddings are 4 wide, its hidden states 8",
        ),
    ],
)
def test_a_model_that_cannot_be_fed_item_tokens_is_named(
    tmp_path: Path, kind: type[PreTrainedModel], config: PretrainedConfig, message: str
) -> None:
    folder = save(kind, config, tmp_path)
    with pytest.raises(LeaError, match=message) as caught:
        language_model.load(folder, 0)
    assert "\n" not in str(caught.value)


def test_a_model_without_the_hooks_is_named() -> None:
    """Stand-ins for what no installed architecture lacks: a decoder, a table of input embeddings."""

    class Part:
        def forward(self, inputs_embeds: torch.Tensor) -> None: ...

        def get_input_embeddings(self) -> None:
            raise NotImplementedError

    class Whole(Part):
        decoder: object = None

        def get_decoder(self) -> object:
            return self.decoder

    whole = Whole()
    for decoder, message in ((None, "m: Whole has no decoder"), (whole, "has no decoder"), (Part(), "has no table of")):
        whole.decoder = decoder
        with pytest.raises(LeaError, match=message):
            language_model._decoder(whole, 8, "m")
