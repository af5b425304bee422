"""What bought what: every part of the LE beside its controls.

In: the `Result`s of the variants and each user's score (`user_scores`). Out: the rows of parts.csv, a verdict
for each part, a section of the report and parts.png.

A row compares a variant with the one that is like it but for a part: the same backbone, method, `set` and other parts.
Where several parts are used, they are also taken away together ("state + reward + actions"). Part `method` compares
variants without any part with their supervised twin; of one backbone and method the first in params.yaml is the method
as it is, others, with a `set` of their own, are its controls, and so are other supervised variants.

Every number is about the test split, every difference one of means over events (significance.py). p-values are those of
the paired randomisation test over users, corrected by Holm (1979). A pair that comparisons.csv has is taken from there,
with the p that was corrected there; the other rows are corrected among themselves.

A part beats its controls by another rule than that by which a difference is shown (BEATS). The best control is chosen
by the same test events, so it has some luck, and this is already against the LE. From one seed nothing is judged.
verdicts.py puts that into the words of both reports.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lea_core.common.palette import COLOURS
from lea_core.evaluation.comparisons import Scores, compare_users
from lea_core.evaluation.results import Result, interval
from lea_core.evaluation.significance import Comparison, holm
from lea_core.params import FOLDERS, LE_SOURCES, Variant

BEATS = (
    "A part beats its controls where the 95 % interval, over users and seeds, of its difference from the best of them "
    "is above zero; p is not asked, for the best is chosen by the same test events, which is already against the part."
)
WORDS = {True: "beats its controls", False: "does not beat its controls", None: "is not judged, from one seed"}
COLUMNS = (
    "part",
    "variant",
    "source",
    "control",
    "other",
    "metric",
    "value",
    "sd",
    "difference",
    "low",
    "high",
    "p_holm",
    "low_with_seeds",
    "high_with_seeds",
)


@dataclass(frozen=True)
class Pair:
    """A variant and the one without the part (of which `source` says where it comes from)."""

    part: str
    variant: str
    source: str
    control: bool
    other: str


@dataclass(frozen=True)
class Verdict:
    """Whether a part is better than its best control; no comparison where it has no control."""

    part: str
    variant: str
    control: str | None
    comparison: Comparison | None

    @property
    def beats(self) -> bool | None:
        """Whether the whole interval is above zero; None without a control or with one training of either."""
        if self.comparison is None or math.isnan(self.comparison.low_with_seeds):
            return None
        return self.comparison.low_with_seeds > 0.0

    def __str__(self) -> str:
        if self.comparison is None:
            return "has no control"
        return f"{WORDS[self.beats]} (best: {self.control})"


def pairs(variants: Mapping[str, Variant]) -> list[Pair]:
    """Every comparison that these variants, in the order of params.yaml, allow."""
    found = []
    for name, variant in variants.items():
        sources = variant.sources
        taken = [*((part,) for part in sources), *([tuple(sources)] if len(sources) > 1 else [])]
        for parts in taken:
            without = variant.model_copy(update=dict.fromkeys(parts, "none"))
            other = next((known for known, candidate in variants.items() if candidate == without), None)
            if other is not None:
                own = [sources[part] for part in parts]
                control = any(source not in LE_SOURCES for source in own)
                source = "le" if set(own) == {"le"} else " + ".join(own)
                found.append(Pair(" + ".join(parts), name, source, control, other))
    return found + _methods(variants)


def _methods(variants: Mapping[str, Variant]) -> list[Pair]:
    """Part `method` of every backbone that has a supervised variant."""
    found: list[Pair] = []
    first: dict[tuple[str, str], str] = {}
    plain = {name: variant for name, variant in variants.items() if not variant.uses_le}
    for name, variant in plain.items():
        first.setdefault((variant.backbone, variant.method), name)
    for name, variant in plain.items():
        twin = first.get((variant.backbone, "supervised"))
        if twin is not None and name != twin:
            found.append(Pair("method", name, variant.method, first[variant.backbone, variant.method] != name, twin))
    return [pair for pair in found if any(not other.control for other in found)]


def rows(
    scores: Scores, results: Sequence[Result], metric: str, comparisons: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The rows of parts.csv, part by part. comparisons: those of comparisons.csv; pairs that are there stay."""
    by_name = {result.name: result for result in results}
    wanted = pairs({result.name: result.variant for result in results if result.variant is not None})
    names = [(pair.variant, pair.other) for pair in wanted]
    known: dict[tuple[str, str], Mapping[str, Any]] = {(row["variant"], row["other"]): row for row in comparisons}
    new = {both: asdict(compare_users(scores, *both)) for both in names if both not in known}
    corrected = holm([row["p_randomisation"] for row in new.values()])
    known |= {both: row | {"p_holm": p} for (both, row), p in zip(new.items(), corrected, strict=True)}
    found = []
    for pair, both in zip(wanted, names, strict=True):
        score = by_name[pair.variant].scores[metric]
        row = {**vars(pair), **known[both], "control": str(pair.control).lower(), "metric": metric}
        row |= {"value": score.mean, "sd": "" if score.sd is None else score.sd}
        row |= {end: "" if math.isnan(row[end]) else row[end] for end in ("low_with_seeds", "high_with_seeds")}
        found.append({name: row[name] for name in COLUMNS})
    return sorted(found, key=lambda row: str(row["part"]))  # stable: variants keep their order


def verdicts(scores: Scores, results: Sequence[Result], metric: str) -> list[Verdict]:
    """For each part of the LE, in each place where it stands: whether it is better than the best of its controls."""
    by_name = {result.name: result for result in results}
    known = pairs({result.name: result.variant for result in results if result.variant is not None})
    found = []
    for pair in known:
        if pair.control:
            continue
        rivals = [
            other.variant
            for other in known
            if other.control and (other.part, other.other) == (pair.part, pair.other) and _alike(by_name, pair, other)
        ]
        if not rivals:
            found.append(Verdict(pair.part, pair.variant, None, None))
            continue
        best = max(rivals, key=lambda name: by_name[name].scores[metric].mean)
        found.append(Verdict(pair.part, pair.variant, best, compare_users(scores, pair.variant, best)))
    return found


def _alike(by_name: Mapping[str, Result], pair: Pair, other: Pair) -> bool:
    """Whether a control stands for this very variant: of the same method, or more steps of the supervised one."""
    methods = {found.method for name in (pair.variant, other.variant) if (found := by_name[name].variant) is not None}
    return len(methods) == 1 or (pair.part == "method" and "supervised" in methods)


def section(found: Sequence[Mapping[str, Any]], said: Sequence[str], measured: str) -> str:
    """The section of report.md; empty without a comparison. said: verdicts in words. measured: `Protocol.sentence`."""
    if not found:
        return ""
    metric = found[0]["metric"]
    lines = [
        "## What bought what",
        "",
        f"{metric} of each variant, and its difference from the one that lacks the part, with its 95 % intervals over "
        "users, and over users and seeds; p of the randomisation test over users, corrected by Holm: of a variant and "
        "its supervised twin over all such pairs, as in the table of all variants, of the others over the rest of this "
        f"table. {BEATS} {measured}",
        "",
        f"| part | source | variant | against | {metric} | difference | users | users and seeds | p |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in found:
        source = f"{row['source']} (control)" if row["control"] == "true" else row["source"]
        numbers = f"{row['value']:.4f} | {row['difference']:+.4f} | {interval(row)} | {interval(row, '_with_seeds')}"
        lines.append(
            f"| {row['part']} | {source} | {row['variant']} | {row['other']} | {numbers} | {row['p_holm']:.3f} |"
        )
    lines += ["", *(f"- {words}" for words in said), ""]
    return "\n".join(lines)


def draw(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write parts.png: the difference that each part makes and its interval, in colour, its controls in grey."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    parts = list(dict.fromkeys((row["part"], row["other"]) for row in found))
    colours = {part: COLOURS[1 + place % (len(COLOURS) - 1)] for place, part in enumerate((*FOLDERS, "method"))}
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.28 * (len(found) + len(parts))))
    labels, place = {}, 0.0
    for key in parts:
        for row in (row for row in found if (row["part"], row["other"]) == key):
            colour = COLOURS[0] if row["control"] == "true" else colours.get(row["part"], COLOURS[-1])
            low, high = (row[f"{end}_with_seeds"] for end in ("low", "high"))
            error = [[row["difference"] - low], [high - row["difference"]]] if low != "" else None
            axes.barh(place, row["difference"], color=colour, xerr=error, error_kw={"lw": 1.0, "capsize": 2})
            labels[place] = f"{row['variant']} - {row['other']}"
            place += 1.0
        place += 0.6
    axes.axvline(0.0, color="black", lw=0.8)
    axes.set(yticks=list(labels), yticklabels=list(labels.values()))
    title = f"Difference of test {found[0]['metric']}, 95 % interval over users and seeds; controls in grey"
    axes.set_title(title, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
