"""items + LLM -> data/item_tokens: one soft token and one content vector per item.

In: data/interactions/items.parquet, data/llm. Out: data/item_tokens/{items.parquet,measured.json,
statistics.safetensors}; also encoder.safetensors with method amortised; data/items/le.parquet, only the content
vectors, with which a variant's item embeddings may start. A killed run continues where it stopped (checkpoints.py).
Texts of earlier runs are not computed again (text_cache.py).
Run alone: python -m stages.tokenize_items
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.entrypoint import no_arguments, run

ITEMS, LLM, OUT = Path("data/interactions/items.parquet"), Path("data/llm"), Path("data/item_tokens")
VECTORS = Path("data/items/le.parquet")


def main(argv: list[str]) -> None:
    """Tokenise every item; takes no arguments."""
    import numpy as np
    import pyarrow as pa

    from lea_core import params
    from lea_core.common import tables
    from lea_core.common.artifacts import publish_folder, write_json, write_tensors
    from lea_core.common.sources import file_sha256
    from lea_core.llm import language_model
    from lea_core.llm.tokenize import tokenise

    no_arguments(argv)
    wanted = params.load().tokenize_items
    texts = tables.read_table(ITEMS, tables.ITEMS)["text"].to_pylist()
    result = tokenise(lambda layers: language_model.load(LLM, layers), texts, wanted)
    table = pa.table(
        {
            "item": np.arange(len(texts), dtype=np.int32),
            "token": tables.vectors(result.tokens.token),
            "pooled": tables.vectors(result.tokens.pooled),
            "content": tables.vectors(result.tokens.content),
        }
    )
    with publish_folder(OUT) as folder:
        tables.write_table(folder / "items.parquet", table, tables.ITEM_TOKENS)
        write_json(folder / "measured.json", result.measured)
        write_tensors(folder / "statistics.safetensors", vars(result.statistics))
        if result.encoder:
            write_tensors(folder / "encoder.safetensors", result.encoder)
    columns = {"item": table["item"], "vector": table["content"]}
    # What export reads beside the vectors: where it is another, this file is too, and the policies are trained anew.
    notes = {"llm": language_model.folder_hash(LLM), "statistics": file_sha256(OUT / "statistics.safetensors")}
    tables.write_parts(VECTORS, [pa.table(columns)], tables.ITEM_VECTORS, made_from=ITEMS, notes=notes)
    if result.checkpoint:
        result.checkpoint.remove()


if __name__ == "__main__":
    run(main)
