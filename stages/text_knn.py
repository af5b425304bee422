"""interactions + content vectors -> data/baselines/text_knn: the items whose texts are most like the last one's.

In: data/interactions, data/item_tokens/items.parquet. Out: a folder as of any baseline, empty where `baselines.names`
leaves it out; and data/stamps/items/le.json, see stamp_le.py. Run alone: python -m stages.text_knn
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.entrypoint import no_arguments, run

DATA = Path("data")
TOKENS = DATA / "item_tokens" / "items.parquet"


def main(argv: list[str]) -> None:
    """Rank every held-out event by it; takes no arguments."""
    from lea_core import params
    from lea_core.baselines.cheap import rank_cheap
    from lea_core.baselines.neighbours import text_neighbours
    from lea_core.baselines.run import read_log
    from lea_core.common.stamps import write_stamp
    from lea_core.common.tables import ITEM_TOKENS, read_table, to_numpy
    from lea_core.data.leaks import training_events

    no_arguments(argv)
    wanted = params.load()
    log = read_log(DATA / "interactions")
    content = to_numpy(read_table(TOKENS, ITEM_TOKENS, columns=("content",)), "content")
    train = training_events(log.sequences)
    rank_cheap({"text_knn": lambda: (text_neighbours(content), 1)}, train, log, wanted, DATA)
    write_stamp(DATA, "items", "le", [TOKENS, DATA / "baselines" / "text_knn"])


if __name__ == "__main__":
    run(main)
