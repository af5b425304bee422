"""Results: what each variant and baseline reached on the test events and what it cost, as the report reads them.

In, of the variants and baselines in params.yaml, no more and no fewer: data/evaluations/<variant>/{metrics.json,
ranks.parquet} with data/policies/<variant>/{curves.csv, training.json}, and data/baselines/<name>/{metrics.json,
ranks.parquet, cost.json}. Out: a `Result` for each, and its change against its twin.

A variant's supervised twin is the variant with the same backbone, method supervised and no part of the LE.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lea_core.common.artifacts import read_json
from lea_core.common.errors import LeaError
from lea_core.common.tables import RANKS, read_table, to_numpy
from lea_core.evaluation.convergence import cautions
from lea_core.metrics.protocol import Protocol, read_protocol
from lea_core.metrics.ranking import SELECTION as SELECTION  # a column of curves.csv

if TYPE_CHECKING:
    from lea_core.params import Variant

BASELINE_SEEDS = (0,)  # nothing in a baseline is drawn
LEVEL = 0.05
SHOWN = f"shown where its interval over users and seeds excludes zero and p is below {LEVEL:g}"


@dataclass(frozen=True)
class Score:
    """A metric of one variant: its value under each seed, their mean and standard deviation."""

    mean: float
    sd: float | None
    seeds: list[float]

    def __str__(self) -> str:
        return f"{self.mean:.4f}" if self.sd is None else f"{self.mean:.4f} ± {self.sd:.4f}"


@dataclass(frozen=True)
class Cost:
    """What a baseline takes to serve: seconds for each user's list, and whether it needs the language model."""

    seconds_per_user: float
    needs_llm: bool


@dataclass(frozen=True)
class Result:
    """A variant or a baseline: what it uses, its test metrics by name, and what it costs.

    A baseline has no variant, no curve and no training, but a cost; a variant has no such cost.
    """

    name: str
    variant: Variant | None
    ranks: Path  # of its RANKS table
    measured: Protocol
    scores: dict[str, Score]
    curve: list[dict[str, float]] = field(default_factory=list)  # per seed and evaluation: seed, epoch, SELECTION
    seconds: float | None = None  # of training, all seeds
    best_epochs: list[int] = field(default_factory=list)
    cost: Cost | None = None
    by_event: dict[str, Result] = field(default_factory=dict)  # of more than one type of test events: of each alone
    valid: dict[str, Score] = field(default_factory=dict)  # as `scores`, of the validation events

    @property
    def events(self) -> int:
        """Number of test events."""
        return self.measured.events

    @property
    def sources(self) -> dict[str, str]:
        """Where the parts come from that it uses: `le` or the name of a control. Empty for a baseline."""
        return {} if self.variant is None else self.variant.sources

    @property
    def parts(self) -> str:
        """The parts of the LE that it uses, and their controls: none, state, state + actions, all, reward shuffled.

        Of a baseline: LLM or none.
        """
        if self.variant is None:
            return "LLM" if self.cost is not None and self.cost.needs_llm else "none"
        from lea_core.params import FOLDERS

        found = self.sources
        if len(found) == len(FOLDERS) and not self.variant.is_control:
            return "all"
        used = [part if source == "le" else f"{part} {source}" for part, source in found.items()]
        return " + ".join(used) or "none"

    @property
    def curves(self) -> dict[int, list[float]]:
        """Validation scores in the order of the epochs, by seed."""
        found: dict[int, list[float]] = {}
        for row in self.curve:
            found.setdefault(int(row["seed"]), []).append(row[SELECTION])
        return found

    @property
    def kind(self) -> str:
        """`variant`, `baseline`, or `control`: a variant that takes something else in the LE's place."""
        if self.variant is None:
            return "baseline"
        return "control" if self.variant.is_control else "variant"


def read_results(
    data: Path, variants: Mapping[str, Variant], seeds: Sequence[int], baselines: Sequence[str]
) -> list[Result]:
    """Read every variant and then every baseline, in the order of params.yaml; what else lies on disk is left alone.

    Raises `LeaError` where a file is missing or broken, was made with other seeds than `seeds`, a rank or metric is no
    number, all ranks of a seed are equal (a policy that prefers nothing), or one was measured otherwise than the rest.
    """
    found = [_read_variant(data, name, variant, seeds) for name, variant in variants.items()]
    found += [_read_baseline(data / "baselines" / name) for name in baselines]
    for result in found:
        if result.measured != found[0].measured:
            folders = f"{result.ranks.parent} and {found[0].ranks.parent}"
            raise LeaError(f"{folders}: are of other events, items or masks than each other: run `dvc repro`")
    return found


def _read_variant(data: Path, name: str, variant: Variant, seeds: Sequence[int]) -> Result:
    policy = data / "policies" / name
    result = replace(_read_metrics(data / "evaluations" / name, seeds), variant=variant)
    training = read_json(policy / "training.json")
    try:
        by_seed = {int(seed): values for seed, values in training["seeds"].items()}
        _check_seeds(policy / "training.json", by_seed, seeds)
        return replace(
            result,
            curve=_read_curve(policy / "curves.csv"),
            seconds=sum(values["seconds"] for values in by_seed.values()),
            best_epochs=[values["best_epoch"] for values in by_seed.values()],
            by_event={event: replace(own, variant=variant) for event, own in result.by_event.items()},
        )
    except (KeyError, TypeError) as error:
        raise LeaError(f"{policy}: of another version ({error}): run `dvc repro`") from None


def _read_baseline(folder: Path) -> Result:
    result = _read_metrics(folder, BASELINE_SEEDS)
    cost = read_json(folder / "cost.json")
    try:
        return replace(result, cost=Cost(**cost))
    except TypeError as error:
        raise LeaError(f"{folder / 'cost.json'}: of another version ({error}): run `dvc repro`") from None


def _read_metrics(folder: Path, seeds: Sequence[int]) -> Result:
    """What metrics.json and ranks.parquet of a folder say; both checked."""
    _check_ranks(folder / "ranks.parquet", seeds)
    path = folder / "metrics.json"
    metrics = read_json(path)
    try:
        how = metrics["items"], metrics["mask_seen"]
        measured = read_protocol(metrics, *how)
        result = Result(folder.name, None, folder / "ranks.parquet", measured, _scores(metrics["test"]))
        valid = _scores(metrics["valid"])
        by_event = {
            event: replace(result, measured=read_protocol(own, *how), scores=_scores(own["test"]))
            for event, own in metrics.get("by_event", {}).items()
            if own["events"]["test"]
        }
    except (KeyError, TypeError) as error:
        raise LeaError(f"{path}: of another version ({error}): run `dvc repro`") from None
    for part in (result, *by_event.values()):
        for name, score in part.scores.items():
            if not all(math.isfinite(value) for value in (score.mean, score.sd or 0.0, *score.seeds)):
                raise LeaError(f"{path}: {name} is no finite number: delete it and run `dvc repro`")
    return replace(result, valid=valid, by_event=by_event if len(by_event) > 1 else {})


def _check_seeds(path: Path, found: Iterable[int], seeds: Sequence[int]) -> None:
    if sorted(found) != sorted(seeds):
        names = [", ".join(map(str, sorted(part))) for part in (found, seeds)]
        raise LeaError(f"{path}: is of the seeds {names[0]}, not {names[1]}: run `dvc repro`")


def _scores(metrics: Mapping[str, Any]) -> dict[str, Score]:
    return {name: Score(**metrics[name]) for name in sorted(metrics, key=_by_cutoff)}


def _by_cutoff(metric: str) -> tuple[str, int]:
    name, _, cutoff = metric.partition("@")
    return name, int(cutoff)


def _check_ranks(path: Path, wanted: Sequence[int]) -> None:
    table = read_table(path, RANKS, columns=("seed", "rank"))
    seeds, ranks = to_numpy(table, "seed"), to_numpy(table, "rank")
    _check_seeds(path, np.unique(seeds).tolist(), wanted)
    if not (ranks >= 1.0).all():  # infinite is that of an item that was left out
        row = int(np.argmin(ranks >= 1.0))
        raise LeaError(f"{path}: row {row}: rank is {ranks[row]}: delete it and run `dvc repro`")
    for seed in np.unique(seeds):
        own = ranks[(seeds == seed) & np.isfinite(ranks)]
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


def le_signals(variants: Mapping[str, Variant]) -> set[str]:
    """The keys of the signals that some variant takes from the LE itself: state, reward, actions, ranking, items."""
    return {part for variant in variants.values() for part, source in variant.sources.items() if source == "le"}


def ranked_baselines(names: Iterable[str], signals: set[str]) -> list[str]:
    """Those of `baselines.names` that the report shows: what needs the LLM only where a variant needs it too.

    signals: `le_signals`.
    """
    without = {"text_knn": not signals, "le": not signals - {"items"}}
    return [name for name in names if not without.get(name)]


def twin(result: Result, results: Iterable[Result]) -> Result | None:
    """Return the supervised variant with the same backbone and no part of the LE; None where there is none."""
    if result.variant is None:
        return None
    for other in results:
        if other.variant is None or other.variant.backbone != result.variant.backbone:
            continue
        if other.variant.method == "supervised" and not other.variant.uses_le:
            return other
    return None


def best_baseline(results: Iterable[Result], metric: str) -> Result | None:
    """The baseline that is best on validation of those that need no language model; None where there is none."""
    cheap = [result for result in results if result.cost is not None and not result.cost.needs_llm]
    return max(cheap, key=lambda result: result.valid[metric].mean, default=None)


def with_le(results: Sequence[Result]) -> list[tuple[Result, Result]]:
    """The variants with the LE, no controls, that have a twin, each with its twin."""
    able = [result for result in results if result.kind == "variant" and result.sources]
    return [(result, other) for result in able if (other := twin(result, results))]


def best_with_le(pairs: Iterable[tuple[Result, Result]], metric: str) -> tuple[Result, Result] | None:
    """Of such pairs the one whose variant is best on validation; None where there is none."""
    return max(pairs, key=lambda pair: pair[0].valid[metric].mean, default=None)


def doubts(results: Iterable[Result]) -> list[str]:
    """Which trainings ended where they should not have (convergence.py)."""
    from lea_core.params import has_warm_up

    curves, kept = {}, {}
    for result in results:
        curves[result.name] = result.curves
        if result.variant and has_warm_up(result.variant.method) and SELECTION in result.valid:
            kept[result.name] = result.valid[SELECTION].seeds
    return cautions(curves, kept)


def change(result: Result, results: Iterable[Result], metric: str) -> float | None:
    """Change of the mean against the twin in per cent; None for a twin itself, without one, or where it has zero."""
    other = twin(result, results)
    if other is None or other is result or other.scores[metric].mean == 0.0:
        return None
    return 100.0 * (result.scores[metric].mean / other.scores[metric].mean - 1.0)


def shown(row: Mapping[str, Any]) -> bool | None:
    """Whether a comparison's difference is SHOWN; None where there is no such interval: one seed is not judged."""
    low, high = row["low_with_seeds"], row["high_with_seeds"]
    if low in (None, "") or math.isnan(low):
        return None
    return bool((low > 0.0 or high < 0.0) and row["p_holm"] < LEVEL)


def interval(row: Mapping[str, Any], kind: str = "") -> str:
    """A comparison's interval in words; kind "_with_seeds": that over users and seeds. "-" where there is none."""
    low, high = row[f"low{kind}"], row[f"high{kind}"]
    return "-" if low in (None, "") or math.isnan(low) else f"{low:+.4f} to {high:+.4f}"
