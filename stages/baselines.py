"""interactions + content vectors -> data/baselines/NAME: what needs no training and no LLM, ranked as policies are.

In: data/interactions, data/item_tokens. Out: for each of them a folder with ranks.parquet, metrics.json and cost.json
(run.py), empty for one that `baselines.names` leaves out. With `evaluate.mask_seen: false` each knows how
often users repeat (neighbours.with_repeats). Run alone: python -m stages.baselines
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from lea_core.common.entrypoint import no_arguments, run
from lea_core.metrics.full_ranking import Scorer

DATA = Path("data")


def main(argv: list[str]) -> None:
    """Rank every held-out event by every cheap baseline; takes no arguments."""
    from lea_core import params
    from lea_core.baselines.neighbours import text_neighbours, with_repeats
    from lea_core.baselines.run import leave_out, rank_baseline, read_log
    from lea_core.common.registry import BASELINES
    from lea_core.common.tables import ITEM_TOKENS, read_table, to_numpy

    no_arguments(argv)
    wanted = params.load()
    p = wanted.baselines
    log = read_log(DATA / "interactions")
    content = to_numpy(read_table(DATA / "item_tokens" / "items.parquet", ITEM_TOKENS, columns=("content",)), "content")
    cheap: dict[str, Callable[[], tuple[Scorer, int]]] = {
        name: partial(BASELINES.load(name).scorer, log, getattr(p, name, None)) for name in BASELINES.names
    }
    cheap["text_knn"] = lambda: (text_neighbours(content), 1)

    def repeating(make: Callable[[], tuple[Scorer, int]]) -> tuple[Scorer, int]:
        return with_repeats(make()[0], log.train), log.longest

    for name, make in cheap.items():
        if name in p.names:
            made = make if wanted.evaluate.mask_seen else partial(repeating, make)
            rank_baseline(name, made, False, log, wanted, DATA)
        else:
            leave_out(name, DATA)


if __name__ == "__main__":
    run(main)
