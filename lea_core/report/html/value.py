"""The section on the policies' values as an off-policy estimator sees them, with what makes an estimate weak.

In: value.csv and what data/value/behaviour.json says in words. Out: the section, or the line that says why it is not
there.
"""

from __future__ import annotations

from lea_core.report.html import charts
from lea_core.report.html.charts import Row
from lea_core.report.html.html import figure, grid, missing, paragraph, section, table
from lea_core.report.html.source import Source, number

FEW = 100  # effective samples below which an estimate is called weak
CLIPPED = 0.1  # share of clipped weights above which it is


def values(source: Source) -> str:
    """Off-policy estimates of each policy's value, and how much they are worth."""
    title = "Value of the policies, estimated off-policy"
    entries, behaviour = source.csv("value.csv"), source.json("value/behaviour.json")
    if not entries or behaviour is None:
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
                weak.add(f"{row['variant']} ({estimator.replace('_', ' ')})")
        numbers = table(
            ["", "value", "95 % low", "95 % high", "effective samples", "clipped"],
            [
                [str(row["variant"])]
                + ["" if (v := number(row, key)) is None else f"{v:.4g}" for key in ("value", "low", "high")]
                + ["" if (v := number(row, "effective_sample_size")) is None else f"{v:,.0f}"]
                + ["" if (v := number(row, "clipped_share")) is None else f"{100 * v:.1f} %"]
                for row in own
            ],
            hidden=[2, 3],
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
    said = "".join(paragraph(words) for words in behaviour["in_words"])
    return section("value", title, paragraph(warning, "warning") + grid(figures) + said)
