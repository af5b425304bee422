"""Every parameter: one typed, frozen, validated class per section of params.yaml.

In: params.yaml (YAML 1.2, so `1e-3` is a number). Out: a `Params`, or a `LeaError` that names the key and the mend.

A key that no class declares and a declared key that the file lacks are both errors: nothing has a default here, so
params.yaml always shows the whole configuration. The sentence beside a field is its documentation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lea_core.errors import LeaError

PARAMS = Path("params.yaml")

Share = Annotated[float, Field(ge=0.0, le=1.0)]
OpenShare = Annotated[float, Field(gt=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Section(BaseModel):
    """A section of params.yaml: no unknown keys, no silent conversion of types, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class FileSource(Section):
    """One file and the hash that pins it."""

    source: str  # pypi:NAME==VERSION!MEMBER, https:, s3:, gs: or a local path
    sha256: Sha256 | None  # of the fetched file (of the wheel, for pypi:); null: not pinned, with a warning


class MovieLens(Section):
    """MovieLens-100K as the recbole wheel carries it."""

    name: Literal["ml-100k"]
    source: str  # the wheel: pypi:recbole==1.2.1
    sha256: Sha256 | None
    text: str  # item text: a template over title, year and genres


class Columns(Section):
    """How the user's own table calls its columns; null: there is no such column."""

    user: str
    item: str
    timestamp: str
    order: str | None  # breaks ties of equal timestamps; without it, the row order of the file does
    event: str | None
    rating: str | None
    split: str | None  # values train, valid, test; read where preprocess.split.method is `column`


class Tables(Section):
    """The user's own two files, CSV, TSV or Parquet by their ending."""

    name: Literal["tables"]
    interactions: FileSource
    items: FileSource  # must hold the item column under the same name as the interactions
    columns: Columns
    text: str  # item text: a template over the item columns, such as "{title}. {brand}"


class SplitParams(Section):
    """Which events are held out."""

    method: Literal["leave_one_out", "by_user", "global_time", "column"]
    valid_share: OpenShare  # of the users (by_user) or of the events (global_time)
    test_share: OpenShare
    seed: int  # by_user: which users

    @model_validator(mode="after")
    def _leaves_training_data(self) -> SplitParams:
        if self.valid_share + self.test_share >= 1.0:
            raise ValueError("valid_share + test_share must leave something to train on: make their sum less than 1")
        return self


class PreprocessParams(Section):
    """Raw data -> interactions, items, users."""

    min_rating: float | None  # drop events rated lower; null keeps all
    max_users: Count | None  # keep so many users, drawn at random; null keeps all
    seed: int  # of that draw
    k_core: CountOrZero  # drop users and items with fewer events, repeatedly, until none is left to drop
    duplicates: Literal["error", "drop", "keep"]  # rows equal in user, item, timestamp and event
    short_users: Literal["error", "train", "drop"]  # users with fewer events than the split needs
    repeats: bool  # can a user take the same item again? false: the LE and the learners' validation rank unseen items
    split: SplitParams


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
    """States and rewards of every training position."""

    sampled_actions: Count  # uniformly sampled items per position that get a reward beside the logged one
    seed: int
    batch_tokens: Count


class AugmentParams(Section):
    """Positive actions that the LE proposes."""

    actions: Count  # per position
    batch_tokens: Count


class MeasureParams(Section):
    """What the LE is held against, beside what needs no training."""

    twins: list[Literal["small_transformer", "random_llm"]]  # trained like the LE, so each costs about as much time


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


class GruParams(Section):
    """GRU4Rec's recurrent network."""

    width: Count
    layers: Count
    dropout: Share


class Backbones(Section):
    """Settings of each backbone; a variant names one."""

    sasrec: SasrecParams
    gru: GruParams


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

    backbone: Literal["sasrec", "gru"]
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


class Params(Section):
    """The whole of params.yaml."""

    dataset: Annotated[MovieLens | Tables, Field(discriminator="name")]
    preprocess: PreprocessParams
    llm: LlmParams
    tokenize_items: TokenParams
    finetune_le: LeParams
    annotate: AnnotateParams
    augment: AugmentParams
    measure_le: MeasureParams
    backbones: Backbones
    methods: Methods
    train: TrainParams
    variants: Annotated[dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")], Variant], Field(min_length=1)]
    evaluate: EvaluateParams
    report: ReportParams

    @model_validator(mode="after")
    def _headline_is_evaluated(self) -> Params:
        if int(self.report.metric.partition("@")[2]) not in self.evaluate.cutoffs:
            raise ValueError(f"report.metric is {self.report.metric}, but evaluate.cutoffs lacks its cutoff: add it")
        return self

    @model_validator(mode="after")
    def _variants_can_train(self) -> Params:
        for name, variant in self.variants.items():
            if variant.method == "sa2c" and self.train.epochs <= self.methods.sa2c.warmup_epochs:
                raise ValueError(
                    f"variants.{name}: train.epochs {self.train.epochs} ends within methods.sa2c.warmup_epochs "
                    f"{self.methods.sa2c.warmup_epochs}: raise the former or lower the latter"
                )
            if variant.method == "supervised" and variant.state != "none" and self.train.le.state_alignment == 0.0:
                raise ValueError(
                    f"variants.{name}: method supervised has no critic to read the state: raise "
                    "train.le.state_alignment above 0, or set state to none"
                )
        return self

    def variant(self, name: str) -> Variant:
        """Return the variant of that name. Raises `LeaError` where there is none."""
        if name not in self.variants:
            raise LeaError(f"{PARAMS}: variants has no {name!r}: write one of {', '.join(self.variants)}, or add it")
        return self.variants[name]


def load(path: Path = PARAMS) -> Params:
    """Read and validate params.yaml. Raises `LeaError`: one line that names the key and the mend."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LeaError(f"{path}: not found: run this in the folder that holds it") from None
    try:
        raw = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise LeaError(f"{path}: no valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise LeaError(f"{path}: holds no sections: restore it with `git checkout {path}`")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise LeaError(f"{path}: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    """One line for the first mistake; the count of the others."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part not in ("ml-100k", "tables"))
    more = f" (and {error.error_count() - 1} more mistakes)" if error.error_count() > 1 else ""
    kind, given = first["type"], first.get("input")
    if kind == "missing":
        return f"{key} is missing: add it{more}"
    if kind == "extra_forbidden":
        return f"{key} is unknown: remove it or mend its spelling{more}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"{key}.name must be ml-100k or tables: mend it{more}"
    if kind == "value_error":
        return f"{key}: {first['ctx']['error']}{more}".removeprefix(": ")  # no key where it is about two sections
    demand = first["msg"].partition(" should ")[2]  # of "Input should be a valid integer", "List should have at ..."
    quoted = ": remove the quotes" if isinstance(given, str) and _is_number(given) else ": mend it"
    return f"{key} is {given!r}, but must {demand}{quoted}{more}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
