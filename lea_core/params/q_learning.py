"""What the settings of several methods share; those of one alone are in its file (lea_core/learners/methods/)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lea_core.params.base import Count, CountOrZero, NotNegative, Positive, Section, Share

if TYPE_CHECKING:
    from lea_core.params import TrainParams


class MethodParams(Section):
    """The settings of a method."""

    def cannot_train(self, key: str, train: TrainParams) -> Iterator[str]:  # noqa: ARG002
        """Say why these settings and those of the training do not fit, and the mend; key: of the section."""
        return iter(())


class QParams(MethodParams):
    """What the methods with a Q head share, and all that SQN has (SQN paper, eq. 5-8)."""

    q_weight: NotNegative  # of the TD loss against the supervised loss
    gamma: Share  # discount
    half_td: bool  # the authors' factor 0.5 before the squared TD error; their papers print none
    # How far the target network moves towards the online one at each step; null: the papers' two full networks. Each
    # step, a random one is updated, and the other one gives its targets (double Q).
    target_rate: Share | None
    target_dropout: bool  # the authors' code leaves dropout on where targets are computed
    end_is_terminal: bool  # the papers' rule: no bootstrap after the last training event of a user


class NegativeParams(QParams):
    """Q-learning with sampled negatives, and all that SNQN has (SA2C paper, eq. 4-5)."""

    negatives: Count  # sampled negative actions per state
    negative_reward: float  # of a sampled item, where no LE reward is used


class ActorCriticParams(QParams):
    """An actor-critic: in its second phase the critic weights the supervised loss."""

    warmup_epochs: CountOrZero  # before the second phase
    fresh_optimiser: bool  # begin the second phase with new moments, as the authors' code of SA2C does
    second_learning_rate: Positive | None  # of the second phase; null: train.learning_rate
    weight_mean: Positive | None  # mean size of the critic's weights in a batch; null: as they are, the papers

    def cannot_train(self, key: str, train: TrainParams) -> Iterator[str]:
        """A training that ends within the warm-up."""
        if train.epochs <= self.warmup_epochs:
            yield (
                f"train.epochs {train.epochs} ends within {key}.warmup_epochs {self.warmup_epochs}: "
                "raise the former or lower the latter"
            )


class OffPolicyParams(Section):
    """The ratio pi(a+ | s) / beta(a+) of policy and popularity that corrects for logged data (SA2C paper, eq. 9-10)."""

    low: NotNegative  # the ratio is clipped to [low, high],
    high: Positive
    power: Share  # and raised to this power, 0 for no correction

    def _problems(self) -> Iterator[str]:
        if self.low >= self.high:
            yield "low must be less than high: mend them"
