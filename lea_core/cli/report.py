"""`lea report`: the report's table on the screen.

In: data/report/{table.csv,protocol.json,le.json}. Out: tables on stdout.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from lea_core.cli.printing import print_table, say
from lea_core.common.artifacts import read_json
from lea_core.common.errors import LeaError

REPORT = Path("data/report")


def report() -> None:
    """Print the report's table: every variant against its supervised twin, and the LE by itself."""
    from lea_core.report.environment_table import le_table
    from lea_core.report.markdown import event_types

    path = REPORT / "table.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise LeaError(f"{path}: not found: run `dvc repro` to make it") from None
    headline = rows[0]["metric"]
    cutoff = headline[headline.index("@") :]
    others = [name for name in rows[0] if name.endswith(cutoff) and ", " not in name and name != headline]
    cells = [
        [row["variant"], row["le"], *_scores(row, row["value"], others), _seconds(row["train_seconds"])] for row in rows
    ]
    print_table("Test split", ["variant", "LE", headline, "change", *others, "train"], cells, left=2)
    protocol = read_json(REPORT / "protocol.json")
    say(protocol["in_words"])
    for event in event_types(rows[0]):
        of_type = [event_types(row)[event] for row in rows]
        cells = [
            [row["variant"], row["le"], *_scores(own, own[headline], others)]
            for row, own in zip(rows, of_type, strict=True)
        ]
        title = f"Test split, {event or 'no event type'}: {of_type[0]['events']} events, else as above"
        print_table(title, ["variant", "LE", headline, "change", *others], cells, left=2)
    le = read_json(REPORT / "le.json")
    if le["summary"]:
        print_table(*le_table(le["summary"]), left=1)
        say(le["measured"])
    say(f"Change: {headline} against the supervised twin. More: {REPORT}/report.md and chart.png")


def _scores(row: Mapping[str, str], headline: str, others: Iterable[str]) -> list[str]:
    found = [_score(headline, row["sd"]), _percent(row["change_percent"])]
    return found + [f"{float(row[name]):.4f}" for name in others]


def _score(mean: str, sd: str) -> str:
    return f"{float(mean):.4f} ± {float(sd):.4f}" if sd else f"{float(mean):.4f}"


def _seconds(value: str) -> str:
    return f"{float(value):.0f} s" if value else "-"


def _percent(value: str) -> str:
    return f"{float(value):+.1f} %" if value else "-"
