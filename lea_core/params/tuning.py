"""The section on tuning: how many settings of each variant `lea tune` tries, and which."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from lea_core.params.base import Count, Section


class FloatRange(Section):
    """Any number from `low` to `high`."""

    low: float
    high: float
    log: bool  # drawn by its logarithm

    @model_validator(mode="after")
    def _ordered(self) -> FloatRange:
        if self.low >= self.high or (self.log and self.low <= 0.0):
            raise ValueError("low must be less than high, and above 0 where log is true: mend them")
        return self


class IntRange(Section):
    """The integers `low`, `low` + `step`, .. up to `high`."""

    low: int
    high: int
    step: Count

    @model_validator(mode="after")
    def _ordered(self) -> IntRange:
        if self.low >= self.high or (self.high - self.low) % self.step:
            raise ValueError("high must be low and a multiple of step more: mend them")
        return self


class Choices(Section):
    """One of these values."""

    choices: Annotated[list[bool | int | float | str | None], Field(min_length=2)]


def _kind(value: Any) -> Literal["float range", "integer range", "choice"]:
    """Which class a dimension is: its keys say so."""
    keys = value if isinstance(value, dict) else vars(value) if isinstance(value, Section) else {}
    return "choice" if "choices" in keys else "integer range" if "step" in keys else "float range"


Dimension = FloatRange | IntRange | Choices


class TuneParams(Section):
    """`lea tune`: so many trials for every variant, the first with its present settings; no stage reads this."""

    trials: Count  # of each variant, whatever the number of its keys
    seed: int  # of the sampler that proposes settings
    seeds: Annotated[list[int], Field(min_length=1)]  # of the trainings; a trial's score is their mean
    # What may change: keys of train, methods and backbones, as in a variant's `set`. A variant is tuned over those that
    # it may set: train.*, those of its method and those of its backbone.
    space: Annotated[
        dict[
            str,
            Annotated[
                Annotated[FloatRange, Tag("float range")]
                | Annotated[IntRange, Tag("integer range")]
                | Annotated[Choices, Tag("choice")],
                Discriminator(_kind),
            ],
        ],
        Field(min_length=1),
    ]
