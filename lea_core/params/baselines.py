"""The section on baselines: what is ranked beside the variants, and its settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lea_core.params.base import Count, NotNegative, Positive, Section, Share


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("one is named twice: remove it")
    return names


class RecentPopularityParams(Section):
    """Popularity of late."""

    share: Annotated[Share, Field(gt=0.0)]  # of the time span of the training events, counted back from its end


class ItemNeighbourParams(Section):
    """Items taken by the same users as the last ones (lea_core/baselines/neighbours.py)."""

    recent: Count  # last items of a history that count
    decay: Positive  # weight of each older one against the next newer
    shrinkage: NotNegative  # added to the cosine's denominator: rare pairs count less
    neighbours: Count  # of each item that are kept


class SessionNeighbourParams(Section):
    """Items of the training sequences most like the history (lea_core/baselines/session_knn.py)."""

    recent: Count  # last items of a history that count, with weights that fall linearly
    neighbours: Count  # training sequences
    idf: bool  # rare items count more, in the similarity and in the score


class BaselineParams(Section):
    """What is ranked beside the variants. The text neighbours, the LE and popularity have no settings."""

    # le: the LE itself as a recommender; the only one that asks the LLM.
    names: Annotated[
        list[Literal["popularity", "recent_popularity", "item_knn", "session_knn", "text_knn", "le"]],
        AfterValidator(_distinct),
    ]
    recent_popularity: RecentPopularityParams
    item_knn: ItemNeighbourParams
    session_knn: SessionNeighbourParams
