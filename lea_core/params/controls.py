"""The section on controls: tables that stand in the place of the LE's, to see what the LE's own content is worth."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from lea_core.params.base import Section

# What may stand in the place of each part of the LE (lea_core/experiments/controls/); `policy` is made by a stage of
# its own.
StateControl = Literal["shuffled", "random", "constant", "text", "history_length", "future_length"]
RewardControl = Literal["shuffled", "logged", "mean", "constant", "popularity"]
ActionsControl = Literal["popularity", "item_knn", "text", "policy"]

RankingControl = Literal["popularity", "item_knn", "text", "policy"]
ItemsControl = Literal["shuffled", "random"]

POLICY = "policy"
# No control, though it is made as they are: the LE's own ranking, and item neighbours beside it.
LE_AND_NEIGHBOURS = "le_item_knn"
LE_SOURCES = ("le", LE_AND_NEIGHBOURS)
# A folder under data/ with tables of one signal -> the names of its controls.
CONTROLS: dict[str, tuple[str, ...]] = {
    "states": get_args(StateControl),
    "rewards": get_args(RewardControl),
    "actions": get_args(ActionsControl),
    "rankings": (*get_args(RankingControl), LE_AND_NEIGHBOURS),
    "items": get_args(ItemsControl),
}
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


class TableControl(Section):
    """data/<part>/<source>.parquet, made from the LE's table, the item vectors and the training events."""

    part: Literal["states", "rewards", "actions", "rankings", "items"]
    source: str

    @model_validator(mode="after")
    def _known(self) -> TableControl:
        known = [name for name in CONTROLS[self.part] if name != POLICY]
        if self.source == POLICY:
            raise ValueError("source policy is made from a trained variant: write it under controls.policies")
        if self.source not in known:
            raise ValueError(f"source {self.source!r} is no control of {self.part}: use {', '.join(known)}")
        return self


class PolicyControl(Section):
    """data/<part>/policy.parquet, made by the policy of a variant (of the first seed of train.seeds)."""

    part: Literal["actions", "rankings"]
    policy: str


class Controls(Section):
    """Which tables beside the LE's the pipeline makes: an entry for each; settings/controls.yaml has all controls."""

    seed: int  # of what is drawn
    sources: dict[Name, TableControl]
    policies: dict[Name, PolicyControl]

    @model_validator(mode="after")
    def _once(self) -> Controls:
        made = [(entry.part, entry.source) for entry in self.sources.values()]
        made += [(entry.part, POLICY) for entry in self.policies.values()]
        for part, source in made:
            if made.count((part, source)) > 1:
                raise ValueError(f"{part} {source} is made by two entries: remove one")
        return self

    def makes(self, folder: str, source: str) -> bool:
        """Whether an entry makes data/<folder>/<source>.parquet."""
        if source == POLICY:
            return any(entry.part == folder for entry in self.policies.values())
        return any((entry.part, entry.source) == (folder, source) for entry in self.sources.values())
