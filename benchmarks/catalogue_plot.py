"""The picture of the catalogue benchmark: a step's seconds and memory against items, an epoch's against interactions.

In: the flat result of catalogue.py. Out: docs/catalogue.png: left the seconds of an optimiser step in each setting,
in the middle the peaks of its processes with what a step must hold per item, right the seconds of an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = {"full": "all items", "sampled": "sampled", "sparse": "sampled, sparse"}
COLOURS = {"full": "#D55E00", "sampled": "#0072B2", "sparse": "#009E73"}


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write the picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = picture(result)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def picture(result: Mapping[str, Any]) -> Figure:
    """The figure: three panels; a line ends where its sizes were not measured."""
    import matplotlib.pyplot as plt

    figure, (seconds, peaks, epochs) = plt.subplots(1, 3, figsize=(13, 4.2))
    for setting, label in LABELS.items():
        seconds.plot(*points(result, f"{setting}_step_seconds"), "o-", **_style(setting), label=label)
        peaks.plot(*points(result, f"{setting}_peak_mib"), "o-", **_style(setting), label=label)
    items, held = points(result, "sparse_held_mib")
    peaks.plot(items, held, color="black", lw=1, ls="--", label="arithmetic (sparse)")
    epochs.plot(*points(result, "epoch_seconds"), "o-", **_style("sparse"))
    epochs.annotate(
        f"slope {result['epoch_slope']:.2f}", (0.06, 0.9), xycoords="axes fraction", fontsize=9, color=COLOURS["sparse"]
    )
    seconds.set(xlabel="items", ylabel="seconds", title="One optimiser step")
    peaks.set(xlabel="items", ylabel="peak MiB of the process", title="Memory of training")
    epochs.set(xlabel="interactions", ylabel="seconds", title="One epoch, 10,000 items")
    seconds.legend(frameon=False, fontsize=9, loc="upper left")
    peaks.legend(frameon=False, fontsize=8, loc="lower right")
    for axes in (seconds, peaks, epochs):
        _finish(axes)
    figure.tight_layout(w_pad=2.5)
    return figure


def points(result: Mapping[str, Any], key: str) -> tuple[list[float], list[float]]:
    """Sizes and values of the entries `key`_SIZE, by size."""
    found = sorted(
        (float(name.removeprefix(key + "_")), value) for name, value in result.items() if name.startswith(key + "_")
    )
    return [size for size, _ in found], [value for _, value in found]


def _style(setting: str) -> dict[str, Any]:
    return {"color": COLOURS[setting], "lw": 1.3, "ms": 4}


def _finish(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.title.set_fontsize(11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, lw=0.6)
