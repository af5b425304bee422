"""The picture of the paper-scale benchmark: what ranks how well, and what each signal of the LE adds.

In: `Found` of each data set (summary.py). Out: docs/benchmark.png, a row of two panels for each: left test
NDCG@10 of baselines, of every method without the LE and with all of its signals, and of the best on validation; right
the difference that one signal of the LE makes, with its 95 % interval over users and seeds, above its controls in grey.
Where no controls have run, the signals are shown in every method.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.paper.summary import NDCG, Found, best, uses_all
from benchmarks.support.written import new_figure, plain
from lea_core.common.registry import BACKBONES
from lea_core.evaluation.results import Result
from lea_core.params import FOLDERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WITH, WITHOUT, REST = "#D55E00", "#0072B2", "#999999"  # the LE; a policy without it; what is no policy, a control
LINE = 0.235  # inches
NAMES = {
    **{name: BACKBONES.load(name).TITLE for name in BACKBONES.names},
    "scientific": "Amazon Scientific",
    "lastfm": "Last.fm",
    "snqn": "SNQN",
    "sa2c": "SA2C",
    "both-items": "LE x item knn",
    "le": "the LE itself",
}


def picture(all_found: Sequence[Found]) -> Figure:
    """The figure."""
    lines = [max(len(systems(found)), len(shown_parts(found))) + 6 for found in all_found]
    figure, grid = new_figure(
        *(len(all_found), 2), figsize=(13, LINE * sum(lines)), squeeze=False, height_ratios=lines, layout="constrained"
    )
    for found, (left, right) in zip(all_found, grid, strict=True):
        _systems(left, found)
        _parts(right, found)
        for axes in (left, right):
            axes.invert_yaxis()
            plain(axes, 10.5)
            axes.tick_params(axis="y", length=0, labelsize=9)
            axes.margins(y=0.02)
    figure.get_layout_engine().set(h_pad=0.15, w_pad=0.1)  # type: ignore[union-attr]
    return figure


def systems(found: Found) -> list[Result]:
    """Baselines, methods without the LE, with all signals, and the best on validation: the best on test first."""
    chosen = (best(found) or {}).get("best_lea")
    plain = [result for result in found.results if result.kind == "variant" and _plain(result)]
    wanted = [
        result
        for result in found.results
        if result.kind == "baseline" or result in plain or uses_all(result) or result.name == chosen
    ]
    return sorted(wanted, key=lambda result: -result.scores[NDCG].mean)


def _plain(result: Result) -> bool:
    """Whether it is a method as it is: <backbone>-<method>."""
    variant = result.variant
    return variant is not None and result.name == f"{variant.backbone}-{variant.method}"


def shown_parts(found: Found) -> list[dict[str, Any]]:
    """Rows of one signal each (what_bought_what.rows): of the method with controls, or of all; controls come last."""
    single = [row for row in found.parts if row["part"] in FOLDERS and row["low_with_seeds"] != ""]
    controlled = {row["other"] for row in single if row["control"] == "true"}
    kept = [row for row in single if (not controlled and _is_plain(row, found)) or row["other"] in controlled]
    order = {part: place for place, part in enumerate(FOLDERS)}
    return sorted(kept, key=lambda row: (order[row["part"]], row["control"] == "true", -row["difference"]))


def _is_plain(row: dict[str, Any], found: Found) -> bool:
    return _plain(found.kept[row["other"]].result)


def _systems(axes: Axes, found: Found) -> None:
    chosen = (best(found) or {}).get("best_lea")
    names = []
    for place, result in enumerate(systems(found)):
        score = result.scores[NDCG]
        colour = REST if result.variant is None else WITH if result.sources else WITHOUT
        bars = axes.barh(place, score.mean, color=colour, xerr=score.sd, error_kw={"lw": 1.0, "capsize": 2})
        axes.bar_label(bars, fmt="%.4f", padding=4, fontsize=8)
        names.append(_words(result, chosen))
    axes.set(
        yticks=range(len(names)),
        yticklabels=names,
        xlabel="NDCG@10, test, ± standard deviation over seeds; * best on validation",
    )
    axes.set_title(f"{_word(found.name)}: with the LE (orange), without (blue), baselines (grey)")
    axes.margins(x=0.12)


def _word(name: str) -> str:
    return NAMES.get(name, name.replace("_", " ").replace("-", ", "))


def _words(result: Result, chosen: str | None) -> str:
    """Of a result; an asterisk for the best on validation."""
    if result.variant is None:
        return _word(result.name)
    name = f"{_word(result.variant.backbone)} {_word(result.variant.method)}"
    if result.sources:
        name += ", LE" if uses_all(result) else f", {_word(result.name.split('-', 2)[2])}"
    return f"{name} *" if result.name == chosen else name


def _parts(axes: Axes, found: Found) -> None:
    rows = shown_parts(found)
    place, ticks, names = 0.0, [], []
    for number, row in enumerate(rows):
        if number and row["part"] != rows[number - 1]["part"]:
            place += 0.6
        own = row["control"] == "false"
        low, high = float(row["low_with_seeds"]), float(row["high_with_seeds"])
        axes.plot([low, high], [place, place], color=WITH if own else REST, lw=2.2 if own else 1.4)
        axes.plot(row["difference"], place, "o", color=WITH if own else REST, ms=6 if own else 4.5)
        ticks.append(place)
        names.append(_part_words(row, found))
        place += 1.0
    axes.axvline(0.0, color="black", lw=0.8)
    others = list(dict.fromkeys(row["other"] for row in rows))
    alone = len(others) == 1
    base = _method(others[0]) if alone else "the method without it"
    axes.set(yticks=ticks, yticklabels=names, xlabel=f"NDCG@10 over {base}, 95 % interval")
    axes.set_title(f"{_word(found.name)}: a part of the LE (orange){', its controls (grey)' if alone else ''}")
    axes.grid(axis="x", alpha=0.25, lw=0.6)


def _part_words(row: dict[str, Any], found: Found) -> str:
    if any(known["control"] == "true" for known in shown_parts(found)):
        return f"{row['part']}, LE" if row["control"] == "false" else _word(row["source"])
    return f"{row['part']}, {_method(row['other'])}"


def _method(name: str) -> str:
    """<backbone>-<method> in words."""
    return " ".join(_word(word) for word in name.split("-"))
