"""What a report concludes, each thing once: the sentences of report.md and report.html, and what they are about.

In: the `Result`s, the rows of comparisons.csv, beside_baseline.csv and parts.csv, the parts' `Verdict`s. Out: what
verdicts.json holds:

  finding   the best variant with the LE, by validation, beside its supervised twin; `lea` and `twin` name them
  rival     the best baseline without the LLM, by validation, and how that variant differs from it
  parts     of every part of the LE in every variant: whether it gains, and whether it beats its best control
  cautions  which trainings ended where they should not have

One rule says whether a difference is shown (`results.shown`), wherever it stands, and a pair has the same p wherever it
stands. Whether a part beats its controls is judged by another rule (`what_bought_what.BEATS`), the interval over users
and seeds alone, for the best control is chosen by the same test events, which is already against the part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lea_core.evaluation.ablation import Verdict
from lea_core.evaluation.results import SHOWN, Result, best_baseline, best_with_le, doubts, interval, shown, with_le


def difference(row: Mapping[str, Any], subject: str) -> str:
    """A comparison as a sentence."""
    size = f"{row['difference']:+.4f}"
    said = shown(row)
    if said is None:
        return f"{subject} is {size}; from one seed it is not judged."
    size += f" (95 % {interval(row, '_with_seeds')}, p {row['p_holm']:.3f})"
    return f"{subject}, {size}, is {'shown' if said else 'not shown'}."


def conclude(
    results: Sequence[Result],
    metric: str,
    comparisons: Sequence[Mapping[str, Any]],
    beside_baseline: Sequence[Mapping[str, Any]],
    parts: Sequence[Mapping[str, Any]],
    judged: Sequence[Verdict],
) -> dict[str, Any]:
    """The content of verdicts.json."""
    pair = best_with_le(with_le(results), metric)
    return {
        "lea": pair and pair[0].name,
        "twin": pair and pair[1].name,
        "finding": _finding(results, metric, pair, comparisons),
        "rival": _rival(results, metric, pair, beside_baseline),
        "parts": [_part(verdict, parts) for verdict in judged],
        "cautions": doubts(results),
        "rule": SHOWN,
    }


def _finding(
    results: Sequence[Result],
    metric: str,
    pair: tuple[Result, Result] | None,
    comparisons: Sequence[Mapping[str, Any]],
) -> str:
    if pair is None:
        best = max(results, key=lambda result: result.scores[metric].mean)
        words = f"{best.name} has the highest test {metric}, {best.scores[metric].mean:.4f}."
        return f"{words} No variant uses the LE beside a supervised twin."
    own, other = pair
    words = (
        f"{own.name}, the best variant with the LE on validation, has test {metric} {own.scores[metric].mean:.4f}; "
        f"its supervised twin without the LE, {other.name}, has {other.scores[metric].mean:.4f}."
    )
    row = _between(comparisons, own, other)
    return f"{words} {difference(row, 'The difference') if row else 'With one seed no test is made.'}"


def _rival(
    results: Sequence[Result],
    metric: str,
    pair: tuple[Result, Result] | None,
    beside_baseline: Sequence[Mapping[str, Any]],
) -> str:
    best = best_baseline(results, metric)
    if best is None:
        return ""
    value = best.scores[metric].mean
    words = f"{best.name}, the best baseline on validation, trains nothing and has test {metric} {value:.4f}."
    if pair is None or (row := _between(beside_baseline, pair[0], best)) is None:
        return words
    return f"{words} {difference(row, f'The difference of {pair[0].name} from it')}"


def _between(rows: Sequence[Mapping[str, Any]], own: Result, other: Result) -> Mapping[str, Any] | None:
    return next((row for row in rows if (row["variant"], row["other"]) == (own.name, other.name)), None)


def _part(verdict: Verdict, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A part's gain over the variant that lacks it, and whether it beats its controls."""
    row = next(row for row in parts if (row["part"], row["variant"]) == (verdict.part, verdict.variant))
    words = difference(row, f"{verdict.part}, {verdict.variant}: the gain over {row['other']}")
    words += f" It {verdict}"
    if (found := verdict.comparison) is not None:
        words += f": {found.difference:+.4f}"
        words += "" if verdict.beats is None else f" (95 % {interval(vars(found), '_with_seeds')})"
    return {"part": verdict.part, "variant": verdict.variant, "beats": verdict.beats, "in_words": f"{words}."}
