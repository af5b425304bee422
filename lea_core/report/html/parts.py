"""The section on what bought what: each part of the LE beside its controls, with a verdict in words.

In: parts.csv, verdicts.json. Out: the section, or the line that says why it is not there.
"""

from __future__ import annotations

from lea_core.evaluation.ablation import BEATS
from lea_core.report.html import charts
from lea_core.report.html.charts import Row
from lea_core.report.html.html import figure, grid, legend, missing, p_value, paragraph, section, signed, table
from lea_core.report.html.source import WITH_SEEDS, Source, Value, number


def parts(source: Source) -> str:
    """Each part of the LE beside its controls, with a verdict in words."""
    title = "What bought what"
    entries = [row for row in source.csv("parts.csv") or [] if row["metric"] == source.metric]
    if not entries:
        return missing(
            "parts",
            title,
            "no parts.csv: no variant stands alone for a part of the LE. Add variants that use one part and controls "
            "in its place to params.yaml, then run `dvc repro`.",
        )
    figures = []
    for part in dict.fromkeys(str(row["part"]) for row in entries):
        group = [row for row in entries if row["part"] == part]
        own = sorted(group, key=lambda row: (_is_control(row), -(number(row, "difference") or 0.0)))
        rows = [
            Row(
                _label(row, own),
                number(row, "difference") or 0.0,
                number(row, "low_with_seeds"),
                number(row, "high_with_seeds"),
                kind="control" if _is_control(row) else "le",
                text=signed(number(row, "difference") or 0.0),
            )
            for row in own
            if number(row, "difference") is not None
        ]
        numbers = table(
            ["source", "variant", "against", "value", "difference", "95 % low", "95 % high", "p (Holm)"],
            [
                [_source(row), str(row["variant"]), str(row["other"] or "")]
                + ["" if (v := number(row, "value")) is None else f"{v:.4f}"]
                + ["" if (v := number(row, key)) is None else signed(v) for key in ("difference", *WITH_SEEDS)]
                + [p_value(number(row, "p_holm"), "")]
                for row in own
            ],
            left=3,
            hidden=[1, 2, 3, 7],
        )
        name = f"{part}: change of {source.metric}"
        drawn = (
            charts.responsive(lambda width, rows=rows, name=name: charts.rows(rows, width, name, filled=False))  # type: ignore[misc]
            if rows
            else ""
        )
        said = [one["in_words"] for one in source.verdicts["parts"] if one["part"] == part]
        words = "".join(map(paragraph, said or [f"No variant uses the LE's {part}: nothing to judge."]))
        figures.append(figure(part.capitalize(), words + drawn, numbers))
    lead = (
        "A part of the LE earns its price when it beats what costs nothing in its place: the controls. Lines are 95 % "
        f"intervals over users and seeds. {BEATS} {source.measured}"
    )
    return section("parts", title, legend({"le", "control"}) + grid(figures), lead)


def _source(row: dict[str, Value]) -> str:
    return "LE" if row["source"] == "le" else str(row["source"]).replace("_", " ")


def _label(row: dict[str, Value], rows: list[dict[str, Value]]) -> str:
    """The source, with the variant where another row has the same source."""
    alone = sum(other["source"] == row["source"] for other in rows) == 1
    return _source(row) if alone else f"{_source(row)} ({row['variant']})"


def _is_control(row: dict[str, Value]) -> bool:
    return str(row["control"]).lower() in ("true", "1", "1.0")
