"""Every parameter: one typed, frozen, validated class per section of params.yaml.

In: params.yaml (YAML 1.2, so `1e-3` is a number). Out: a `Params`, or a `LeaError` that names the key and the mend.

A key that no class declares and a declared key that the file lacks are both errors: nothing has a default here, so
params.yaml always shows the whole configuration. The sentence beside a field is its documentation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lea_core.errors import LeaError
from lea_core.params.base import Count, CountOrZero, NotNegative, OpenShare, Positive, Section, Sha256, Share
from lea_core.params.data import Columns, FileSource, MovieLens, PreprocessParams, SplitParams, Tables
from lea_core.params.le import (
    AmortisedTokens,
    AnnotateParams,
    AugmentParams,
    HeadParams,
    LearnedTokens,
    LeParams,
    LlmParams,
    LoraParams,
    MeasureParams,
    RewardNegatives,
    TokenParams,
)
from lea_core.params.learners import (
    Backbones,
    CaserParams,
    EvaluateParams,
    Gru4RecParams,
    LeUseParams,
    Methods,
    NextItNetParams,
    QParams,
    ReportParams,
    Sa2cParams,
    SasrecParams,
    SnqnParams,
    SupervisedParams,
    TrainParams,
    Variant,
)

__all__ = [
    "PARAMS",
    "AmortisedTokens",
    "AnnotateParams",
    "AugmentParams",
    "Backbones",
    "CaserParams",
    "Columns",
    "Count",
    "CountOrZero",
    "EvaluateParams",
    "FileSource",
    "Gru4RecParams",
    "HeadParams",
    "LeParams",
    "LeUseParams",
    "LearnedTokens",
    "LlmParams",
    "LoraParams",
    "MeasureParams",
    "Methods",
    "MovieLens",
    "NextItNetParams",
    "NotNegative",
    "OpenShare",
    "Params",
    "Positive",
    "PreprocessParams",
    "QParams",
    "ReportParams",
    "RewardNegatives",
    "Sa2cParams",
    "SasrecParams",
    "Section",
    "Sha256",
    "Share",
    "SnqnParams",
    "SplitParams",
    "SupervisedParams",
    "Tables",
    "TokenParams",
    "TrainParams",
    "Variant",
    "load",
]

PARAMS = Path("params.yaml")


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
