"""control <name>: an entry of params `controls.sources` -> data/<signal>/<source>.parquet, a control of that signal.

In: data/interactions, data/item_tokens/items.parquet, data/<signal>/le.parquet. Alone: `python -m stages.control
state-shuffled`, for an entry of that name.
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common import tables
from lea_core.common.entrypoint import run
from lea_core.common.errors import LeaError
from lea_core.params import load

DATA = Path("data")


def main(argv: list[str]) -> None:
    """Make the control named in `argv`."""
    from lea_core.data.leaks import training_events
    from lea_core.data.sequences import read_sequences
    from lea_core.experiments.controls.tables import World, control_table, read_le, write

    params = load()
    if len(argv) != 1 or argv[0] not in params.controls.sources:
        names = ", ".join(params.controls.sources) or "controls.sources, which has none"
        raise LeaError(f"usage: python -m stages.control NAME, one of {names}")
    control = params.controls.sources[argv[0]]
    tokens = tables.read_table(DATA / "item_tokens" / "items.parquet", tables.ITEM_TOKENS, columns=("content",))
    world = World(
        training_events(read_sequences(DATA / "interactions")),
        tables.to_numpy(tokens, "content"),
        params.finetune_le.recent_items,
        params.finetune_le.recent_decay,
    )
    le = read_le(DATA, control.part)
    write(
        DATA, control.part, control.source, control_table(control.part, control.source, le, world, params.controls.seed)
    )


if __name__ == "__main__":
    run(main)
