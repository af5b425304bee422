"""Popularity: every history gets the items' training counts."""

from __future__ import annotations

from lea_core.baselines.neighbours import popularity
from lea_core.baselines.run import Log
from lea_core.metrics.full_ranking import Scorer


def scorer(log: Log, _settings: None) -> tuple[Scorer, int]:
    """The scorer, and how much of a history it reads."""
    return popularity(log.counts), 1
