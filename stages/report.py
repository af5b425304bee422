"""report: every variant's evaluation and training -> data/report/.

In: data/evaluations/, data/policies/, data/le_quality/summary.json, params `report`, `variants`, `evaluate.mask_seen`.
Out: report.md (for people), table.csv (for `lea report` and DVC's bar plot), headline.json (DVC metrics: one number per
variant), curves.csv (DVC's line plot), chart.png. Alone: `python -m stages.report`.
"""

from __future__ import annotations

from pathlib import Path

from lea_core.artifacts import publish_folder, read_json, write_csv, write_json
from lea_core.errors import no_arguments, run
from lea_core.params import load

DATA = Path("data")


def main(argv: list[str]) -> None:
    """Write the report; takes no arguments."""
    from lea_core.page.page import page
    from lea_core.report import draw, markdown, table_rows
    from lea_core.results import SELECTION, read_results

    no_arguments(argv)
    params = load()
    headline = params.report.metric
    results = read_results(DATA, params.variants)
    le_quality = read_json(DATA / "le_quality" / "summary.json")
    curves = [
        {"line": result.name, "seed": int(row["seed"]), "epoch": int(row["epoch"]), SELECTION: row[SELECTION]}
        for result in results
        for row in result.curve
    ]
    with publish_folder(DATA / "report") as folder:
        write_csv(folder / "table.csv", table_rows(results, headline))
        text = markdown(results, headline, le_quality, params.evaluate.mask_seen)
        (folder / "report.md").write_text(text, encoding="utf-8")
        write_json(folder / "headline.json", {result.name: result.scores[headline].mean for result in results})
        write_csv(folder / "curves.csv", curves)
        draw(results, headline, folder / "chart.png")
        page(folder, DATA, params)


if __name__ == "__main__":
    run(main)
