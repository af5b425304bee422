"""LE + training events -> data/states/le.parquet and data/rewards/le.parquet.

In: data/interactions, data/llm, data/item_tokens, data/le. Run alone: python -m stages.annotate
"""

from __future__ import annotations

from pathlib import Path

from lea_core.errors import no_arguments, run

INTERACTIONS, LLM, TOKENS, LE = (
    Path(f"data/{name}") for name in ("interactions", "llm", "item_tokens/items.parquet", "le")
)
STATES, REWARDS = Path("data/states/le.parquet"), Path("data/rewards/le.parquet")


def main(argv: list[str]) -> None:
    """Annotate every training position; takes no arguments."""
    from lea_core import environment, llm, params, tables
    from lea_core.annotate import annotate
    from lea_core.leaks import training_events
    from lea_core.sequences import read_sequences

    no_arguments(argv)
    wanted = params.load()
    le = environment.load(LE, llm.load(LLM, wanted.llm.layers), environment.read_item_tokens(TOKENS))
    states, rewards = annotate(le, training_events(read_sequences(INTERACTIONS)), wanted.annotate)
    tables.write_table(STATES, states, tables.STATES)
    tables.write_table(REWARDS, rewards, tables.REWARDS)


if __name__ == "__main__":
    run(main)
