"""The picture of the scale benchmark: seconds and memory against the size of the log.

In: the flat result of scale.py. Out: docs/scale.png: left the seconds of preprocess, planning and annotation, right the
peaks of their processes, with the limit that the first two must keep at ten million interactions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LIMIT_MIB = 4096
MASTER, WORKER = "annotate (tiny LLM), master", "annotate (tiny LLM), a worker"
SECONDS = {"preprocess": "preprocess_seconds", "plan": "plan_seconds", "annotate (tiny LLM)": "annotate_seconds"}
PEAKS = {
    "preprocess": "preprocess_peak_mib",
    "plan": "plan_peak_mib",
    MASTER: "annotate_peak_mib",
    WORKER: "annotate_worker_peak_mib",
}
COLOURS = {
    "preprocess": "#0072B2",
    "plan": "#009E73",
    "annotate (tiny LLM)": "#D55E00",
    MASTER: "#D55E00",
    WORKER: "#E69F00",
}


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write the picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = picture(result)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def picture(result: Mapping[str, Any]) -> Figure:
    """The figure: two panels over the same sizes; a line ends where its sizes were not measured."""
    import matplotlib.pyplot as plt

    figure, (seconds, peaks) = plt.subplots(1, 2, figsize=(11, 4.2))
    _lines(seconds, result, SECONDS)
    seconds.set_yscale("log")
    seconds.set(ylabel="seconds", title="Time, start of the process included")
    _lines(peaks, result, PEAKS)
    peaks.axhline(LIMIT_MIB, color="black", lw=1, ls="--", label="4 GiB")
    peaks.set_ylim(0, 1.08 * LIMIT_MIB)
    peaks.set_yticks(range(0, LIMIT_MIB + 1, 1024))
    peaks.set(ylabel="peak MiB of a process", title="Memory")
    peaks.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(0.0, 0.93))
    seconds.legend(frameon=False, fontsize=9, loc="upper left")
    for axes in (seconds, peaks):
        axes.set_xscale("log")
        axes.set(xlabel="interactions")
        axes.title.set_fontsize(11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, lw=0.6)
    figure.tight_layout(w_pad=2.5)
    return figure


def _lines(axes: Axes, result: Mapping[str, Any], keys: Mapping[str, str]) -> None:
    for name, key in keys.items():
        points = sorted(
            (float(label.removeprefix(key + "_")), value) for label, value in result.items() if label.startswith(key)
        )
        axes.plot(*zip(*points, strict=True), "o-", color=COLOURS[name], lw=1.3, ms=4, label=name)
