"""The baselines that need no language model, ranked as the policies are: data/baselines/NAME for each.

In: how to make their scorers. Out: a folder each (run.py), empty for one that `baselines.names` leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lea_core.baselines.neighbours import with_repeats
from lea_core.baselines.run import Log, leave_out, rank_baseline
from lea_core.data.sequences import Sequences
from lea_core.params import Params

if TYPE_CHECKING:
    from lea_core.metrics.full_ranking import Scorer

Maker = Callable[[], tuple["Scorer", int]]  # a scorer, and the history that it reads


def rank_cheap(makers: Mapping[str, Maker], train: Sequences, log: Log, params: Params, data: Path) -> None:
    """Rank by each of them; where nothing is masked, each knows how often users repeat an item (`with_repeats`)."""
    for name, make in makers.items():
        if name in params.baselines.names:
            made = make if params.evaluate.mask_seen else _repeating(make, train, log.longest)
            rank_baseline(name, made, False, log, params, data)
        else:
            leave_out(name, data)


def _repeating(make: Maker, train: Sequences, longest: int) -> Maker:
    return lambda: (with_repeats(make()[0], train), longest)
