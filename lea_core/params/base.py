"""What every section of params.yaml is made of: the class `Section`, and the numbers in their ranges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lea_core.common.bounds import Count, CountOrZero, NotNegative, OpenShare, Positive, Share

__all__ = ["Count", "CountOrZero", "NotNegative", "OpenShare", "Positive", "Section", "SectionError", "Sha256", "Share"]

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SectionError(ValueError):
    """What `Section._problems` found, one argument each."""


class Section(BaseModel):
    """A section of params.yaml: no unknown keys, no silent conversion of types, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def _problems(self) -> Iterable[str]:
        """Say what is wrong with values that are right each for itself, and the mend of each."""
        return ()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if found := tuple(self._problems()):
            raise SectionError(*found)
        return self
