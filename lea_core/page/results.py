"""The sections on the variants: headline, table, what bought what, slices, lists, training curves, off-policy values.

In: the report's CSV files. Out: a section each, or the line that says why it is not there.
"""

from __future__ import annotations

from itertools import groupby

from lea_core.page import charts
from lea_core.page.charts import Line, Row
from lea_core.page.html import figure, grid, heat, missing, paragraph, section, signed, table
from lea_core.page.source import KINDS, Source, Value, interval, number

FEW = 100  # effective samples below which an off-policy estimate is called weak
CLIPPED = 0.1  # share of clipped weights above which it is


def legend(kinds: set[str]) -> str:
    """What the colours say, of the kinds that are there."""
    items = [f'<li><i class="mark {kind}"></i>{words}</li>' for kind, words in KINDS.items() if kind in kinds]
    return f'<ul class="legend">{"".join(items)}</ul>'


def headline(source: Source) -> str:
    """The test value of every variant and baseline, and the differences from their twins."""
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
        f"{seeds_note}lines are 95 % intervals over users of the mean over seeds. Two that overlap can still differ: "
        "the same users are ranked by both, and the differences beside it are of pairs.",
    )
    return section("headline", "Who ranks the next item best", grid([whole, _differences(source)]))


def _differences(source: Source) -> str:
    entries = [row for row in source.csv("comparisons.csv") or [] if row["metric"] == source.metric]
    if not entries:
        return paragraph("No paired comparisons (comparisons.csv): they need another variant to compare with.", "note")
    entries.sort(key=lambda row: -(number(row, "difference") or 0.0))
    rows = [
        Row(
            _against(entry, source.reference),
            number(entry, "difference") or 0.0,
            number(entry, "low"),
            number(entry, "high"),
            kind=source.kinds.get(str(entry["variant"]), "plain"),
            text=_p(number(entry, "p_holm")),
        )
        for entry in entries
    ]
    numbers = table(
        ["variant", "against", "difference", "95 % low", "95 % high", "p (Holm)", "users better", "worse"],
        [
            [str(e["variant"]), str(e["other"])]
            + ["" if (v := number(e, key)) is None else signed(v) for key in ("difference", "low", "high")]
            + [_p(number(e, "p_holm"), "")]
            + ["" if (v := number(e, key)) is None else f"{v:.0f}" for key in ("better", "worse")]
            for e in entries
        ],
        left=2,
    )
    title = f"Difference of {source.metric}" + (f" from {source.reference}" if source.reference else "")
    return figure(
        title,
        charts.responsive(lambda width: charts.rows(rows, width, title, filled=False, axis=f"difference of {source.metric}")),
        numbers,
        "95 % intervals of the paired difference over users; p of a randomisation test after Holm's correction for the "
        "number of comparisons. An interval that crosses zero shows no difference.",
    )


def _against(entry: dict[str, Value], reference: str | None) -> str:
    other = str(entry["other"])
    return str(entry["variant"]) if other == reference else f"{entry['variant']} − {other}"


def _p(value: float | None, name: str = "p ") -> str:
    if value is None:
        return ""
    return f"{name}< 0.001" if value < 0.001 else f"{name}{'' if not name else '= '}{value:.3f}"


def results_table(source: Source) -> str:
    """Every variant and baseline: what it uses, its metrics, its training."""
    cutoff = source.metric[source.metric.index("@") :]
    others = [m for m in source.table[0] if m.endswith(cutoff) and ", " not in m and m != source.metric]
    lists = {str(row["variant"]): row for row in source.csv("lists.csv") or []}
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
    body = table(header, cells, kind="sortable full", hidden=hidden, kinds=kinds)
    note = paragraph("A wider screen shows more columns; table.csv has all.", "note narrow")
    lead = f"± is the standard deviation over seeds, change that of {source.metric} against the supervised twin."
    return section("table", "All results", legend(set(kinds)) + body + note + _lists(source, lists), lead)


def _lists(source: Source, rows: dict[str, dict[str, Value]]) -> str:
    """What the lists are made of: coverage and the like, at the headline's cutoff or the largest there is."""
    entries = source.csv("lists.csv")
    if not entries:
        return paragraph("No lists.csv: what the recommended lists are made of was not measured.", "note")
    wanted = float(source.metric.partition("@")[2])
    cutoffs = sorted({number(row, "cutoff") or 0.0 for row in entries})
    cutoff = wanted if wanted in cutoffs else cutoffs[-1]
    names = [name for name in ("coverage", "gini", "novelty", "popularity", "distance") if name in entries[0]]
    chosen = [row for row in entries if number(row, "cutoff") == cutoff]
    cells = [
        [str(row["variant"]), *("" if (v := number(row, name)) is None else f"{v:.3f}" for name in names)]
        for row in chosen
    ]
    kinds = [source.kinds.get(str(row["variant"]), "plain") for row in chosen]
    return figure(
        f"What the first {cutoff:.0f} items of the lists are made of",
        table(["", *names], cells, kind="sortable full", hidden=[4], kinds=kinds),
        note="Coverage: share of the catalogue that anybody is shown. Gini: how unequally, 0 all items alike. Novelty: "
        "mean of −log2 of an item's popularity. Popularity: mean training count. Distance: of the texts within a list.",
    )


def parts(source: Source) -> str:
    """Each part of the LE beside its controls, with a verdict in words."""
    title = "What bought what"
    entries = [row for row in source.csv("parts.csv") or [] if row["metric"] == source.metric]
    if not entries:
        return missing(
            "parts",
            title,
            "no parts.csv: no variant stands alone for a part of the LE. Add variants that use one part and controls in its "
            "place to params.yaml, then run `dvc repro`.",
        )
    figures = []
    for part, group in groupby(sorted(entries, key=lambda row: str(row["part"])), key=lambda row: str(row["part"])):
        own = sorted(group, key=lambda row: (_is_control(row), -(number(row, "difference") or 0.0)))
        rows = [
            Row(
                f"{str(row['source']).replace('_', ' ')} ({row['variant']})",
                number(row, "difference") or 0.0,
                number(row, "low"),
                number(row, "high"),
                kind="control" if _is_control(row) else "le",
                text=signed(number(row, "difference") or 0.0),
            )
            for row in own
            if number(row, "difference") is not None
        ]
        numbers = table(
            ["source", "variant", "against", "value", "difference", "95 % low", "95 % high", "p (Holm)"],
            [
                [str(row["source"]), str(row["variant"]), str(row["other"] or "")]
                + ["" if (v := number(row, "value")) is None else f"{v:.4f}"]
                + ["" if (v := number(row, key)) is None else signed(v) for key in ("difference", "low", "high")]
                + [_p(number(row, "p_holm"), "")]
                for row in own
            ],
            left=3,
        )
        name = f"{part}: change of {source.metric}"
        drawn = (
            charts.responsive(lambda width, rows=rows, name=name: charts.rows(rows, width, name, filled=False))  # type: ignore[misc]
            if rows
            else ""
        )
        figures.append(figure(part.capitalize(), paragraph(verdict(part, own, source.metric)) + drawn, numbers))
    lead = "A part of the LE earns its price when it beats what costs nothing in its place: the controls."
    return section("parts", title, legend({"le", "control"}) + grid(figures), lead)


def _is_control(row: dict[str, Value]) -> bool:
    return str(row["control"]).lower() in ("true", "1", "1.0")


def verdict(part: str, rows: list[dict[str, Value]], metric: str) -> str:
    """What the rows of a part of parts.csv show, in plain words; no more than their intervals and p-values allow."""
    le = [row for row in rows if not _is_control(row) and number(row, "difference") is not None]
    controls = [row for row in rows if _is_control(row) and number(row, "difference") is not None]
    if not le:
        return f"No variant uses the LE's {part}: nothing to judge."
    best = max(le, key=lambda row: number(row, "difference") or 0.0)
    gain, low, high = (number(best, key) for key in ("difference", "low", "high"))
    p = number(best, "p_holm")
    if gain is None or low is None or high is None:
        return f"The LE's {part} changed {metric} by {signed(gain or 0.0)}; without an interval that shows nothing."
    size = f"{signed(gain)} {metric} (95 % {signed(low)} to {signed(high)})"
    sure = p is None or p < 0.05
    if high < 0 and sure:
        words = f"The LE's {part} costs: {size}."
    elif low > 0 and sure:
        words = f"The LE's {part} bought {size}."
    else:
        words = f"Not shown that the LE's {part} buys anything: {size}."
    if not controls:
        return words + " It has no control."
    rival = max(controls, key=lambda row: number(row, "difference") or 0.0)
    other = number(rival, "difference") or 0.0
    name = str(rival["source"]).replace("_", " ")
    if other >= gain:
        return f"{words} The control {name} does as well or better ({signed(other)})."
    within = "; that is within the interval, so the gain is not shown to be the LE's own" if other >= low else ""
    return f"{words} The best control, {name}, has {signed(other)}{within}."


def slices(source: Source) -> str:
    """A heat table for each way of cutting the test events."""
    title = "Where each variant is good"
    entries = source.csv("slices.csv")
    if not entries or source.metric not in entries[0]:
        return missing("slices", title, f"no slices.csv with {source.metric}: run `dvc repro`.")
    figures = []
    for name in dict.fromkeys(str(row["slice"]) for row in entries):
        own = [row for row in entries if row["slice"] == name]
        bands = list(dict.fromkeys(_band(row["band"]) for row in own))
        events = {_band(row["band"]): number(row, "events") or 0.0 for row in own}
        found = {(str(row["variant"]), _band(row["band"])): number(row, source.metric) for row in own}
        variants = list(dict.fromkeys(str(row["variant"]) for row in own))
        cells = {variant: [found.get((variant, band)) for band in bands] for variant in variants}
        counts = ", ".join(f"{band}: {events[band]:,.0f}" for band in bands)
        body = heat(["", *bands], cells, source.kinds, source.reference)
        figures.append(figure(name.replace("_", " ").capitalize(), body, note=f"Events: {counts}."))
    against = source.reference or "the mean of a column"
    lead = f"{source.metric} by slice of the test events. Green is better than {against} there, red worse; full colour at 30 %."
    return section("slices", title, grid(figures), lead)


def _band(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def curves(source: Source) -> str:
    """Validation while training: a small chart of every variant, all on the same axes."""
    title = "Training"
    entries = source.csv("curves.csv")
    if not entries:
        return missing("curves", title, "no curves.csv: run `dvc repro`.")
    metric = next(name for name in entries[0] if name not in ("line", "seed", "epoch"))
    values = [number(row, metric) or 0.0 for row in entries]
    last = max(number(row, "epoch") or 0.0 for row in entries)
    panels = []
    for name in dict.fromkeys(str(row["line"]) for row in entries):
        own = [row for row in entries if row["line"] == name]
        kind = source.kinds.get(name, "plain")
        drawn = []
        for seed in dict.fromkeys(row["seed"] for row in own):
            points = [(number(r, "epoch") or 0.0, number(r, metric) or 0.0) for r in own if r["seed"] == seed]
            drawn.append(Line(points, kind=kind))
        best = max(number(row, metric) or 0.0 for row in own)

        def draw(width: float, drawn: list[Line] = drawn, name: str = name) -> str:
            # a line of one point that is not seen holds all panels to the same last epoch
            data = [*drawn, Line([(0.0, min(values)), (last, min(values))], kind="unseen")]
            return charts.lines(data, (width, 0.62 * width), f"{metric} by epoch, {name}", ("", ""), values)

        panels.append(figure(f"{name}, best {best:.4f}", charts.responsive(draw, 256, 168)))
    lead = f"Validation {metric} by epoch, a line for each seed; all panels have the same axes."
    return section("curves", title, grid(panels, "many"), lead)


def values(source: Source) -> str:
    """Off-policy estimates of each policy's value, and how much they are worth."""
    title = "Value of the policies, estimated off-policy"
    entries = source.csv("value.csv")
    if not entries:
        return missing("value", title, "no value.csv: nothing was estimated.")
    figures, weak = [], set()
    for estimator in dict.fromkeys(str(row["estimator"]) for row in entries):
        own = [row for row in entries if row["estimator"] == estimator and number(row, "value") is not None]
        rows = [
            Row(
                str(row["variant"]),
                number(row, "value") or 0.0,
                number(row, "low"),
                number(row, "high"),
                kind=source.kinds.get(str(row["variant"]), "plain"),
                text=f"{number(row, 'value') or 0.0:.3g}",
            )
            for row in own
        ]
        for row in own:
            size, clipped = number(row, "effective_sample_size"), number(row, "clipped_share")
            if (size is not None and size < FEW) or (clipped is not None and clipped > CLIPPED):
                weak.add(f"{row['variant']} ({estimator})")
        numbers = table(
            ["", "value", "95 % low", "95 % high", "effective samples", "clipped"],
            [
                [str(row["variant"])]
                + ["" if (v := number(row, key)) is None else f"{v:.4g}" for key in ("value", "low", "high")]
                + ["" if (v := number(row, "effective_sample_size")) is None else f"{v:,.0f}"]
                + ["" if (v := number(row, "clipped_share")) is None else f"{100 * v:.1f} %"]
                for row in own
            ],
        )

        def draw(width: float, rows: list[Row] = rows, estimator: str = estimator) -> str:
            return charts.rows(rows, width, f"Value by {estimator}", filled=False)

        if rows:
            figures.append(figure(estimator.replace("_", " "), charts.responsive(draw), numbers))
    warning = (
        "Take these with care. They reweight what a log shows of other choices than the policy's, with guessed "
        "probabilities of the logged ones: where few samples carry the weight or many weights are clipped, bias and "
        "spread are larger than the interval says."
    )
    if weak:
        warning += f" Weak here (fewer than {FEW} effective samples, or over {100 * CLIPPED:.0f} % clipped): "
        warning += f"{', '.join(sorted(weak))}."
    return section("value", title, paragraph(warning, "warning") + grid(figures))
