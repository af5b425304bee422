"""A tiny randomly initialised causal LM with a real tokenizer, as a Hugging Face folder; for unit tests alone."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

from lea_core import llm

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


def load(folder: Path, layers: int = 0, kind: str = "llama") -> llm.LanguageModel:
    """The tiny model as the pipeline loads it, in float32 so that parity can be exact."""
    llm.fetch(str(write(folder / "model", kind)), None, folder / "cache", folder / "llm")
    model = llm.load(folder / "llm", layers)
    model.causal.float()
    return llm.LanguageModel(**{**vars(model), "dtype": torch.float32})
