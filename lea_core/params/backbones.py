"""The section on backbones: the settings of each, by the files of lea_core/models/backbones/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from lea_core.common.registry import BACKBONES
from lea_core.params.registered import OneOf, sections

Backbone = Annotated[str, OneOf(BACKBONES.names)]
if TYPE_CHECKING:
    Backbones = Any  # which sections it has is known when it runs
else:
    Backbones = sections("Backbones", BACKBONES)
