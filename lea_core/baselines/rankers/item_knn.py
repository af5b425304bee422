"""Item neighbours: items that the same users interacted with as the last ones (neighbours.py)."""

from __future__ import annotations

from lea_core.baselines.neighbours import item_neighbours
from lea_core.baselines.run import Log
from lea_core.metrics.full_ranking import Scorer
from lea_core.params.base import Count, NotNegative, Positive, Section


class Settings(Section):
    """Items that the same users interacted with as the last ones."""

    recent: Count  # last items of a history that count
    decay: Positive  # weight of each older one against the next newer
    shrinkage: NotNegative  # added to the cosine's denominator: rare pairs count less
    neighbours: Count  # of each item that are kept


def scorer(log: Log, settings: Settings) -> tuple[Scorer, int]:
    """The scorer, and how much of a history it reads."""
    return item_neighbours(log.train, **settings.model_dump()), settings.recent
