"""The report as one page: report.html, with examples.json and costs.csv, from a report folder.

In: the CSV files of data/report/, a few files of data/, params. Out: one HTML file that asks for nothing from outside,
in light and dark, for phone and desktop, whole without JavaScript. Where an input is not there, one line says so.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from lea_core.common.artifacts import publish_file, write_csv, write_json
from lea_core.evaluation.results import le_signals
from lea_core.params import Params, Tables
from lea_core.report.html.costs import COLUMNS, cost_rows, costs_section
from lea_core.report.html.examples import examples, examples_section
from lea_core.report.html.le import rewards, yardsticks
from lea_core.report.html.parts import parts
from lea_core.report.html.results import headline, results_table
from lea_core.report.html.slices import curves, slices
from lea_core.report.html.source import Source
from lea_core.report.html.style import CSS, SCRIPT
from lea_core.report.html.value import values

NAV = {
    "headline": "Results",
    "table": "Table",
    "parts": "What bought what",
    "le": "The LE",
    "slices": "Slices",
    "curves": "Training",
    "rewards": "Rewards",
    "value": "Off-policy",
    "costs": "Cost",
    "examples": "Users",
}


def page(folder: Path, data: Path, params: Params) -> None:
    """Write report.html, examples.json and costs.csv into `folder`, which has the report's CSV files.

    data: the pipeline's data/; dvc.yaml lies beside it. Raises `LeaError` where a file is of another version.
    """
    source = Source(folder, data, params.report.metric, frozenset(le_signals(params.variants)))
    found = examples(source)
    write_json(folder / "examples.json", found)
    rows = cost_rows(data.parent / "dvc.yaml")
    write_csv(folder / "costs.csv", rows, COLUMNS)
    sections = [
        headline(source),
        results_table(source),
        parts(source),
        yardsticks(source),
        slices(source),
        curves(source),
        rewards(source),
        values(source),
        costs_section(rows),
        examples_section(found),
    ]
    title, made = provenance(params)
    made = {name: words for name, words in made.items() if source.le or name != "LE"}
    made = {name: words for name, words in made.items() if source.signals or name != "LLM"}
    made["Measured"] = source.protocol["in_words"]
    top = _top(title, made, source, len(params.variants), source.json("interactions/quality.json") or {})
    with publish_file(folder / "report.html") as temporary:
        temporary.write_text(document(title, top + "".join(sections)), encoding="utf-8")


def document(title: str, body: str) -> str:
    """The whole file around the body of its <main>."""
    foot = "The files beside this page have all numbers: table.csv, comparisons.csv, slices.csv, report.md and more."
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>'
        f"{escape(title)}: LEA report</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{CSS}</style></head><body><main>{body}"
        f"<footer><p>{foot}</p></footer></main><script>{SCRIPT}</script></body></html>\n"
    )


def provenance(params: Params) -> tuple[str, dict[str, str]]:
    """The data set's name, and the parameters that matter most for reading the results."""
    dataset = params.dataset
    if isinstance(dataset, Tables):
        name, file = Path(dataset.interactions.source).name.split(".")[0], dataset.interactions
        origin, pinned = file.source, file.sha256
    else:
        name, origin, pinned = dataset.name, dataset.source, dataset.sha256
    least = params.preprocess.min_rating
    rating = "all events" if least is None else f"rated {least:g} or more"
    seeds = ", ".join(map(str, params.train.seeds))
    method = params.preprocess.split.method.replace("_", " ")
    return name, {
        "Data": f"{origin}{'' if pinned else ' (not pinned)'}",
        "Kept": f"{rating}, {params.preprocess.k_core}-core, split {method}",
        "Item text": dataset.text,
        "LLM": f"{params.llm.source.rpartition('/')[2]}, {params.llm.layers or 'all'} layers",
        "LE": f"learns from {100 * params.finetune_le.users_share:g} % of users, {params.tokenize_items.method} tokens",
        "Seeds": seeds,
    }


def _top(title: str, made: dict[str, str], source: Source, variants: int, quality: dict[str, Any]) -> str:
    counts = {
        "users": quality.get("users"),
        "items": quality.get("items"),
        "events": quality.get("events"),
        "test events": quality.get("events_test"),
        "variants": variants,
        "baselines": sum(row.get("kind") == "baseline" for row in source.table) or None,
    }
    facts = "".join(
        f"<div><dt>{name}</dt><dd>{count:,}</dd></div>" for name, count in counts.items() if count is not None
    )
    if "times" in quality:
        made = made | {"Times": quality["times"]}
    provenances = "".join(f"<li><b>{name}</b> {escape(words)}</li>" for name, words in made.items())
    words = f"{source.verdicts['finding']} {source.verdicts['rival']}".rstrip()
    links = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in NAV.items())
    return (
        f'<header><h1>LEA on {escape(title)}</h1><p class="verdict">{escape(words)}</p>'
        f'<dl class="facts">{facts}</dl><ul class="made">{provenances}</ul><nav>{links}</nav></header>'
    )
