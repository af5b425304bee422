"""One picture of what the LE is worth: its states, rewards and proposals beside the cheapest replacements.

In: plain dictionaries, every part optional; a missing or empty one leaves its panel out:
  state        {method: {"ndcg10": x, ...}}                         such as le, content_start, item_neighbours
  reward       {source: {"auc_uniform": x, "auc_popularity": x, "auc_text_hard": x}}
  reliability  [{"predicted": p, "observed": o, "count": n}, ...]   of the LE, see `reward_metrics.reliability`
  actions      {source: {"share1": x, "share5": x, "share10": x}}
A source lacks the bars of the numbers that it lacks. Names are shown as in LABELS, others with spaces for underscores;
a name has the same colour in every panel. Out: le.png.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lea_core.common.errors import LeaError
from lea_core.common.palette import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {
    "le": "LE",
    "text_raw": "text neighbours, raw",
    "text_whitened": "text neighbours, whitened",
    "item_neighbours_subset": "item neighbours, subset",
    "random_llm": "LLM of random weights",
}
NEGATIVES = {"auc_uniform": "uniform", "auc_popularity": "equally\npopular", "auc_text_hard": "similar\nby text"}
SHARES = {"share1": "first", "share5": "first 5", "share10": "first 10"}
OWN = "#D55E00"  # the LE's colour in every picture of it
BARS = 0.8  # of the distance between two groups, the part that bars fill


def draw(quality: Mapping[str, Any], path: Path) -> None:
    """Write le.png. Raises `LeaError` where no panel has data."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = picture(quality)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def picture(quality: Mapping[str, Any]) -> Figure:
    """The figure: a panel for each part of `quality` that is there; four in two rows, fewer in one."""
    import matplotlib.pyplot as plt

    colours = _colours(quality)
    panels: dict[str, Callable[[Axes, Any], None]] = {
        "state": lambda axes, part: _state(axes, part, colours),
        "reward": lambda axes, part: _reward(axes, part, colours),
        "reliability": _reliability,
        "actions": lambda axes, part: _actions(axes, part, colours),
    }
    shown = [name for name in panels if quality.get(name)]
    if not shown:
        raise LeaError("there is nothing to draw of the LE: no state, reward, reliability or actions")
    rows, columns = (2, 2) if len(shown) == len(panels) else (1, len(shown))
    figure, grid = plt.subplots(rows, columns, figsize=(5.5 * columns, 4.2 * rows), squeeze=False)
    for name, axes in zip(shown, grid.flat, strict=True):
        panels[name](axes, quality[name])
        axes.title.set_fontsize(11)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout(h_pad=2.5, w_pad=2.5)
    return figure


def _colours(quality: Mapping[str, Any]) -> dict[str, str]:
    """A colour for each name, in order of appearance; the LE's is its own."""
    names = dict.fromkeys(name for part in ("state", "reward", "actions") for name in quality.get(part) or {})
    names.pop("le", None)
    others = (colour for colour in COLOURS if colour != OWN)
    return dict(zip(names, cycle(others), strict=False)) | {"le": OWN}


def _label(name: str) -> str:
    return LABELS.get(name, name.replace("_", " "))


def _state(axes: Axes, part: Mapping[str, Mapping[str, float]], colours: Mapping[str, str]) -> None:
    values = {name: numbers["ndcg10"] for name, numbers in part.items() if numbers.get("ndcg10") is not None}
    values = dict(sorted(values.items(), key=lambda item: -item[1]))
    names = list(values)
    bars = axes.barh(range(len(names)), list(values.values()), color=[colours[name] for name in names])
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=9)
    axes.set(yticks=range(len(names)), yticklabels=[_label(name) for name in names])
    axes.set(xlabel="NDCG@10", title="State: finding the next item among all")
    axes.margins(x=0.12)
    axes.invert_yaxis()


def _groups(
    axes: Axes,
    part: Mapping[str, Mapping[str, float]],
    groups: Mapping[str, str],
    colours: Mapping[str, str],
    digits: str | Callable[[float], str],
) -> None:
    """Bars side by side: a group for each key of `groups` that any source has, in it a bar per source, with values."""
    present = [key for key in groups if any(numbers.get(key) is not None for numbers in part.values())]
    width = BARS / len(part)
    for place, (name, numbers) in enumerate(part.items()):
        own = [(group, numbers[key]) for group, key in enumerate(present) if numbers.get(key) is not None]
        left = [group - BARS / 2 + (place + 0.5) * width for group, _ in own]
        bars = axes.bar(left, [value for _, value in own], width, color=colours[name], label=_label(name))
        white = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # keeps the line of chance off the digits
        axes.bar_label(bars, fmt=digits, padding=2, fontsize=9 if len(part) <= 3 else 8, bbox=white)
    axes.set(xticks=range(len(present)), xticklabels=[groups[key] for key in present])


def _reward(axes: Axes, part: Mapping[str, Mapping[str, float]], colours: Mapping[str, str]) -> None:
    _groups(axes, part, NEGATIVES, colours, "%.2f")
    axes.axhline(0.5, color="black", lw=1, ls="--", label="chance", zorder=0.5)
    axes.set(ylabel="AUC", xlabel="negatives", title="Reward: telling the next item from others")
    axes.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
    _legend_inside(axes, 1.0)


def _reliability(axes: Axes, part: Sequence[Mapping[str, float]]) -> None:
    most = max(point["count"] for point in part)
    predicted, observed = [point["predicted"] for point in part], [point["observed"] for point in part]
    axes.plot([0, 1], [0, 1], color="black", lw=1, ls="--", label="as predicted")
    axes.plot(predicted, observed, color=OWN, lw=1.3)
    # The area of a point is its share of the pairs, with a floor that keeps the rarest visible.
    sizes = [12 + 110 * point["count"] / most for point in part]
    axes.scatter(predicted, observed, s=sizes, color=OWN, edgecolors="white", zorder=3)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), title="Reward: is the LE as sure as it is right")
    axes.set(xlabel="predicted probability (area: number of pairs)", ylabel="observed frequency")
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def _actions(axes: Axes, part: Mapping[str, Mapping[str, float]], colours: Mapping[str, str]) -> None:
    percent = {
        name: {key: 100.0 * numbers[key] for key in SHARES if numbers.get(key) is not None}
        for name, numbers in part.items()
    }
    _groups(axes, percent, SHARES, colours, lambda value: f"{value:.0f}" if value >= 10.0 else f"{value:.1f}")
    axes.set(ylabel="% taken later", xlabel="proposals", title="Actions: proposals that the user takes later")
    _legend_inside(axes, max((value for numbers in percent.values() for value in numbers.values()), default=1.0))


def _legend_inside(axes: Axes, top: float) -> None:
    """A legend within the axes, above the highest value `top`: room for it and for the values on the bars."""
    labels = axes.get_legend_handles_labels()[1]
    rows = -(-len(labels) // 2)
    axes.set_ylim(0.0, top * (1.12 + 0.09 * rows))
    axes.legend(loc="upper center", ncols=2, frameon=False, fontsize=8, columnspacing=1.0, handlelength=1.4)
