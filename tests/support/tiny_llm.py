"""A tiny randomly initialised causal LM with a real tokenizer, as a folder or a GGUF file; for unit tests alone."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import gguf
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

from lea_core.llm import language_model

WORDS = ["<pad>", "alien", "robot", "love", "war", "jazz", "sea", "ghost", "king", "cat", "dog", ":", "(", ")"]
SMALL = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
}
CONFIGS = {
    "llama": LlamaConfig(**SMALL),
    "qwen2": Qwen2Config(**SMALL),
    "gpt2": GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=3, n_head=2, n_positions=128, attn_pdrop=0.0),
}


def write(folder: Path, kind: str = "llama") -> Path:
    """Write model and tokenizer of one architecture; the same bytes for the same kind."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(CONFIGS[kind]).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<pad>").save_pretrained(folder)
    return folder


def load(folder: Path, layers: int = 0, kind: str = "llama") -> language_model.LanguageModel:
    """The tiny model as the pipeline loads it, in float32 so that parity can be exact."""
    language_model.fetch(str(write(folder / "model", kind)), None, folder / "cache", folder / "llm")
    model = language_model.load(folder / "llm", layers)
    model.causal.float()
    return language_model.LanguageModel(**{**vars(model), "dtype": torch.float32})


def write_gguf(
    file: Path,
    causal: Any,
    state: Callable[[gguf.GGUFWriter], object] = lambda _: None,
    merges: list[str] | None = None,
    without: Collection[str] = (),
) -> Path:
    """A Llama model as llama.cpp writes it. state: adds metadata or tensors.  without: tensors that are left out."""
    config, writer = causal.config, gguf.GGUFWriter(file, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*"abcdefghijklm", "ab"])
    if merges != []:
        writer.add_token_merges(merges or ["a b"])
    state(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, tensor in causal.state_dict().items():
        own = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if own not in without:
            if count := heads.get(own.split(".")[-2]):  # llama.cpp pairs the rotary halves
                tensor = tensor.unflatten(0, (count, 2, -1)).transpose(1, 2).flatten(0, 2)
            writer.add_tensor(own, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
