"""The report: what each variant reached, against its supervised twin, and what it cost.

In: data/evaluations/<variant>/{metrics.json, ranks.parquet} and data/policies/<variant>/{curves.csv, training.json} of
the variants in params.yaml, no more and no fewer; data/le_quality/summary.json, what the LE is worth by itself. Out, by
stages/report.py: report.md, table.csv, headline.json, curves.csv and chart.png in data/report/.

Every number is about the test split: mean over seeds, ± standard deviation over seeds (of a sample, n - 1; none for
one seed). A variant's supervised twin is the variant with the same backbone, method supervised and no part of the LE.
No significance is claimed: compare the change with the spread.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from lea_core.artifacts import read_json
from lea_core.colours import COLOURS
from lea_core.errors import LeaError
from lea_core.params import Variant
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

    @property
    def parts(self) -> str:
        """The parts of the LE that it uses, in a word or two: none, state, state + actions, all."""
        sources = {"state": self.variant.state, "reward": self.variant.reward, "actions": self.variant.actions}
        used = [part for part, source in sources.items() if source != "none"]
        return "all" if len(used) == len(sources) else " + ".join(used) or "none"


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
        return Result(
            name,
            variant,
            events=metrics["events"]["test"],
            scores={name: Score(**metrics["test"][name]) for name in sorted(metrics["test"], key=_by_cutoff)},
            curve=_read_curve(policy / "curves.csv"),
            seconds=sum(seed["seconds"] for seed in training["seeds"].values()),
            best_epochs=[seed["best_epoch"] for seed in training["seeds"].values()],
        )
    except (KeyError, TypeError) as error:
        raise LeaError(f"{evaluation} or {policy}: of another version ({error}): run `dvc repro`") from None


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


def table_rows(results: Sequence[Result], headline: str) -> list[dict[str, Any]]:
    """Return the rows of table.csv: what the variant uses, the headline metric, its cost, then every metric.

    Raises `LeaError` where a variant was not evaluated by the headline metric or by those of the others.
    """
    names = [headline, *(name for name in results[0].scores if name != headline)]
    for result in results:
        if set(result.scores) != set(names):
            raise LeaError(f"data/evaluations/{result.name}: has metrics {', '.join(result.scores)}: run `dvc repro`")
    rows = []
    for result in results:
        score, percent, other = result.scores[headline], change(result, results, headline), twin(result, results)
        row = {
            "variant": result.name,
            "backbone": result.variant.backbone,
            "method": result.variant.method,
            "le": result.parts,
            "seeds": len(score.seeds),
            "metric": headline,
            "value": score.mean,
            "sd": "" if score.sd is None else score.sd,
            "twin": other.name if other else "",
            "change_percent": "" if percent is None else percent,
            "train_seconds": round(result.seconds, 1),
        }
        rows.append(row | {name: result.scores[name].mean for name in names})
    return rows


def le_table(quality: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and rows of what the LE is worth by itself: a column per split, a row per name in one.

    quality: data/le_quality/summary.json, such as {"users": 9, "test": {"NDCG@10, le": 0.1}}.
    """
    splits = {name: values for name, values in quality.items() if isinstance(values, Mapping)}
    found = [(name, value) for values in splits.values() for name, value in values.items()]
    # What is measured alike stands together, the best first.
    names = dict.fromkeys(name for name, _ in sorted(found, key=lambda pair: (pair[0].partition(",")[0], -pair[1])))
    rows = [[name.replace("_", " "), *(_text(values.get(name)) for values in splits.values())] for name in names]
    return f"The LE by itself, on {quality.get('users')} users that it did not learn from", ["", *splits], rows


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def markdown(results: Sequence[Result], headline: str, le_quality: Mapping[str, Any], mask_seen: bool) -> str:
    """Return the text of report.md."""
    others = [name for name in results[0].scores if name != headline]
    scores = [
        [r.name, _percent(change(r, results, headline)), str(r.scores[headline])]
        + [f"{r.scores[name].mean:.4f}" for name in others]
        for r in results
    ]
    uses = [
        [r.name, r.variant.backbone, r.variant.method, r.parts, f"{r.seconds:.0f}", ", ".join(map(str, r.best_epochs))]
        for r in results
    ]
    seeds = len(results[0].scores[headline].seeds)
    mean = "one seed" if seeds == 1 else f"mean over {seeds} seeds, ± their standard deviation"
    candidates = "items that the user has not taken before" if mask_seen else "items"
    lonely = [result.name for result in results if twin(result, results) is None]
    le_title, le_header, le_rows = le_table(le_quality)
    note = f" No such variant is there for {', '.join(lonely)}." if lonely else ""
    return f"""# Report

{results[0].events} test events, each ranked among all {candidates}; {mean}.

{_markdown_table(["variant", "change", headline, *others], scores)}

*Change* is of {headline} against the supervised variant with the same backbone and no part of the LE.{note} It is no
test of significance: compare it with the spread.

![Validation curves and {headline} of every variant](chart.png)

## What each variant uses and costs

{_markdown_table(["variant", "backbone", "method", "LE parts", "train seconds", "best epoch"], uses, left=4)}

## {le_title}

{_markdown_table(le_header, le_rows)}
"""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %"


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Lay out a table whose first `left` columns are text and whose others are numbers."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])


def draw(results: Sequence[Result], headline: str, path: Path) -> None:
    """Write chart.png: validation curves (a line per seed), and the headline metric with its seeds and spread."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = dict(zip((result.name for result in results), cycle(COLOURS), strict=False))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 1.8 + 0.5 * len(results)), width_ratios=(3, 2))
    for result in results:
        for seed in sorted({row["seed"] for row in result.curve}):
            rows = [row for row in result.curve if row["seed"] == seed]
            left.plot([r["epoch"] for r in rows], [r[SELECTION] for r in rows], color=colours[result.name], lw=1.3)
    left.set(xlabel="epoch", title=f"Validation {SELECTION} while training, a line per seed")
    for place, result in enumerate(results):
        score = result.scores[headline]
        right.barh(place, score.mean, color=colours[result.name], xerr=score.sd, error_kw={"lw": 1.2, "capsize": 3})
        right.plot(score.seeds, [place] * len(score.seeds), "o", color="black", ms=3.5, mfc="white", zorder=3)
    right.set(yticks=range(len(results)), yticklabels=[result.name for result in results])
    right.set(title=f"Test {headline}: mean, seeds, ± sd")
    right.invert_yaxis()
    for axes in (left, right):
        axes.title.set_fontsize(11)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
