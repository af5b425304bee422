"""Popularity of late (neighbours.py)."""

from __future__ import annotations

from typing import Annotated

from lea_core.baselines.neighbours import popularity, recent_counts
from lea_core.baselines.run import Log
from lea_core.common.bounds import Bounds
from lea_core.metrics.full_ranking import Scorer
from lea_core.params.base import Section


class Settings(Section):
    """Popularity of late."""

    # of the time span of the training events, counted back from its end
    share: Annotated[float, Bounds(gt=0.0, le=1.0)]


def scorer(log: Log, settings: Settings) -> tuple[Scorer, int]:
    """The scorer, and how much of a history it reads."""
    return popularity(recent_counts(log.train, log.times, settings.share)), 1
