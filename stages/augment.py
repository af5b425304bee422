"""LE + states -> data/actions/le.parquet: positive actions that the LE proposes, with score and reward.

In: data/interactions, data/llm, data/item_tokens, data/le, data/states/le.parquet. Run alone: python -m stages.augment
"""

from __future__ import annotations

from pathlib import Path

from lea_core.errors import no_arguments, run

INTERACTIONS, LLM, TOKENS, LE = (
    Path(f"data/{name}") for name in ("interactions", "llm", "item_tokens/items.parquet", "le")
)
STATES, OUT = Path("data/states/le.parquet"), Path("data/actions/le.parquet")


def main(argv: list[str]) -> None:
    """Propose actions at every training position; takes no arguments."""
    from lea_core import environment, llm, params, tables
    from lea_core.augment import augment
    from lea_core.leaks import training_events
    from lea_core.sequences import read_sequences

    no_arguments(argv)
    wanted = params.load()
    le = environment.load(LE, llm.load(LLM, wanted.llm.layers), environment.read_item_tokens(TOKENS))
    states = tables.read_table(STATES, tables.STATES)
    train = training_events(read_sequences(INTERACTIONS))
    tables.write_table(OUT, augment(le, train, states, wanted.preprocess.repeats, wanted.augment), tables.ACTIONS)


if __name__ == "__main__":
    run(main)
