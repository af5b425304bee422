"""Numbers in their ranges, for the settings of backbones and of all other sections of params.yaml.

In: an annotation such as `width: Count`. Out: what pydantic checks, without importing it here: backbones are read where
a policy is served too, and no pydantic is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Bounds:
    """Limits of a number, ge <= x <= le, gt < x < lt, or the least length of a list; None: no limit."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    min_length: int | None = None

    def admits(self, number: float) -> bool:
        """Whether a finite number is within the limits."""
        low, high = _limit((self.ge, self.gt), -math.inf), _limit((self.le, self.lt), math.inf)
        return math.isfinite(number) and low <= number <= high and number not in (self.gt, self.lt)

    def __str__(self) -> str:
        return f"between {_limit((self.ge, self.gt), -math.inf):g} and {_limit((self.le, self.lt), math.inf):g}"

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """What pydantic makes of the annotated type, with these limits."""
        return {**handler(source), **{name: limit for name, limit in vars(self).items() if limit is not None}}


def _limit(limits: tuple[float | None, float | None], none: float) -> float:
    return next((limit for limit in limits if limit is not None), none)


Share = Annotated[float, Bounds(ge=0.0, le=1.0)]
OpenShare = Annotated[float, Bounds(gt=0.0, lt=1.0)]
Positive = Annotated[float, Bounds(gt=0.0)]
NotNegative = Annotated[float, Bounds(ge=0.0)]
Count = Annotated[int, Bounds(ge=1)]
CountOrZero = Annotated[int, Bounds(ge=0)]
