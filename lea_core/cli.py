"""`lea`, the command line for people; the stages stay plain `python -m stages.<name>`.

In: params.yaml, data/report/. Out: tables on the screen; a mistake is one line and exit status 1.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from lea_core.artifacts import read_json
from lea_core.errors import LeaError, run
from lea_core.params import load

REPORT = Path("data/report")
app = typer.Typer(
    help="Recommenders trained with reinforcement learning on a language model's judgement.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def report() -> None:
    """Print the report's table: every variant against its supervised twin, and the LE by itself."""
    from lea_core.report import le_table

    path = REPORT / "table.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise LeaError(f"{path}: not found: run `dvc repro` to make it") from None
    headline = rows[0]["metric"]
    others = [name for name in rows[0] if name.endswith(headline[headline.index("@") :]) and name != headline]
    cells = [
        [row["variant"], row["le"], _score(row["value"], row["sd"]), _percent(row["change_percent"])]
        + [f"{float(row[name]):.4f}" for name in others]
        + [f"{float(row['train_seconds']):.0f} s"]
        for row in rows
    ]
    _print("Test split", ["variant", "LE", headline, "change", *others, "train"], cells, left=2)
    _print(*le_table(read_json(Path("data/le_quality/summary.json"))), left=1)
    Console().print(f"Change: {headline} against the supervised twin. More: {REPORT}/report.md and chart.png")


@app.command()
def check() -> None:
    """Validate params.yaml and say what each variant uses."""
    params = load()
    cells = [
        [name, variant.backbone, variant.method, variant.state, variant.reward, variant.actions]
        for name, variant in params.variants.items()
    ]
    title = f"{params.dataset.name}, seeds {', '.join(map(str, params.train.seeds))}"
    _print(title, ["variant", "backbone", "method", "state", "reward", "actions"], cells, left=6)


def _score(mean: str, sd: str) -> str:
    return f"{float(mean):.4f} ± {float(sd):.4f}" if sd else f"{float(mean):.4f}"


def _percent(value: str) -> str:
    return f"{float(value):+.1f} %" if value else "-"


def _print(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> None:
    """Print a table whose first `left` columns are text and whose others are numbers."""
    table = Table()
    for place, name in enumerate(header):
        table.add_column(name, justify="left" if place < left else "right", no_wrap=place >= left)
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(title, style="bold")
    console.print(table)


def main() -> None:
    """Entry point of `lea`."""
    run(lambda argv: app(argv))


if __name__ == "__main__":
    main()
