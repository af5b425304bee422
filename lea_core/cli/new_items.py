"""`lea add-items`: adds new items to a policy by their texts.

In: a policy folder, a file of new items, the LLM of training. Out: another policy folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lea_core.cli.printing import needing, say

EXAMPLES = [
    "lea add-items --items new.csv --out data/policy-more",
    "lea add-items data/policy --items new.parquet --out more --boost 1",
]
DEFAULT = Path("data/policy")


@needing("the language model of training, so the pipeline", "train")
def add_items(
    items: Annotated[Path, typer.Option(help="Parquet, CSV or JSON lines with the columns item_id and text.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    folder: Annotated[Path, typer.Argument(help="The policy's folder.")] = DEFAULT,
    llm: Annotated[Path, typer.Option(help="Folder of the language model of training.")] = Path("data/llm"),
    boost: Annotated[
        float | None, typer.Option(help="Added to the new items' scores: the higher, the more they are recommended.")
    ] = None,
) -> None:
    """Add items without interactions to a policy, by their texts."""
    from lea_core.serving import Policy, item_texts, new_items
    from lea_core.serving.text_projection import BOOST

    path = new_items.read_item_path(folder)
    ids, texts = item_texts.read_new_items(items)
    new_items.check_ids(ids, Policy.load(folder).item_ids)  # before the LLM is asked
    vectors = item_texts.vectors_of(texts, path, llm)
    used = BOOST if boost is None else boost
    new_items.add_items(folder, out, ids, vectors, used)
    say(f"{len(ids)} items added: {out}. {used:g} is added to their scores (--boost).")
    say(
        f"Texts explain {path.arrays['explained'][1]:.0%} of what training made of an item, on items left out of the "
        f"fit. They are read as in training, where a text was {path.reading['text']!r}."
    )
