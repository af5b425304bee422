"""The docs' numbers against benchmarks/results: tables row by row, and every mean with its deviation or its interval.

In: pages, and what docs_check.yaml says of them. Out: a line for everything that does not hold.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
NUMBER = r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[-+]?\d+)?"
SCORE = r"[-+]?0?\.\d{4}"


def value(number: str) -> float:
    """Of a number as the docs write it."""
    return float(number.replace(",", ""))


def near(shown: str, found: str, within: float) -> bool:
    """Whether they differ by no more than `within`, and what the shown one's last digit leaves open."""
    decimals = len(shown.partition("e")[0].partition(".")[2])
    return bool(abs(value(shown) - value(found)) <= within + 0.5 * 10**-decimals + 1e-9)


def source_of(path: Path) -> dict[str, list[str]]:
    """Numbers of a results file by key: a Markdown table's section and first cells, or the path in a JSON file."""
    found: dict[str, list[str]] = {}
    if path.suffix == ".json":
        _flatten(json.loads(path.read_text(encoding="utf-8")), "", found)
        return found
    section = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        elif line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("| ").split("|")]
            numbers = re.findall(NUMBER, " ".join(cells[1:]))
            for key in (cells[0], " ".join(cells[:2]), f"{section}: {cells[0]}"):
                found.setdefault(key, []).extend(numbers)
    return found


def _flatten(raw: Any, key: str, found: dict[str, list[str]]) -> None:
    if isinstance(raw, dict):
        for name, below in raw.items():
            _flatten(below, f"{key} {name}".strip(), found)
    elif isinstance(raw, list):
        for below in raw:
            names = (
                [str(below[name]) for name in ("items", "runtime") if name in below] if isinstance(below, dict) else []
            )
            _flatten(below, " ".join([key, *names]), found)
    elif isinstance(raw, int | float):
        found[key] = [f"{raw:.9f}"]


@cache
def pairs(asked: str) -> str:
    """How two kept results of the benchmark differ: "DATA ONE OTHER"."""
    from benchmarks.paper.params import read_benchmark
    from benchmarks.paper.report import difference

    return difference(read_benchmark(), asked.split())


def rows_of(text: str, head: str) -> list[list[str]] | None:
    """Cells of the rows of the table whose head begins so; an empty first cell repeats that above. None: no table."""
    place = text.find(f"\n{head}")
    if place < 0:
        return None
    lines = re.match(r"(?:\|.*\n)+", text[place + 1 :] + "\n")
    rows = [
        [cell.strip().strip("*") for cell in line.strip()[1:-1].split("|")]
        for line in (lines[0] if lines else "").splitlines()
    ]
    for before, row in pairwise(rows):
        row[0] = row[0] or before[0]
    return rows[2:]


def check_tables(tables: Iterable[dict[str, Any]], docs: dict[str, str]) -> Iterator[str]:
    """Every number in a row is one of its source's row, as far as its digits go."""
    for one in tables:
        source, labels = source_of(RESULTS / one["from"]), one.get("labels", 1)
        rows = rows_of(docs[one["in"]], one["head"])
        if rows is None:
            yield f"{one['in']}: has no table with the head {one['head']}"
        for row in rows or []:
            label = " ".join(row[:labels])
            key = one["rows"].get(label, "") if "rows" in one else label
            keys = key if isinstance(key, list) else [key]
            known = [number for key in keys for number in _numbers(source, key)]
            if not known:
                yield f"{one['in']}: the row {label} has no source in {one['from']}"
            shares = [f"{100 * value(number):.9f}" for number in known] if one.get("percent") else []
            for number in re.findall(NUMBER, " ".join(row[labels:])):
                if not any(near(number, other, 0.0) for other in [*known, *shares]):
                    yield f"{one['in']}: {number} in the row {label} is not in {one['from']}"


def _numbers(source: dict[str, list[str]], key: str) -> list[str]:
    if key.startswith("pair "):
        return re.findall(NUMBER, pairs(key.removeprefix("pair ")))
    return source.get(key) or [number for name, own in source.items() if key and re.match(key, name) for number in own]


def check_intervals(how: dict[str, Any], docs: dict[str, str]) -> Iterator[str]:
    """Every "mean ± deviation" and "difference (low to high)" of four digits is in one of the results.

    Signs are not looked at: a sentence may turn a difference round.
    """
    texts = [(RESULTS / name).read_text(encoding="utf-8") for name in how["from"]] + [
        pairs(pair) for pair in how["pairs"]
    ]
    known = {found for text in texts for found in _known(text)}
    elsewhere = set(how["elsewhere"])
    shown = {(page, found) for page in how["in"] for found in _shown(docs[page])}
    for page, found in sorted(shown):
        if found not in known | elsewhere:
            yield f"{page}: {found} is in none of {', '.join(how['from'])}"
    for found in sorted(elsewhere - {found for _, found in shown}):
        yield f"the docs no longer have {found}: remove it from `elsewhere`"


def _bare(number: str) -> str:
    return number.lstrip("+-").removeprefix("0")


def _shown(text: str) -> Iterator[str]:
    """What a page says: "MEAN ± DEVIATION", and "DIFFERENCE (LOW to HIGH)" with a few words in between or none."""
    text = " ".join(line for line in text.split("\n") if not line.startswith("    "))
    for mean, deviation in re.findall(rf"({SCORE}) ± ({SCORE})", text):
        yield f"{_bare(mean)} ± {_bare(deviation)}"
    for one in re.finditer(rf"(?<!to )(?<![\d.])({SCORE})[^|.\d]{{1,30}}({SCORE}) to ({SCORE})", text):
        yield f"{_bare(one[1])} ({_bare(one[2])} to {_bare(one[3])})"


def _known(text: str) -> Iterator[str]:
    """What a results file says, in the same form: each interval with every number of its line."""
    for line in text.splitlines():
        numbers = {_bare(number) for number in re.findall(SCORE, line)}
        for mean, deviation in re.findall(rf"({SCORE}) ± ({SCORE})", line):
            yield f"{_bare(mean)} ± {_bare(deviation)}"
        for low, high in re.findall(rf"({SCORE}) to ({SCORE})", line):
            yield from (f"{number} ({_bare(low)} to {_bare(high)})" for number in numbers)
