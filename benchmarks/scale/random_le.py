"""An LE with a random LLM, two layers of width 16, so that what `annotate` takes is our own work and not the LLM's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from benchmarks.scale.plan import HISTORY
from lea_core.common.tables import ITEM_TOKENS, vectors, write_table
from lea_core.environment.model import Environment, Shape
from lea_core.llm import language_model
from lea_core.llm.pooled_tokens import ItemTokens

WIDTH, CONTENT = 16, 4
SIZES = {
    "vocab_size": 16,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
}
SHAPE = Shape(
    layers=2,
    history=HISTORY,
    recent_items=2,
    recent_decay=0.5,
    temperature=0.25,
    head_width=8,
    dropout=0.0,
    lora_rank=2,
    lora_alpha=4,
    lora_targets=["q_proj", "v_proj"],
)


def write_random_le(folder: Path, items: int) -> None:
    """data/llm, data/item_tokens and data/le in `folder`, for so many items."""
    model, data = folder / "model", folder / "data"
    AutoModelForCausalLM.from_config(LlamaConfig(**SIZES)).save_pretrained(model)
    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0}, unk_token="<pad>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(model)
    language_model.fetch(str(model), None, folder / "cache", data / "llm")
    rng = np.random.default_rng(0)
    token, pooled = rng.normal(size=(2, items, WIDTH)).astype(np.float32)
    tokens = ItemTokens(token, pooled, rng.normal(size=(items, CONTENT)).astype(np.float32))
    columns = {name: vectors(value) for name, value in vars(tokens).items()}
    table = pa.table({"item": np.arange(items, dtype=np.int32), **columns})
    write_table(data / "item_tokens" / "items.parquet", table, ITEM_TOKENS)
    Environment(language_model.load(data / "llm", SHAPE.layers), tokens, SHAPE).save(data / "le", {})
