"""Results: what each variant reached on the test events and what its training cost, as the report reads them.

In: data/evaluations/<variant>/{metrics.json, ranks.parquet} and data/policies/<variant>/{curves.csv, training.json} of
the variants in params.yaml, no more and no fewer. Out: a `Result` for each, and its change against its twin.

A variant's supervised twin is the variant with the same backbone, method supervised and no part of the LE.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lea_core.artifacts import read_json
from lea_core.errors import LeaError
from lea_core.params import FOLDERS, Variant
from lea_core.tables import RANKS, read_table, to_numpy

SELECTION = "NDCG@10"  # the column of curves.csv by which the training loop chooses the epoch


@dataclass(frozen=True)
class Score:
    """A metric of one variant: its value under each seed, their mean and standard deviation."""

    mean: float
    sd: float | None
    seeds: list[float]

    def __str__(self) -> str:
        return f"{self.mean:.4f}" if self.sd is None else f"{self.mean:.4f} ± {self.sd:.4f}"


@dataclass(frozen=True)
class Result:
    """A variant: what it uses, its test metrics by name, and the cost of its training."""

    name: str
    variant: Variant
    events: int
    scores: dict[str, Score]
    curve: list[dict[str, float]]  # a row per seed and evaluation: seed, epoch, validation NDCG@10
    seconds: float  # of training, all seeds
    best_epochs: list[int]
    by_event: dict[str, Result] = field(default_factory=dict)  # of more than one type of test events: of each alone

    @property
    def parts(self) -> str:
        """The parts of the LE that it uses, and their controls: none, state, state + actions, all, reward shuffled."""
        sources = self.variant.sources
        if len(sources) == len(FOLDERS) and not self.variant.is_control:
            return "all"
        used = [part if source == "le" else f"{part} {source}" for part, source in sources.items()]
        return " + ".join(used) or "none"


def read_results(data: Path, variants: Mapping[str, Variant]) -> list[Result]:
    """Read every variant, in the order of params.yaml; what else lies on disk is left alone.

    Raises `LeaError` where a variant's file is missing or broken, a rank is not finite, or all ranks of a seed are
    equal (a policy that prefers nothing).
    """
    return [_read_result(data, name, variant) for name, variant in variants.items()]


def _read_result(data: Path, name: str, variant: Variant) -> Result:
    evaluation, policy = data / "evaluations" / name, data / "policies" / name
    _check_ranks(evaluation / "ranks.parquet")
    metrics = read_json(evaluation / "metrics.json")
    training = read_json(policy / "training.json")
    try:
        result = Result(
            name,
            variant,
            events=metrics["events"]["test"],
            scores=_scores(metrics["test"]),
            curve=_read_curve(policy / "curves.csv"),
            seconds=sum(seed["seconds"] for seed in training["seeds"].values()),
            best_epochs=[seed["best_epoch"] for seed in training["seeds"].values()],
        )
        by_event = {
            event: replace(result, events=own["events"]["test"], scores=_scores(own["test"]))
            for event, own in metrics.get("by_event", {}).items()
            if own["events"]["test"]
        }
    except (KeyError, TypeError) as error:
        raise LeaError(f"{evaluation} or {policy}: of another version ({error}): run `dvc repro`") from None
    return replace(result, by_event=by_event) if len(by_event) > 1 else result


def _scores(metrics: Mapping[str, Any]) -> dict[str, Score]:
    return {name: Score(**metrics[name]) for name in sorted(metrics, key=_by_cutoff)}


def _by_cutoff(metric: str) -> tuple[str, int]:
    name, _, cutoff = metric.partition("@")
    return name, int(cutoff)


def _check_ranks(path: Path) -> None:
    table = read_table(path, RANKS)
    seeds, ranks = to_numpy(table, "seed"), to_numpy(table, "rank")
    if not np.isfinite(ranks).all():
        row = int(np.argmin(np.isfinite(ranks)))
        raise LeaError(f"{path}: row {row}: rank is {ranks[row]}: delete it and run `dvc repro`")
    for seed in np.unique(seeds):
        own = ranks[seeds == seed]
        if len(own) > 1 and (own == own[0]).all():
            raise LeaError(f"{path}: all ranks of seed {seed} are {own[0]:g}: its policy prefers nothing; train longer")


def _read_curve(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [{key: float(row[key]) for key in ("seed", "epoch", SELECTION)} for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise LeaError(f"{path}: not found: run `dvc repro` to make it") from None
    except ValueError as error:
        raise LeaError(f"{path}: {error}: delete it and run `dvc repro`") from None


def twin(result: Result, results: Iterable[Result]) -> Result | None:
    """Return the supervised variant with the same backbone and no part of the LE; None where there is none."""
    for other in results:
        same = other.variant.backbone == result.variant.backbone
        if same and other.variant.method == "supervised" and not other.variant.uses_le:
            return other
    return None


def change(result: Result, results: Iterable[Result], metric: str) -> float | None:
    """Change of the mean against the twin in per cent; None for a twin itself, without one, or where it has zero."""
    other = twin(result, results)
    if other is None or other is result or other.scores[metric].mean == 0.0:
        return None
    return 100.0 * (result.scores[metric].mean / other.scores[metric].mean - 1.0)
