"""What the LE is worth by itself, as a table and how its numbers were measured: for report.md, the page, `lea report`.

In: data/le_quality/summary.json and quality.json; the size of the catalogue. Out: title, header and rows; a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lea_core.data.sequences import SPLITS


def le_table(summary: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Title, header and rows: a column per split, a row per name in one.

    summary: summary.json, such as {"users": 9, "test": {"NDCG@10, le": 0.1}}.
    """
    splits = {name: values for name, values in summary.items() if isinstance(values, Mapping)}
    found = [(name, value) for values in splits.values() for name, value in values.items()]
    # What is measured alike stands together, the best first.
    names = dict.fromkeys(name for name, _ in sorted(found, key=lambda pair: (pair[0].partition(",")[0], -pair[1])))
    rows = [[name.replace("_", " "), *(_text(values.get(name)) for values in splits.values())] for name in names]
    return f"The LE by itself, on {summary.get('users')} users that it did not learn from", ["", *splits], rows


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def le_note(quality: Mapping[str, Any], items: int | None) -> str:
    """Over which events its NDCG@10 is a mean, what was ranked, the rule for ties.

    quality: quality.json, such as {"users": 9, "test": {"events": 8}}. items: of the catalogue, None where not known.
    """
    events = [f"{quality[split]['events']:,} {split}" for split in SPLITS[1:] if split in quality]
    if not events:
        return "There is no held-out event of such users."
    every = "all items" if items is None else f"all {items:,} items"
    return (
        f"NDCG@10 is a mean over the {' and '.join(events)} events of these users, {every} ranked, equal scores at "
        "their mean rank. Items of the history are left out, so an event whose item its user had before is a miss; but "
        "not for the LE and the models trained in its place, which know how often users repeat one."
    )
