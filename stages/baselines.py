"""interactions -> data/baselines/NAME: what needs no training and no LLM, ranked as policies are.

Out: for each of them a folder with ranks.parquet, metrics.json and cost.json (run.py), empty for one that
`baselines.names` leaves out. With `evaluate.mask_seen: false` each knows how often users repeat
(cheap.py). Run alone: python -m stages.baselines
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lea_core.common.entrypoint import no_arguments, run

DATA = Path("data")


def main(argv: list[str]) -> None:
    """Rank every held-out event by every cheap baseline; takes no arguments."""
    from lea_core import params
    from lea_core.baselines.cheap import rank_cheap
    from lea_core.baselines.run import read_log
    from lea_core.common.registry import BASELINES

    no_arguments(argv)
    wanted = params.load()
    p = wanted.baselines
    log = read_log(DATA / "interactions")
    cheap = {name: partial(BASELINES.load(name).scorer, log, getattr(p, name, None)) for name in BASELINES.names}
    rank_cheap(cheap, log.train, log, wanted, DATA)


if __name__ == "__main__":
    run(main)
