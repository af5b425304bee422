"""items + LLM -> data/item_tokens: one soft token and one content vector per item.

In: data/interactions/items.parquet, data/llm. Out: data/item_tokens/{items.parquet,measured.json}.
Run alone: python -m stages.tokenize_items
"""

from __future__ import annotations

from pathlib import Path

from lea_core.errors import no_arguments, run

ITEMS, LLM, OUT = Path("data/interactions/items.parquet"), Path("data/llm"), Path("data/item_tokens")


def main(argv: list[str]) -> None:
    """Tokenise every item; takes no arguments."""
    import numpy as np
    import pyarrow as pa

    from lea_core import llm, params, tables
    from lea_core.artifacts import publish_folder, write_json
    from lea_core.item_tokens import item_tokens

    no_arguments(argv)
    wanted = params.load().tokenize_items
    texts = tables.read_table(ITEMS, tables.ITEMS)["text"].to_pylist()
    tokens, measured = item_tokens(lambda layers: llm.load(LLM, layers), texts, wanted)
    table = pa.table(
        {
            "item": np.arange(len(texts), dtype=np.int32),
            "token": tables.vectors(tokens.token),
            "pooled": tables.vectors(tokens.pooled),
            "content": tables.vectors(tokens.content),
        }
    )
    with publish_folder(OUT) as folder:
        tables.write_table(folder / "items.parquet", table, tables.ITEM_TOKENS)
        write_json(folder / "measured.json", measured)


if __name__ == "__main__":
    run(main)
