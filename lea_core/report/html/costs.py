"""The section on what each stage cost, and costs.csv behind it.

In: what stage_costs.py noted down, the stages that dvc.yaml names and what they read. Out: a row per stage, in the
order of dvc.yaml, with whether it reads the LLM, as dvc.yaml's dependencies say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lea_core.common import stage_costs
from lea_core.common.progress import duration
from lea_core.params import read_yaml
from lea_core.report.html import charts
from lea_core.report.html.charts import Row
from lea_core.report.html.html import figure, grid, missing, paragraph, section, table

COLUMNS = ("stage", "seconds", "peak_mb", "tokens", "reads_llm")
LLM = "data/llm"


def cost_rows(pipeline: Path) -> list[dict[str, Any]]:
    """Rows of costs.csv in the order of the stages in dvc.yaml at `pipeline`, each variant of a stage its own.

    The report's own cost is not known yet and left out. A stage without a record has a row of its name alone.
    """
    found = stage_costs.read()
    stages: dict[str, Any] = read_yaml(pipeline)["stages"] if pipeline.exists() else {}
    names = [name for name in stages if name != "report"] or sorted(found)
    rows: list[dict[str, Any]] = []
    for name in names:
        own = [stage for stage in found if stage.partition("@")[0] == name.partition("@")[0]]
        stage = stages.get(name, {})
        read = {"reads_llm": LLM in stage.get("do", stage).get("deps", [])}
        rows += [{"stage": one, **found[one], **read} for one in own] or [
            dict.fromkeys(COLUMNS) | {"stage": name, **read}
        ]
    return rows


def costs_section(rows: Sequence[dict[str, Any]]) -> str:
    """Bars of seconds, and a table of all; variants of a stage are one bar."""
    title = "What it cost"
    known = [row for row in rows if row["seconds"] is not None]
    if not known:
        return missing("costs", title, "no stage has noted its cost on this machine: the next run of each does.")
    bars, cells = [], []
    for stage in dict.fromkeys(row["stage"].partition("@")[0] for row in known):
        own = [row for row in known if row["stage"].partition("@")[0] == stage]
        seconds = sum(row["seconds"] for row in own)
        runs = f" ({len(own)} runs)" if len(own) > 1 else ""
        kind = "le" if own[0]["reads_llm"] else "plain"
        bars.append(Row(stage + runs, seconds, kind=kind, text=duration(seconds)))
        peak, tokens = _all(own, "peak_mb"), _all(own, "tokens")
        cells.append(
            [
                stage + runs,
                duration(seconds),
                f"{max(peak):,.0f} MB" if peak else "",
                f"{sum(tokens):,.0f}" if tokens else "",
            ]
        )
    total = duration(sum(row["seconds"] for row in known))
    name = f"Time of each stage, {total} in all"
    note = "Stages of the LE's colour read the LLM. Memory is that of a stage's largest process; tokens are those "
    note += "that the LLM's passes read."
    drawn = charts.responsive(lambda width: charts.rows(bars, width, name, axis="seconds"))
    silent = [row["stage"] for row in rows if row["seconds"] is None]
    rest = paragraph(f"Nothing is known of {', '.join(silent)}: not run on this machine yet.", "note") if silent else ""
    lead = (
        "Each stage's last real run on this machine: what DVC took from its cache keeps the cost of when it was made. "
    )
    lead += "A run that went on where a killed one had stopped counts its own time alone."
    numbers = table(["stage", "time", "peak memory", "tokens"], cells)
    return section(
        "costs", title, grid([figure(name, drawn, note=note), figure("Time, memory, tokens", numbers + rest)]), lead
    )


def _all(rows: Iterable[dict[str, Any]], key: str) -> list[float]:
    return [row[key] for row in rows if row[key] is not None]
