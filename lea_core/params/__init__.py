"""Every parameter: one typed, frozen, validated class per section of params.yaml.

In: params.yaml (YAML 1.2, so `1e-3` is a number). Out: a `Params`, or a `LeaError` that names the key and the mend.

A key that no class declares and a declared key that the file lacks are both errors: nothing has a default here, so
params.yaml always shows the whole configuration. The sentence beside a field is its documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lea_core.common.errors import LeaError
from lea_core.common.layout import FOLDERS, LE_AND_NEIGHBOURS, LE_SOURCES, POLICY
from lea_core.params.backbones import Backbones
from lea_core.params.base import Count, CountOrZero, NotNegative, OpenShare, Positive, Section, Sha256, Share
from lea_core.params.baselines import BaselineParams
from lea_core.params.controls import CONTROLS, Controls, PolicyControl, TableControl
from lea_core.params.data import Columns, Dataset, FileSource, PreprocessParams, SplitParams, Tables
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
    RankParams,
    RewardNegatives,
    TokenParams,
)
from lea_core.params.learners import (
    BatchParams,
    EvaluateParams,
    ExportParams,
    GbceLoss,
    LeUseParams,
    Loss,
    ReportParams,
    SampledSoftmaxLoss,
    SoftmaxLoss,
    TrainParams,
    ValueParams,
    Variant,
)
from lea_core.params.methods import Methods, has_critic, has_warm_up
from lea_core.params.mistakes import first_mistake
from lea_core.params.q_learning import ActorCriticParams, MethodParams, NegativeParams, QParams
from lea_core.params.tuning import Choices, Dimension, FloatRange, IntRange, TuneParams

__all__ = [
    "CONTROLS",
    "FOLDERS",
    "LE_AND_NEIGHBOURS",
    "LE_SOURCES",
    "PARAMS",
    "POLICY",
    "ActorCriticParams",
    "AmortisedTokens",
    "AnnotateParams",
    "AugmentParams",
    "Backbones",
    "BaselineParams",
    "BatchParams",
    "Choices",
    "Columns",
    "Controls",
    "Count",
    "CountOrZero",
    "Dataset",
    "Dimension",
    "EvaluateParams",
    "ExportParams",
    "FileSource",
    "FloatRange",
    "GbceLoss",
    "HeadParams",
    "IntRange",
    "LeParams",
    "LeUseParams",
    "LearnedTokens",
    "LlmParams",
    "LoraParams",
    "Loss",
    "MeasureParams",
    "MethodParams",
    "Methods",
    "NegativeParams",
    "NotNegative",
    "OpenShare",
    "Params",
    "PolicyControl",
    "Positive",
    "PreprocessParams",
    "QParams",
    "RankParams",
    "ReportParams",
    "RewardNegatives",
    "SampledSoftmaxLoss",
    "Section",
    "Sha256",
    "Share",
    "SoftmaxLoss",
    "SplitParams",
    "TableControl",
    "Tables",
    "TokenParams",
    "TrainParams",
    "TuneParams",
    "ValueParams",
    "Variant",
    "assign",
    "has_critic",
    "has_warm_up",
    "load",
    "parse",
    "read_yaml",
]

PARAMS = Path("params.yaml")


class Params(Section):
    """The whole of params.yaml."""

    dataset: Dataset
    preprocess: PreprocessParams
    llm: LlmParams
    tokenize_items: TokenParams
    finetune_le: LeParams
    annotate: AnnotateParams
    augment: AugmentParams
    rank: RankParams
    measure_le: MeasureParams
    controls: Controls
    backbones: Backbones
    methods: Methods
    train: TrainParams
    variants: Annotated[dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")], Variant], Field(min_length=1)]
    evaluate: EvaluateParams
    export: ExportParams
    off_policy: ValueParams
    baselines: BaselineParams
    report: ReportParams
    tune: TuneParams

    @model_validator(mode="after")
    def _headline_is_evaluated(self) -> Params:
        if int(self.report.metric.partition("@")[2]) not in self.evaluate.cutoffs:
            raise ValueError(f"report.metric is {self.report.metric}, but evaluate.cutoffs lacks its cutoff: add it")
        return self

    @model_validator(mode="after")
    def _space_is_known(self) -> Params:
        raw = self.model_dump(include={"train", "methods", "backbones"})
        for key in self.tune.space:
            below: Any = raw
            for name in key.split("."):
                below = below.get(name, ...) if isinstance(below, dict) else ...
            if below is ... or isinstance(below, dict) or key == "train.seeds":
                raise ValueError(f"tune.space: {key} is no key of train, methods or backbones that a variant sets")
        return self

    @model_validator(mode="after")
    def _variants_can_train(self) -> Params:
        for name, variant in self.variants.items():
            try:
                own = self.of(name)
            except ValidationError as error:
                raise ValueError(f"variants.{name}.set: {first_mistake(error)}") from None
            except KeyError as error:
                raise ValueError(f"variants.{name}.set: {error.args[0]} is unknown: mend its spelling") from None
            problem = _problem(variant, own)
            if problem:
                raise ValueError(f"variants.{name}: {problem}")
        return self

    @model_validator(mode="after")
    def _controls_are_made(self) -> Params:
        for name, variant in self.variants.items():
            for part, source in variant.sources.items():
                if source != "le" and not self.controls.makes(FOLDERS[part], source):
                    shown = "with-neighbours" if source == LE_AND_NEIGHBOURS else "controls"
                    raise ValueError(
                        f"variants.{name}.{part} is {source}, but no entry of controls makes {FOLDERS[part]} {source}: "
                        f"add it as in settings/{shown}.yaml"
                    )
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process as plain values: the classes of registered settings are made anew there."""
        return Params.model_validate, (self.model_dump(),)

    def of(self, name: str) -> Params:
        """The parameters as variant `name` has them, its own settings in their places."""
        variant = self.variant(name)
        if not variant.set:
            return self
        raw = self.model_dump()
        raw["variants"] = {name: {**raw["variants"][name], "set": {}}}
        for key, value in variant.set.items():
            assign(raw, key, value)
        return Params.model_validate(raw)

    def variant(self, name: str) -> Variant:
        """Return the variant of that name. Raises `LeaError` where there is none."""
        if name not in self.variants:
            raise LeaError(f"{PARAMS}: variants has no {name!r}: write one of {', '.join(self.variants)}, or add it")
        return self.variants[name]


def _problem(variant: Variant, own: Params) -> str | None:
    """Why the variant could not train with its parameters `own`, and the mend; None where it can."""
    train, method = own.train, variant.method
    for problem in getattr(own.methods, method).cannot_train(f"methods.{method}", train):
        return str(problem)
    if variant.state != "none" and train.le.state_alignment == 0.0 and not has_critic(method):
        return (
            f"method {method} has no critic to read the state: raise train.le.state_alignment above 0, "
            "or set state to none"
        )
    return None


def assign(raw: dict[str, Any], key: str, value: object) -> None:
    """Set the dotted `key` of nested maps, or remove it where `value` is `...`.

    Raises `KeyError` with the key where a section on the way is not there.
    """
    *sections, last = key.split(".")
    section: Any = raw
    for name in sections:
        if not isinstance(section, dict) or name not in section:
            raise KeyError(key)
        section = section[name]
    if not isinstance(section, dict):
        raise KeyError(key)
    if value is ...:
        del section[last]
    else:
        section[last] = value


def load(path: Path = PARAMS) -> Params:
    """Read and validate params.yaml. Raises `LeaError`: one line that names the key and the mend."""
    return parse(read_yaml(path), path)


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a YAML file as plain values. Raises `LeaError` where it is absent, no YAML or holds none."""
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
    return raw


def parse(raw: Mapping[str, Any], path: Path) -> Params:
    """Validate the sections of params.yaml. Raises `LeaError`: one line that names the file, the key and the mend."""
    try:
        found = Params.model_validate(raw)
    except ValidationError as error:
        raise LeaError(f"{path}: {first_mistake(error)}") from None
    # not in Params, which also stands for one variant alone
    if found.export.variant is not None and found.export.variant not in found.variants:
        raise LeaError(f"{path}: export.variant: variants has no {found.export.variant!r}: write one of them, or null")
    if found.export.seed is not None and found.export.seed not in found.train.seeds:
        raise LeaError(f"{path}: export.seed {found.export.seed} is none of train.seeds: write one of them, or null")
    for name, control in found.controls.policies.items():
        key = f"{path}: controls.policies.{name}.policy"
        if control.policy not in found.variants:
            raise LeaError(f"{key}: variants has no {control.policy!r}: write one of {', '.join(found.variants)}")
        if POLICY in found.variant(control.policy).sources.values():
            raise LeaError(f"{key}: {control.policy} learns from a policy itself: name another variant")
    return found
