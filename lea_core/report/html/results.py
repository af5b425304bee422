"""The sections on the variants beside each other: the headline, the table, what the lists are made of.

In: table.csv, comparisons.csv, beside_baseline.csv, lists.csv, ranks.parquet and metrics.json of every variant and
baseline. Out: a section each.
"""

from __future__ import annotations

from lea_core.evaluation.results import SHOWN
from lea_core.report.html import charts
from lea_core.report.html.charts import Row
from lea_core.report.html.html import figure, grid, legend, p_value, paragraph, section, signed, table
from lea_core.report.html.source import WITH_SEEDS, Source, Value, interval, number


def headline(source: Source) -> str:
    """The test value of every variant and baseline, and the differences from their twins and the best baseline."""
    rows = []
    for entry in sorted(source.table, key=lambda row: -(number(row, "value") or 0.0)):
        name, value = str(entry["variant"]), number(entry, "value") or 0.0
        found = source.evaluation(name)
        low, high = interval(found / "ranks.parquet", source.metric) or (None, None)
        metrics = source.json(str((found / "metrics.json").relative_to(source.data))) or {}
        seeds = metrics.get("test", {}).get(source.metric, {}).get("seeds", [])
        dots = tuple(seeds) if len(seeds) > 1 else ()
        rows.append(Row(name, value, low, high, dots, source.kinds[name], f"{value:.4f}"))
    numbers = table(
        ["", source.metric, "95 % low", "95 % high"],
        [[row.label, row.text, *("" if v is None else f"{v:.4f}" for v in (row.low, row.high))] for row in rows],
    )
    title = f"Test {source.metric} of every variant and baseline"
    seeds_note = "Dots are seeds; " if any(row.dots for row in rows) else ""
    whole = figure(
        title,
        legend(set(source.kinds.values()))
        + charts.responsive(lambda width: charts.rows(rows, width, title, axis=source.metric)),
        numbers,
        f"{source.measured} {seeds_note}lines are 95 % intervals over users of the mean over seeds. Two that overlap "
        "can still differ: the same users are ranked by both, and the differences beside it are of pairs.",
    )
    body = [whole, f"<div>{_twins(source)}{_beside_baseline(source)}</div>"]
    return section("headline", "Who ranks the next item best", grid(body))


def _twins(source: Source) -> str:
    entries = [row for row in source.csv("comparisons.csv") or [] if row["metric"] == source.metric]
    if not entries:
        return paragraph("No paired comparisons (comparisons.csv): they need another variant to compare with.", "note")
    return _differences(source, entries, source.reference)


def _beside_baseline(source: Source) -> str:
    """The best of what is cheap is what a policy has to be worth more than; nothing where it was not compared."""
    entries = source.csv("beside_baseline.csv")
    return _differences(source, entries, str(entries[0]["other"])) if entries else ""


def _differences(source: Source, entries: list[dict[str, Value]], reference: str | None) -> str:
    """Paired differences of variants, most from `reference`, the largest first."""
    entries = sorted(entries, key=lambda row: -(number(row, "difference") or 0.0))
    rows = [
        Row(
            _against(entry, reference),
            number(entry, "difference") or 0.0,
            number(entry, "low_with_seeds"),
            number(entry, "high_with_seeds"),
            kind=source.kinds.get(str(entry["variant"]), "plain"),
            text=p_value(number(entry, "p_holm")),
        )
        for entry in entries
    ]
    numbers = table(
        ["variant", "against", "difference", "95 % low", "95 % high", "p (Holm)", "users better", "worse"],
        [
            [str(e["variant"]), str(e["other"])]
            + ["" if (v := number(e, key)) is None else signed(v) for key in ("difference", *WITH_SEEDS)]
            + [p_value(number(e, "p_holm"), "")]
            + ["" if (v := number(e, key)) is None else f"{v:.0f}" for key in ("better", "worse")]
            for e in entries
        ],
        left=2,
        hidden=[3, 4, 6, 7],
    )
    title = f"Difference of {source.metric}" + (f" from {reference}" if reference else "")
    return figure(
        title,
        charts.responsive(
            lambda width: charts.rows(rows, width, title, filled=False, axis=f"difference of {source.metric}")
        ),
        numbers,
        f"{source.measured} 95 % intervals of the paired difference over users and seeds; p of a randomisation test "
        f"over users after Holm's correction for the number of comparisons. A difference is {SHOWN}.",
    )


def _against(entry: dict[str, Value], reference: str | None) -> str:
    other = str(entry["other"])
    return str(entry["variant"]) if other == reference else f"{entry['variant']} {charts.MINUS} {other}"


def results_table(source: Source) -> str:
    """Every variant and baseline: what it uses, its metrics, its training."""
    cutoff = source.metric[source.metric.index("@") :]
    others = [m for m in source.table[0] if m.endswith(cutoff) and ", " not in m and m != source.metric]
    header = ["", source.metric, "± sd", "change", *others, "LE parts", "method", "backbone", "train s"]
    cells = []
    for row in source.table:
        change, sd, seconds = (number(row, key) for key in ("change_percent", "sd", "train_seconds"))
        cells.append(
            [
                str(row["variant"]),
                f"{number(row, 'value') or 0.0:.4f}",
                "" if sd is None else f"{sd:.4f}",
                "" if change is None else f"{signed(change, 1)} %",
                *("" if (v := number(row, name)) is None else f"{v:.4f}" for name in others),
                *(str(row.get(key) or "") for key in ("le", "method", "backbone")),
                "" if seconds is None else f"{seconds:,.0f}",
            ]
        )
    hidden = [2, *range(4 + min(len(others), 1), len(header))]
    kinds = [source.kinds[str(row["variant"])] for row in source.table]
    body = table(
        header, cells, words=range(len(header) - 4, len(header) - 1), kind="sortable full", hidden=hidden, kinds=kinds
    )
    note = paragraph("A wider screen shows more columns; table.csv has all.", "note narrow")
    lead = f"{source.measured} ± is the standard deviation over seeds, change that of {source.metric} against the "
    lead += "supervised twin."
    return section("table", "All results", legend(set(kinds)) + body + note + _lists(source), lead)


def _lists(source: Source) -> str:
    """What the lists are made of: coverage and the like, at the headline's cutoff or the largest there is."""
    entries = source.csv("lists.csv")
    if not entries:
        return paragraph("No lists.csv: what the recommended lists are made of was not measured.", "note")
    wanted = float(source.metric.partition("@")[2])
    cutoffs = sorted({number(row, "cutoff") or 0.0 for row in entries})
    cutoff = wanted if wanted in cutoffs else cutoffs[-1]
    names = [name for name in ("coverage", "gini", "novelty", "popularity", "distance") if name in entries[0]]
    chosen = [row for row in entries if number(row, "cutoff") == cutoff]
    cells = [[str(row["variant"]), *(_size(number(row, name)) for name in names)] for row in chosen]
    kinds = [source.kinds.get(str(row["variant"]), "plain") for row in chosen]
    return figure(
        f"What the first {cutoff:.0f} items of the lists are made of",
        table(["", *names], cells, kind="sortable full", hidden=[3, 4], kinds=kinds),
        note="One list for each test event. Coverage: share of the catalogue that anybody is shown. Gini: how "
        f"unequally, 0 all items alike. Novelty: mean of {charts.MINUS}log2 of an item's popularity. Popularity: mean "
        "training count. Distance: of the texts within a list.",
    )


def _size(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"
