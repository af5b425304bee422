"""The sections on the recommenders: backbones, methods, training, variants, evaluation and report."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lea_core.common.layout import FOLDERS, LE_SOURCES
from lea_core.params.backbones import Backbone
from lea_core.params.base import Count, NotNegative, Positive, Section, Share
from lea_core.params.controls import source_of
from lea_core.params.methods import Method, has_critic


class SoftmaxLoss(Section):
    """Cross-entropy over all items."""

    name: Literal["softmax"]


class SampledSoftmaxLoss(Section):
    """Cross-entropy over the logged item and a sample that the whole batch shares, corrected for how it was drawn."""

    name: Literal["sampled_softmax"]
    negatives: Count
    popularity: Share  # items are drawn by (training count + 1) ** popularity; 0: uniformly


class GbceLoss(Section):
    """Generalised binary cross-entropy of gSASRec (Petrov & Macdonald, RecSys'23)."""

    name: Literal["gbce"]
    negatives: Count
    calibration: Share  # t: 0 is plain binary cross-entropy, 1 gives probabilities that are calibrated


Loss = SoftmaxLoss | SampledSoftmaxLoss | GbceLoss


class BatchParams(Section):
    """What one optimiser step learns from."""

    # packed: windows of up to train.history items, every position of which is a state. transitions: as in the papers,
    # each state is a sample of its own with its last train.history items, and so is the state after it.
    kind: Literal["packed", "transitions"]
    size: Count  # windows, or transitions


class LeUseParams(Section):
    """How a learner uses the parts of the LE that its variant names."""

    state_width: Count  # the LE's state is projected to this width before the critic sees it
    state_alignment: NotNegative  # weight of the loss that has the recommender's state predict it; 0: critic only
    reward_scale: Positive  # the LE's reward enters as scale * sigmoid((reward - mean) / deviation of logged ones)
    action_weight: NotNegative  # of the proposed actions against the logged one, in the supervised loss
    action_q_weight: NotNegative  # and in the TD loss
    ranking_weight: NotNegative  # of the LE's ranking, in the supervised loss
    ranking_temperature: Positive  # its probabilities are raised to 1 / this power
    item_scale: Positive  # deviation of the item vectors that embeddings and actor start from
    freeze_items: bool  # item embeddings, not the actor, stay as they start; without item vectors they are free


class TrainParams(Section):
    """The training loop that all variants share."""

    seeds: Annotated[list[int], Field(min_length=1)]
    epochs: Count
    patience: Count  # evaluations without a better validation score before training stops
    evaluate_every: Count  # epochs
    history: Count  # longest history that the policy reads, in items
    batches: BatchParams
    loss: Annotated[Loss, Field(discriminator="name")]  # the supervised part of every method
    greedy_items: Count | None  # so many sampled items are searched for the greedy action; null: all items
    sparse: bool  # a step costs the rows of the item tables that its batch reads, not all (learners/sparse.py)
    repeat_bias: bool  # the policy learns how much less, or more, it wants the items that it reads; loss softmax alone
    learning_rate: Positive
    weight_decay: NotNegative
    gradient_clip: Positive
    event_rewards: dict[str, float]  # reward of a logged action by its event; "" is the event of data without events
    le: LeUseParams

    @model_validator(mode="after")
    def _samples(self) -> TrainParams:
        if self.repeat_bias and not isinstance(self.loss, SoftmaxLoss):
            raise ValueError("repeat_bias: true changes the scores of all items: use loss softmax, or set it to false")
        if self.sparse and (isinstance(self.loss, SoftmaxLoss) or self.greedy_items is None or self.weight_decay):
            raise ValueError(
                "sparse: true reads and changes a sample of the items: "
                "give a sampled loss, a number of greedy_items and weight_decay 0"
            )
        return self


class Variant(Section):
    """One recommender: a backbone, a method, and where its LE parts come from (`none`, `le` or a control)."""

    backbone: Backbone
    method: Method
    state: Annotated[str, source_of("state")]
    reward: Annotated[str, source_of("reward")]
    actions: Annotated[str, source_of("actions")]
    ranking: Annotated[str, source_of("ranking")]
    items: Annotated[str, source_of("items")]
    # Keys of train, methods.<its method> and backbones.<its backbone> that this variant sets otherwise, as a map from
    # `train.learning_rate` and the like to values. The one key of this file that may be left out.
    set: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _usable(self) -> Variant:
        if self.reward != "none" and not has_critic(self.method):
            raise ValueError(f"method {self.method} reads no reward: set reward to none, or use a method with a critic")
        sections = ("train.", f"methods.{self.method}.", f"backbones.{self.backbone}.")
        for key in self.set:
            if not key.startswith(sections):
                raise ValueError(f"set.{key} is not its to set: use keys of {', '.join(s[:-1] for s in sections)}")
            if key.startswith("train.seeds"):
                raise ValueError("set.train.seeds: all variants share the seeds: remove it")
        return self

    @property
    def sources(self) -> dict[str, str]:
        """Where the parts come from that it uses: part -> source, `le` or a control."""
        return {part: source for part in FOLDERS if (source := getattr(self, part)) != "none"}

    @property
    def uses_le(self) -> bool:
        """Whether any part of the LE, or a control in its place, is used."""
        return bool(self.sources)

    @property
    def is_control(self) -> bool:
        """Whether a control stands in the place of a part of the LE."""
        return any(source not in LE_SOURCES for source in self.sources.values())


class EvaluateParams(Section):
    """Ranking metrics."""

    cutoffs: Annotated[list[Count], Field(min_length=1)]
    mask_seen: bool  # leave the history's items out of all rankings of policies (selection, tuning too) and baselines
    batch_users: Count


class ExportParams(Section):
    """Which policy ships."""

    variant: str | None  # null: the one that is best on validation by report.metric
    seed: int | None  # of train.seeds; null: the best on validation


class ValueParams(Section):
    """Off-policy estimates of what each variant's policy is worth (docs/protocol.md)."""

    clip: Positive  # of the weights pi / beta, in clipped_ips and dr
    smoothing: Positive  # events added to the training count of every item, in the popularity that beta is mixed of
    reward_shrinkage: NotNegative  # events of average reward added to those of every item, in dr's reward model
    seed: int  # of the bootstrap over users


class ReportParams(Section):
    """The report's headline."""

    # The table is about it first, and the chart shows it; its cutoff is one of evaluate.cutoffs.
    metric: Annotated[str, Field(pattern=r"^(HR|NDCG|MRR)@[1-9][0-9]*$")]
