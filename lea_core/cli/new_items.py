"""`lea add-items`: a policy that takes new items by their texts.

In: a policy folder, a file of new items, the LLM of training. Out: another policy folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lea_core.cli.printing import needing, say

EXAMPLES = ["lea add-items data/policy --items new.csv --out data/policy-more", "lea add-items --items new.jsonl"]
DEFAULT = Path("data/policy")


@needing("the pipeline", "train")
def add_items(
    items: Annotated[Path, typer.Option(help="Parquet, CSV or JSON lines with the columns item_id and text.")],
    folder: Annotated[Path, typer.Argument(help="The policy's folder.")] = DEFAULT,
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: the policy's own.")] = None,
    llm: Annotated[Path, typer.Option(help="The LLM of training.")] = Path("data/llm"),
    boost: Annotated[
        float | None, typer.Option(help="Added to the new items' scores: higher, and they are recommended more often.")
    ] = None,
) -> None:
    """Add items without interactions to a policy, by their texts: what training made of like texts is theirs."""
    from lea_core.policy import Policy, item_texts, new_items
    from lea_core.policy.item_path import BOOST

    path = new_items.read_item_path(folder)
    ids, texts = item_texts.read_new_items(items)
    new_items.check_ids(ids, Policy.load(folder).item_ids)  # before the LLM is asked
    vectors = item_texts.vectors_of(texts, path, llm)
    used = BOOST if boost is None else boost
    new_items.add_items(folder, out or folder, ids, vectors, used)
    explained = path.arrays["explained"][1]
    sentences = (
        f"{len(ids)} items added: {out or folder}. {used:g} is added to their scores (--boost).",
        f"Texts explain {explained:.0%} of what training made of an item, on items left out of the fit. They are read "
        f"as in training, where a text was {path.reading['text']!r}.",
    )
    for sentence in sentences:
        say(sentence)
