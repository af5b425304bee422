"""The section on controls: tables that stand in the place of the LE's, to see what the LE's own content is worth."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from lea_core.common.layout import POLICY, SIGNALS
from lea_core.params.base import Section
from lea_core.params.registered import OneOf

# A folder under data/ with tables of one signal -> the names of its controls.
CONTROLS = {signal.folder: signal.controls for signal in SIGNALS.values()}
BY_POLICY = tuple(folder for folder, names in CONTROLS.items() if POLICY in names)
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


def source_of(signal: str) -> OneOf:
    """Where a signal may come from."""
    return OneOf(("none", "le", *SIGNALS[signal].controls))


class TableControl(Section):
    """data/<part>/<source>.parquet, made from the LE's table, the item vectors and the training events."""

    part: Annotated[str, OneOf(tuple(CONTROLS))]
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

    part: Annotated[str, OneOf(BY_POLICY)]
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
