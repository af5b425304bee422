"""LE -> data/baselines/le: the LE itself as a recommender, ranked as policies are.

In: data/interactions, data/llm, data/item_tokens, data/le. Out: ranks.parquet, metrics.json and cost.json, the seconds
of the LLM in it (run.py); an empty folder where `baselines.names` leaves `le` out. Run alone:
python -m stages.evaluate_le
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.entrypoint import no_arguments, run

DATA = Path("data")


def main(argv: list[str]) -> None:
    """Rank every held-out event by the LE; takes no arguments."""
    import numpy as np

    from lea_core import params
    from lea_core.baselines.environment import le_ranker
    from lea_core.baselines.run import leave_out, rank_baseline, read_log
    from lea_core.common.progress import bar
    from lea_core.data.sequences import SPLITS
    from lea_core.environment import model as environment
    from lea_core.llm import language_model

    no_arguments(argv)
    wanted = params.load()
    if "le" not in wanted.baselines.names:
        leave_out("le", DATA)
        return
    log = read_log(DATA / "interactions")
    tokens = environment.read_item_tokens(DATA / "item_tokens" / "items.parquet")
    le = environment.load(DATA / "le", language_model.load(DATA / "llm", wanted.llm.layers), tokens)
    history = le.shape.history
    to_read = sum(int(np.minimum(log.sequences.targets(split)[1], history).sum()) for split in SPLITS[1:])
    with bar(to_read, "the LE ranks", "token") as progress:
        ranker = le_ranker(le, wanted.annotate.batch_tokens, progress.update)
        rank_baseline("le", lambda: (ranker, history), True, log, wanted, DATA)


if __name__ == "__main__":
    run(main)
