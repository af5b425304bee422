"""The report: every variant's result beside the others', as tables and a chart.

In: the `Result`s of variants and baselines (results.py); the `Evidence` (comparisons.py) and what is concluded from it
(verdicts.py); data/le_quality, what the LE is worth by itself (environment_table.py). Out, by stages/report.py:
report.md, table.csv, headline.json, curves.csv and chart.png in data/report/, beside the evidence.

Every number is about the test split: a mean over events (protocol.py) and over seeds, ± standard deviation over seeds
(of a sample, n - 1; none for one seed). Where the test events are of more than one type, each type has its metrics too,
as purchases and clicks have in the papers on SQN and SNQN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lea_core.common.errors import LeaError
from lea_core.common.palette import COLOURS
from lea_core.evaluation.results import SELECTION, SHOWN, Result, change, interval, twin
from lea_core.metrics.protocol import Protocol
from lea_core.report.environment_table import le_table

if TYPE_CHECKING:
    from lea_core.evaluation.comparisons import (
        Evidence,  # scipy: `lea report` shows a table where only the policy is installed
    )

BASELINE_COLOUR = "#DDDDDD"
DIFFERENCE = ("difference", "95 %, users", "users and seeds", "p (Holm)")


def table_rows(results: Sequence[Result], headline: str) -> list[dict[str, Any]]:
    """Return the rows of table.csv: what a variant or baseline uses, the headline metric, its cost, every metric.

    Where there are types of events, columns of each type follow, named such as "NDCG@10, purchase": a row per variant
    remains. Raises `LeaError` where a variant was not evaluated by the headline metric or by those of the others, or
    on events of other types.
    """
    names = [headline, *(name for name in results[0].scores if name != headline)]
    for result in results:
        if set(result.scores) != set(names):
            raise LeaError(f"{result.ranks.parent}: has metrics {', '.join(result.scores)}: run `dvc repro`")
        if set(result.by_event) != set(results[0].by_event):
            raise LeaError(f"{result.ranks.parent}: has events {', '.join(result.by_event)}: run `dvc repro`")
    rows = []
    for result in results:
        score, other = result.scores[headline], twin(result, results)
        row = {
            "variant": result.name,
            "kind": result.kind,
            "backbone": result.variant.backbone if result.variant else "",
            "method": result.variant.method if result.variant else "",
            "le": result.parts,
            "seeds": len(score.seeds),
            "metric": headline,
            "value": score.mean,
            "sd": _blank(score.sd),
            "twin": other.name if other else "",
            "change_percent": _blank(change(result, results, headline)),
            "train_seconds": "" if result.seconds is None else round(result.seconds, 1),
        }
        row |= {name: result.scores[name].mean for name in names}
        for event, alike in by_event(results).items():
            own = result.by_event[event]
            columns = {
                "events": own.events,
                **{name: own.scores[name].mean for name in names},
                "sd": _blank(own.scores[headline].sd),
                "change_percent": _blank(change(own, alike, headline)),
            }
            row |= {f"{name}, {event}": value for name, value in columns.items()}
        rows.append(row)
    return rows


def by_event(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Every variant's result on the test events of each type, by type; empty where all are of one type."""
    return {event: [result.by_event[event] for result in results] for event in results[0].by_event}


def event_types(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a row of table.csv has of each type of events: {"purchase": {"events": 3, "NDCG@10": 0.1, ...}}."""
    types: dict[str, dict[str, Any]] = {}
    for column, value in row.items():
        name, comma, event = column.partition(", ")
        if comma:
            types.setdefault(event, {})[name] = value
    return types


def _blank(value: float | None) -> float | str:
    return "" if value is None else value


def markdown(
    results: Sequence[Result],
    headline: str,
    le_quality: Mapping[str, Any],
    le_measured: str,
    evidence: Evidence,
    verdicts: Mapping[str, Any],
    mix: str,
) -> str:
    """Return the text of report.md.

    le_quality: summary.json, empty where no variant uses the LE. le_measured: `le_note`. verdicts: `conclude`.
    mix: `protocol.mixed`, words or nothing.
    """
    uses = [
        [r.name, r.variant.backbone, r.variant.method, r.parts, f"{r.seconds:.0f}", ", ".join(map(str, r.best_epochs))]
        for r in results
        if r.variant
    ]
    seeds = len(results[0].scores[headline].seeds)
    mean = "one seed" if seeds == 1 else f"mean over {seeds} seeds, ± their standard deviation"
    measured = results[0].measured
    sections = _slices_section(evidence.slices, headline, measured) + _lists_section(evidence.lists, headline, measured)
    lonely = [result.name for result in results if result.variant and twin(result, results) is None]
    further = _beside_baseline(evidence.beside_baseline, results, headline) + _sections_by_event(results, headline)
    note = f" No such variant is there for {', '.join(lonely)}." if lonely else ""
    return f"""# Report

{" ".join(filter(None, (verdicts["finding"], verdicts["rival"])))}

{" ".join(filter(None, (measured.in_words, mix)))} Of each: {mean}.

{_scores_table(results, headline, evidence.comparisons)}

*Change* is of {headline} against the supervised variant with the same backbone and no part of the LE.{note}
{_tests(evidence.comparisons, seeds)}{_cautions(verdicts["cautions"])}

{further}![Validation curves and {headline} of every variant](chart.png)

## What each variant uses and costs

{markdown_table(["variant", "backbone", "method", "LE parts", "train seconds", "best epoch"], uses, left=4)}

{_baselines(results)}{sections}{_le_section(le_quality, le_measured)}"""


def _le_section(quality: Mapping[str, Any], measured: str) -> str:
    """What the LE is worth by itself; nothing where no variant uses it."""
    if not quality:
        return ""
    title, header, rows = le_table(quality)
    return f"## {title}\n\n{measured}\n\n{markdown_table(header, rows)}\n"


def _cautions(found: Iterable[str]) -> str:
    lines = "".join(f"- {one}\n" for one in found)
    return f"\n\nRead with care:\n\n{lines.rstrip()}" if lines else ""


def _tests(comparisons: Sequence[Mapping[str, Any]], seeds: int) -> str:
    """What the intervals and p-values beside the change are, or why there are none."""
    if seeds == 1:
        return "With one seed no test is made: give `train.seeds` two or more."
    if not comparisons:
        return "No variant has a twin to be compared with."
    return (
        f"*Difference* has two 95 % intervals: for these seeds, a bootstrap over {comparisons[0]['users']} users; and "
        "over users and seeds, whose luck can make a difference too. *p* is of a paired randomisation test over the "
        f"users, corrected after Holm for the comparisons of this table ({len(comparisons)}). A difference is {SHOWN}. "
        "comparisons.csv has more."
    )


def _scores_table(results: Sequence[Result], headline: str, comparisons: Iterable[Mapping[str, Any]] = ()) -> str:
    others = [name for name in results[0].scores if name != headline]
    compared = {row["variant"]: row for row in comparisons}
    rows = [
        [
            r.name,
            _percent(change(r, results, headline)),
            *(_compared(compared.get(r.name)) if compared else []),
            str(r.scores[headline]),
            *(f"{r.scores[name].mean:.4f}" for name in others),
        ]
        for r in results
    ]
    tests = DIFFERENCE if compared else ()
    return markdown_table(["variant", "change", *tests, headline, *others], rows)


def _compared(row: Mapping[str, Any] | None) -> list[str]:
    if row is None:
        return ["-", "-", "-", "-"]
    return [f"{row['difference']:+.4f}", interval(row), interval(row, "_with_seeds"), f"{row['p_holm']:.4f}"]


def _beside_baseline(rows: Sequence[Mapping[str, Any]], results: Sequence[Result], headline: str) -> str:
    """Every variant beside the best baseline that needs no LLM; nothing where none is compared."""
    if not rows:
        return ""
    name = rows[0]["other"]
    value = next(result.scores[headline] for result in results if result.name == name)
    cells = [[row["variant"], *_compared(row)] for row in rows]
    lead = (
        f"{name} is the baseline without an LLM that is best on validation. It trains nothing, and has {headline} "
        f"{value}. {results[0].measured.sentence} 95 % intervals over users, and over users and "
        "seeds; *p* of a paired randomisation test over the users, corrected after Holm for this table's "
        f"{len(rows)}."
    )
    return f"## Beside {name}\n\n{lead}\n\n{markdown_table(['variant', *DIFFERENCE], cells)}\n\n"


def _baselines(results: Sequence[Result]) -> str:
    """What the baselines take to serve; nothing where there is none."""
    rows = [
        [r.name, "yes" if r.cost.needs_llm else "no", f"{1000 * r.cost.seconds_per_user:.3g}"]
        for r in results
        if r.cost
    ]
    header = ["baseline", "needs the LLM", "milliseconds per user"]
    return f"## What the baselines cost\n\n{markdown_table(header, rows, left=2)}\n\n" if rows else ""


def _slices_section(slices: Sequence[Mapping[str, Any]], headline: str, measured: Protocol) -> str:
    """NDCG by kinds of events: a row per band, a column per variant."""
    metric = f"NDCG@{headline.partition('@')[2]}"
    names = list(dict.fromkeys(row["variant"] for row in slices))
    bands: dict[tuple[str, str, str], list[str]] = {}
    for row in slices:
        bands.setdefault((row["slice"], row["band"], str(row["events"])), []).append(f"{row[metric]:.4f}")
    rows = [[*band, *values] for band, values in bands.items()]
    table = markdown_table(["slice", "band", "events", *names], rows, left=2)
    return f"## {metric} by kinds of events\n\nOf each band the {measured.short}.\n\n{table}\n\n"


def _lists_section(lists: Sequence[Mapping[str, Any]], headline: str, measured: Protocol) -> str:
    """What the lists are worth beyond accuracy, at the headline's cutoff."""
    cutoff = int(headline.partition("@")[2])
    names = ["coverage", "gini", "novelty", "popularity", "distance"]
    rows = [
        [row["variant"], *("" if row[name] is None else f"{row[name]:.4g}" for name in names)]
        for row in lists
        if row["cutoff"] == cutoff
    ]
    left_out = ", items of the user's history left out" if measured.mask_seen else ""
    lead = f"One list for each of the {measured.events:,} test events{left_out}; equal scores by the lower item index."
    return f"## The lists of {cutoff}\n\n{lead}\n\n{markdown_table(['variant', *names], rows)}\n\n"


def _sections_by_event(results: Sequence[Result], headline: str) -> str:
    """A table for each type of events; nothing where all are of one type."""
    return "".join(
        f"## {event or 'No event type'}: {alike[0].events} test events\n\n{alike[0].measured.in_words}\n\n"
        f"{_scores_table(alike, headline)}\n\n"
        for event, alike in by_event(results).items()
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f} %"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Lay out a table whose first `left` columns are text and whose others are numbers."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])


def draw(results: Sequence[Result], headline: str, path: Path) -> None:
    """Write chart.png: validation curves (a line per seed), and the headline metric with its seeds and spread.

    Baselines, which have no curve, are pale.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    variants = [result.name for result in results if result.variant is not None]
    colours = dict.fromkeys((result.name for result in results), BASELINE_COLOUR)
    colours |= dict(zip(variants, cycle(COLOURS), strict=False))
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
