"""The report as one page: report.html, with examples.json and costs.csv, from a report folder.

In: the CSV files of data/report/, a few files of data/, params. Out: one HTML file that asks for nothing from outside,
in light and dark, for phone and desktop, whole without JavaScript. Where an input is not there, one line says so.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from lea_core.artifacts import publish_file, write_csv, write_json
from lea_core.page.costs import COLUMNS, cost_rows, costs_section
from lea_core.page.examples import choose, examples, examples_section
from lea_core.page.html import signed
from lea_core.page.le import rewards, yardsticks
from lea_core.page.parts import parts
from lea_core.page.results import headline, results_table
from lea_core.page.slices import curves, slices
from lea_core.page.source import WITH_SEEDS, Source, number
from lea_core.page.style import CSS, SCRIPT
from lea_core.page.value import values
from lea_core.params import Params, Tables, Variant

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
    source = Source(folder, data, params.report.metric)
    found = examples(source, params.variants)
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
    top = _top(title, made, source, params.variants, source.json("interactions/quality.json") or {})
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
        "Ranked": "all items" + (" but those seen before" if params.evaluate.mask_seen else ""),
    }


def _top(
    title: str, made: dict[str, str], source: Source, variants: dict[str, Variant], quality: dict[str, Any]
) -> str:
    counts = {
        "users": quality.get("users"),
        "items": quality.get("items"),
        "events": quality.get("events"),
        "test events": quality.get("events_test"),
        "variants": len(variants),
        "baselines": sum(row.get("kind") == "baseline" for row in source.table) or None,
    }
    facts = "".join(
        f"<div><dt>{name}</dt><dd>{count:,}</dd></div>" for name, count in counts.items() if count is not None
    )
    if "times" in quality:
        made = made | {"Times": quality["times"]}
    provenances = "".join(f"<li><b>{name}</b> {escape(words)}</li>" for name, words in made.items())
    words = f"{finding(source, variants)} {rival(source, variants)}".rstrip()
    links = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in NAV.items())
    return (
        f'<header><h1>LEA on {escape(title)}</h1><p class="verdict">{escape(words)}</p>'
        f'<dl class="facts">{facts}</dl><ul class="made">{provenances}</ul><nav>{links}</nav></header>'
    )


def finding(source: Source, variants: dict[str, Variant]) -> str:
    """The result in a sentence: the LE's best variant on validation against its supervised twin, on test."""
    chosen = choose(source, variants)
    value = {str(row["variant"]): number(row, "value") for row in source.table}
    if chosen is None or any(value.get(name) is None for name in chosen):
        best = max(value, key=lambda name: value[name] or 0.0)
        words = f"{best} has the highest test {source.metric}, {value[best] or 0.0:.4f}."
        return f"{words} No variant uses the LE beside a supervised twin."
    lea, twin = chosen
    words = (
        f"{lea}, the best variant with the LE on validation, has test {source.metric} {value[lea]:.4f}; its supervised "
    )
    words += f"twin without the LE has {value[twin]:.4f}."
    found = difference(source, "comparisons.csv", (lea, twin), "The difference")
    return f"{words} {found or 'No paired test says whether that is more than chance.'}"


def difference(source: Source, file: str, pair: tuple[str, str], subject: str) -> str:
    """A paired comparison of the report in a sentence; nothing where it was not made."""
    rows = source.csv(file) or []
    for row in rows:
        if (row["variant"], row["other"], row["metric"]) == (*pair, source.metric):
            low, high, p = (number(row, key) for key in (*WITH_SEEDS, "p_holm"))
            if low is None or high is None:
                break
            size = f"{signed(number(row, 'difference') or 0.0)} (95 % {signed(low)} to {signed(high)})"
            if not (low > 0 or high < 0):
                return f"{subject}, {size}, is not told apart from chance."
            if p is None or p < 0.05:
                return f"{subject}, {size}, is more than chance."
            return f"{subject}, {size}, is no more than chance may give in {len(rows)} comparisons (p {p:.3f} by Holm)."
    return ""


def rival(source: Source, variants: dict[str, Variant]) -> str:
    """The baseline without the LLM that is best on validation, in a sentence, and how the LE's best variant differs.

    Nothing where there is none.
    """
    scores = {}
    for row in source.table:
        metrics = source.json(f"baselines/{row['variant']}/metrics.json")
        if metrics and source.kinds[str(row["variant"])] == "baseline":
            scores[str(row["variant"])] = metrics["valid"][source.metric]["mean"]
    if not scores:
        return ""
    best = max(scores, key=lambda name: scores[name])
    value = next(number(row, "value") for row in source.table if row["variant"] == best)
    words = f"{best}, the best baseline on validation, trains nothing and has test {source.metric} {value or 0.0:.4f}."
    if (chosen := choose(source, variants)) is None:
        return words
    lea, _ = chosen
    return (
        f"{words} {difference(source, 'beside_baseline.csv', (lea, best), f'The difference of {lea} from it')}".rstrip()
    )
