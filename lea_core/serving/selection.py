"""Selection of the policy to export: the variant and the seed that are best on the validation events.

In: data/evaluations/VARIANT/metrics.json. Out: a name and a seed. Test scores are not used. If the section `export` of
params.yaml names a variant or a seed, that one is selected.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lea_core.common.artifacts import read_json
from lea_core.params import Params

SPLIT = "valid"


def choose(params: Params, metrics: Mapping[str, Mapping[str, Any]]) -> tuple[str, int]:
    """Variant and seed to export; of equal ones the first. metrics: by variant, of `full_ranking.summarise`."""
    metric, wanted = params.report.metric, params.export
    names = [wanted.variant] if wanted.variant else list(metrics)
    variant = max(names, key=lambda name: metrics[name][SPLIT][metric]["mean"])
    if wanted.seed is not None:
        return variant, wanted.seed
    seeds = sorted(params.train.seeds)  # the order of the values
    values = metrics[variant][SPLIT][metric]["seeds"]
    return variant, seeds[max(range(len(seeds)), key=lambda place: values[place])]


def read_metrics(folder: Path, params: Params) -> dict[str, dict[str, Any]]:
    """The metrics of all variants that are no controls; of all variants, if every one is a control."""
    names = [name for name, variant in params.variants.items() if not variant.is_control]
    return {name: read_json(folder / name / "metrics.json") for name in names or params.variants}


def shipped_metrics(params: Params, found: Mapping[str, Any], variant: str, seed: int) -> dict[str, Any]:
    """metrics.json of the policy folder: of each split this seed's value of every metric, mean and deviation of all."""
    place = sorted(params.train.seeds).index(seed)
    wanted = {"variant": params.export.variant, "seed": params.export.seed}
    named = [name for name, value in wanted.items() if value is not None]
    result: dict[str, Any] = {"variant": variant, "seed": seed, "headline": params.report.metric, "named": named}
    for split in ("valid", "test"):
        result[split] = {
            metric: {"value": values["seeds"][place], "mean": values["mean"], "sd": values["sd"]}
            for metric, values in found[split].items()
        }
        result[split]["events"] = found["events"][split]
    return result
