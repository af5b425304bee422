"""The section on baselines: what is ranked beside the variants, by the files of lea_core/baselines/rankers/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from lea_core.common.registry import BASELINES
from lea_core.params.base import Section
from lea_core.params.registered import OneOf, sections

# What reads what the LLM gave has a stage of its own. le: the LE as a recommender, the only one that asks the LLM.
WITH_LLM = ("text_knn", "le")


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("one is named twice: remove it")
    return names


class _Named(Section):
    names: Annotated[list[Annotated[str, OneOf((*BASELINES.names, *WITH_LLM))]], AfterValidator(_distinct)]


if TYPE_CHECKING:
    BaselineParams = _Named
else:
    BaselineParams = sections("BaselineParams", BASELINES, _Named)
