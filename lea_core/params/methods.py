"""The section on methods: the settings of each, by the files of lea_core/learners/methods/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from lea_core.common.registry import METHODS
from lea_core.params.q_learning import ActorCriticParams, QParams
from lea_core.params.registered import OneOf, sections

Method = Annotated[str, OneOf(METHODS.names)]
if TYPE_CHECKING:
    Methods = Any  # which sections it has is known when it runs
else:
    Methods = sections("Methods", METHODS)


def has_critic(method: str) -> bool:
    """Whether a method learns Q values, and so reads rewards and, in its critic, states of the LE."""
    return issubclass(METHODS.settings(method) or object, QParams)


def has_warm_up(method: str) -> bool:
    """Whether a method is another one before its second phase, of which no checkpoint is kept."""
    return issubclass(METHODS.settings(method) or object, ActorCriticParams)
