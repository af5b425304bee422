"""LE + states -> data/rankings/le.parquet: the most likely items by the LE in every training state.

In: data/interactions, data/item_tokens, data/le, data/states/le.parquet. The LLM is not read. Run alone:
python -m stages.rank
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.entrypoint import no_arguments, run

DATA = Path("data")


def main(argv: list[str]) -> None:
    """Rank at every training position; takes no arguments."""
    from lea_core import params
    from lea_core.annotation.rank import rankings
    from lea_core.common.tables import RANKINGS, write_parts
    from lea_core.data.leaks import training_events
    from lea_core.data.sequences import read_sequences
    from lea_core.environment.model import load_heads, read_item_tokens

    no_arguments(argv)
    count = params.load().rank.items
    train = training_events(read_sequences(DATA / "interactions"))
    heads = load_heads(DATA / "le", read_item_tokens(DATA / "item_tokens" / "items.parquet"))
    parts = rankings(heads, train, DATA / "states" / "le.parquet", count)
    write_parts(DATA / "rankings" / "le.parquet", parts, RANKINGS, DATA / "interactions" / "interactions.parquet")


if __name__ == "__main__":
    run(main)
