"""What has run of a data set of the benchmark, and what it says in short: the entries of summary.json.

In: the kept configurations and baselines (store.py). Out: `Found`, all of a data set with its comparisons; `summary`:
the best variant with signals of the LE, chosen by validation, beside its supervised baseline and beside the best
baseline that needs no LLM, and each signal of the LE beside its controls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.paper.slices import Events, read_events
from benchmarks.paper.store import Kept, read_kept, stage_seconds
from lea_core.evaluation.ablation import rows, verdicts
from lea_core.evaluation.comparisons import Scores, compare_users, comparison_rows, twin_pairs
from lea_core.evaluation.results import Result, best_baseline, best_with_le, change, with_le
from lea_core.params import FOLDERS, Params

HR, NDCG = "HR@10", "NDCG@10"
PAIR = ("variant", "other", "difference", "low", "high", "low_with_seeds", "high_with_seeds", "p_holm")
ENDS = ("low", "high", "low_with_seeds", "high_with_seeds")  # of the intervals of a difference


@dataclass(frozen=True)
class Found:
    """What there is of a data set."""

    name: str
    params: Params
    kept: dict[str, Kept]  # in the order of params.yaml; baselines last
    seconds: float  # of all stages but the configurations
    comparisons: dict[str, dict[str, Any]]  # of each variant with a supervised baseline and two seeds or more
    asked: list[dict[str, Any]]  # comparisons that benchmark.yaml names
    parts: list[dict[str, Any]]
    beats: dict[str, dict[str, Any]]  # by signal of the LE
    events: Events | None  # what is known of its test events

    @property
    def results(self) -> list[Result]:
        """Of configurations and baselines."""
        return [kept.result for kept in self.kept.values()]

    @property
    def notes(self) -> list[dict[str, Any]]:
        """Of every configuration that has run."""
        return [kept.note for kept in self.kept.values() if kept.result.variant]


def collect(name: str, params: Params, store: Path, pairs: Sequence[Sequence[str]] = ()) -> Found:
    """Everything about a data set that has run with these parameters; what has not is left out.

    pairs: names of results to be compared besides.
    """
    read = {own: read_kept(params, store, own) for own in (*params.variants, *params.baselines.names)}
    kept = {own: one for own, one in read.items() if one}
    results = [one.result for one in kept.values()]
    scores = {own: one.users for own, one in kept.items()}
    compared = {row["variant"]: row for row in comparison_rows(twin_pairs(results), NDCG, scores)}
    both = [(kept[one].result, kept[other].result) for one, other in pairs if one in kept and other in kept]
    asked = comparison_rows(both, NDCG, scores)
    alike = [without_le_settings(result) for result in results]
    parts, beats = rows(scores, alike, NDCG, compared.values()), beats_its_controls(scores, params, alike)
    return Found(name, params, kept, stage_seconds(store), compared, asked, parts, beats, read_events(params, store))


def without_le_settings(result: Result) -> Result:
    """The result without what its variant sets in train.le: that changes nothing where no signal of the LE is used.

    So a signal with a weight of its own still stands beside the variant that lacks it.
    """
    if result.variant is None:
        return result
    own = {key: value for key, value in result.variant.set.items() if not key.startswith("train.le.")}
    return replace(result, variant=result.variant.model_copy(update={"set": own}))


def beats_its_controls(scores: Scores, params: Params, results: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """For each signal that ran beside controls: whether it is better than the best of those that have run."""
    wanted = [list(variant.sources) for variant in params.variants.values() if variant.is_control]
    have = [list(result.sources) for result in results if result.kind == "control"]
    found = {}
    for verdict in verdicts(scores, results, NDCG):
        if verdict.part in FOLDERS and verdict.comparison is not None:
            found[verdict.part] = {
                "beats_its_controls": verdict.beats,
                "variant": verdict.variant,
                "best_control": verdict.control,
                "controls_run": have.count([verdict.part]),
                "controls": wanted.count([verdict.part]),
                "difference": verdict.comparison.difference,
                **{end: None if math.isnan(own := getattr(verdict.comparison, end)) else own for end in ENDS},
            }
    return found


def best(found: Found, wanted: Callable[[Result], bool] = lambda _: True) -> dict[str, Any] | None:
    """Of the wanted variants with signals of the LE the best on validation, beside its supervised baseline; or None."""
    candidates = [pair for pair in with_le(found.results) if wanted(pair[0])]
    pair = best_with_le(candidates, NDCG)
    if pair is None:
        return None
    own, other = pair
    row = found.comparisons.get(own.name, {})
    score = own.scores[NDCG].mean
    return {
        "best_lea": own.name,
        "best_lea_parts": own.parts,
        "chosen_among": len(candidates),
        "best_lea_valid_ndcg10": own.valid[NDCG].mean,
        "best_lea_hr10": own.scores[HR].mean,
        "best_lea_ndcg10": score,
        "twin": other.name,
        "twin_hr10": other.scores[HR].mean,
        "twin_ndcg10": other.scores[NDCG].mean,
        "gain_percent": change(own, found.results, NDCG),
        **{key: row.get(key) for key in (*ENDS, "p_holm", "p_holm_with_seeds")},
    }


def uses_all(result: Result) -> bool:
    """Whether it has all signals of the LE that its method can use."""
    return result.kind == "variant" and bool(result.sources) and result.name.endswith("-lea")


def beside_baseline(found: Found, name: str) -> dict[str, Any] | None:
    """A result beside the best baseline on validation of those without the LLM; None where none has run."""
    rival = best_baseline(found.results, NDCG)
    if rival is None:
        return None
    row = vars(compare_users({one: found.kept[one].users for one in (name, rival.name)}, name, rival.name))
    return {
        "name": rival.name,
        "hr10": rival.scores[HR].mean,
        "ndcg10": rival.scores[NDCG].mean,
        "valid_ndcg10": rival.valid[NDCG].mean,
        **{key: row[key] for key in ("difference", *ENDS, "p_randomisation", "p_with_seeds")},
    }


def summary(found: Found) -> dict[str, Any]:
    """The entry of a data set in summary.json: the best with any signals, and `all_parts`, the best with all."""
    chosen = best(found)
    return {
        "cells": len(found.notes),
        "of": len(found.params.variants),
        **(chosen or {}),
        "best_baseline": chosen and beside_baseline(found, chosen["best_lea"]),
        "all_parts": best(found, uses_all),
        "parts": found.beats,
        "pairs": [{key: row[key] for key in PAIR} for row in found.asked],
    }
