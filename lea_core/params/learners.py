"""The sections on the recommenders: backbones, methods, training, variants, evaluation and report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lea_core.params.base import Count, CountOrZero, NotNegative, Positive, Section, Share


class SasrecParams(Section):
    """SASRec: causal self-attention."""

    width: Count
    layers: Count
    heads: Count
    dropout: Share

    @model_validator(mode="after")
    def _divisible(self) -> SasrecParams:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}: change one of them")
        return self


class Gru4RecParams(Section):
    """GRU4Rec's recurrent network."""

    width: Count
    layers: Count
    dropout: Share


class CaserParams(Section):
    """Caser: convolutions over the last items."""

    width: Count
    window: Count  # items that a state reads
    heights: Annotated[list[Count], Field(min_length=1)]  # of the horizontal filters, in items
    filters: Count  # per height
    dropout: Share

    @model_validator(mode="after")
    def _fits(self) -> CaserParams:
        if max(self.heights) > self.window:
            raise ValueError(f"heights {self.heights} must fit into window {self.window}: change one of them")
        return self


class NextItNetParams(Section):
    """NextItNet: dilated causal convolutions."""

    width: Count
    dilations: Annotated[list[Count], Field(min_length=1)]  # of each residual block; its second half doubles it
    kernel: Annotated[int, Field(ge=2)]  # items that a convolution reads
    dropout: Share


class Backbones(Section):
    """Settings of each backbone; a variant names one."""

    sasrec: SasrecParams
    gru4rec: Gru4RecParams
    caser: CaserParams
    nextitnet: NextItNetParams


class SupervisedParams(Section):
    """Cross-entropy over all items."""

    label_smoothing: Share


class QParams(Section):
    """What the methods with a Q head share."""

    q_weight: NotNegative  # of the TD loss against the supervised loss
    gamma: Share  # discount
    negatives: Count  # sampled negative actions per state
    negative_reward: float  # of a sampled item, where no LE reward is used
    target_rate: Share  # how far the target network moves towards the online one at each step
    end_is_terminal: bool  # the papers' rule: no bootstrap after the last training event of a user


class SnqnParams(QParams):
    """Supervised negative Q-learning (SA2C paper, eq. 4-5)."""


class Sa2cParams(QParams):
    """Supervised advantage actor-critic (SA2C paper, eq. 6-8)."""

    warmup_epochs: CountOrZero  # SNQN before the advantage weights the supervised loss
    advantage_clip: list[float]  # [low, high]

    @model_validator(mode="after")
    def _ordered(self) -> Sa2cParams:
        if len(self.advantage_clip) != 2 or self.advantage_clip[0] >= self.advantage_clip[1]:
            raise ValueError("advantage_clip must be two numbers, the lower first, such as [0.0, 10.0]")
        return self


class Methods(Section):
    """Settings of each method; a variant names one."""

    supervised: SupervisedParams
    snqn: SnqnParams
    sa2c: Sa2cParams


class LeUseParams(Section):
    """How a learner uses the parts of the LE that its variant names."""

    state_width: Count  # the LE's state is projected to this width before the critic sees it
    state_alignment: NotNegative  # weight of the loss that has the recommender's state predict it; 0: critic only
    reward_scale: Positive  # the LE's reward enters as scale * sigmoid((reward - mean) / deviation of logged ones)
    action_weight: NotNegative  # of the proposed actions against the logged one, in the supervised loss
    action_q_weight: NotNegative  # and in the TD loss


class TrainParams(Section):
    """The training loop that all variants share."""

    seeds: Annotated[list[int], Field(min_length=1)]
    epochs: Count
    patience: Count  # evaluations without a better validation score before training stops
    evaluate_every: Count  # epochs
    history: Count  # longest history that the policy reads, in items
    batch_users: Count  # sequence windows per optimiser step
    learning_rate: Positive
    weight_decay: NotNegative
    gradient_clip: Positive
    event_rewards: dict[str, float]  # reward of a logged action by its event; "" is the event of data without events
    le: LeUseParams


class Variant(Section):
    """One recommender: a backbone, a method, and where its LE parts come from (`none` or `le`)."""

    backbone: Literal["sasrec", "gru4rec", "caser", "nextitnet"]
    method: Literal["supervised", "snqn", "sa2c"]
    state: Literal["none", "le"]
    reward: Literal["none", "le"]
    actions: Literal["none", "le"]

    @model_validator(mode="after")
    def _usable(self) -> Variant:
        if self.method == "supervised" and self.reward != "none":
            raise ValueError("method supervised reads no reward: set reward to none, or use snqn or sa2c")
        return self

    @property
    def uses_le(self) -> bool:
        """Whether any part of the LE is used."""
        return (self.state, self.reward, self.actions) != ("none", "none", "none")


class EvaluateParams(Section):
    """Ranking metrics."""

    cutoffs: Annotated[list[Count], Field(min_length=1)]
    mask_seen: bool  # leave the items of the history out of the ranking
    batch_users: Count


class ReportParams(Section):
    """The report's headline."""

    # The table is about it first, and the chart shows it; its cutoff is one of evaluate.cutoffs.
    metric: Annotated[str, Field(pattern=r"^(HR|NDCG|MRR)@[1-9][0-9]*$")]
