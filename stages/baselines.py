"""interactions -> data/baselines/NAME: what needs no training and no LLM, ranked as policies are.

Out: for each of them a folder with ranks.parquet, metrics.json and cost.json (run.py), empty for one that
`baselines.names` leaves out. With `evaluate.mask_seen: false` each knows how often users repeat
(cheap.py). Run alone: python -m stages.baselines
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.entrypoint import no_arguments, run

DATA = Path("data")


def main(argv: list[str]) -> None:
    """Rank every held-out event by every cheap baseline; takes no arguments."""
    import numpy as np

    from lea_core import params
    from lea_core.baselines import neighbours
    from lea_core.baselines.cheap import rank_cheap
    from lea_core.baselines.run import read_log
    from lea_core.baselines.session_knn import session_neighbours
    from lea_core.data.leaks import training_events
    from lea_core.data.sequences import SPLITS

    no_arguments(argv)
    wanted = params.load()
    p = wanted.baselines
    log = read_log(DATA / "interactions")
    train = training_events(log.sequences)
    times = log.timestamps[log.sequences.split == SPLITS.index("train")]
    counts = np.bincount(train.items, minlength=train.num_items)
    knn, session = p.item_knn, p.session_knn
    cheap = {
        "popularity": lambda: (neighbours.popularity(counts), 1),
        "recent_popularity": lambda: (
            neighbours.popularity(neighbours.recent_counts(train, times, p.recent_popularity.share)),
            1,
        ),
        "item_knn": lambda: (
            neighbours.item_neighbours(train, knn.recent, knn.decay, knn.shrinkage, knn.neighbours),
            knn.recent,
        ),
        # The whole history: by it the user's own sequence is known and left out.
        "session_knn": lambda: (
            session_neighbours(train, times, session.recent, session.neighbours, session.idf),
            log.longest,
        ),
    }
    rank_cheap(cheap, train, log, wanted, DATA)


if __name__ == "__main__":
    run(main)
