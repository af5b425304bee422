"""The sections that take the variants apart: by slice of the test events, and by epoch of their training.

In: slices.csv, curves.csv, verdicts.json. Out: a section each, or the line that says why it is not there.
"""

from __future__ import annotations

from lea_core.evaluation.slices import FEW, TITLES
from lea_core.report.html import charts
from lea_core.report.html.charts import Line
from lea_core.report.html.html import figure, grid, heat, missing, paragraph, section
from lea_core.report.html.source import Source, Value, number


def slices(source: Source) -> str:
    """A heat table for each way of cutting the test events."""
    title = "Where each variant is good"
    entries = source.csv("slices.csv")
    if not entries or source.metric not in entries[0]:
        return missing("slices", title, f"no slices.csv with {source.metric}: run `dvc repro`.")
    figures, alone = [], []
    for name in dict.fromkeys(str(row["slice"]) for row in entries):
        own = [row for row in entries if row["slice"] == name]
        bands = list(dict.fromkeys(_band(row["band"]) for row in own))
        if len(bands) < 2:
            alone.append(f"{TITLES.get(name, name)}: {bands[0]} only.")
            continue
        events = {_band(row["band"]): number(row, "events") or 0.0 for row in own}
        found = {(str(row["variant"]), _band(row["band"])): number(row, source.metric) for row in own}
        variants = list(dict.fromkeys(str(row["variant"]) for row in own))
        cells = {variant: [found.get((variant, band)) for band in bands] for variant in variants}
        counts = ", ".join(f"{band}: {events[band]:,.0f}" for band in bands)
        small = [place for place, band in enumerate(bands) if events[band] < FEW]
        body = heat(["", *bands], cells, source.kinds, source.reference, small)
        figures.append(figure(TITLES.get(name, name.replace("_", " ").capitalize()), body, note=f"Events: {counts}."))
    against = source.reference or "the mean of a column"
    lead = (
        f"{source.metric} by slice of the test events. {source.measured} Of a band, over its events. Green is better "
        f"than {against} there, red worse; all of the colour at 30 %, none of it where a band has fewer than {FEW} "
        "events."
    )
    return section("slices", title, grid(figures) + paragraph(" ".join(alone), "note"), lead)


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
        drawn: list[Line] = []
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
    notes = "".join(paragraph(words, "note") for words in source.verdicts["cautions"])
    return section("curves", title, notes + grid(panels, "many"), lead)
