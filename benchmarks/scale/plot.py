"""The pictures of the scale benchmarks: seconds and memory against the size of a log or a catalogue.

In: the flat result of stages.py or catalogue.py, with keys such as preprocess_seconds_1e7. Out: docs/scale.png, left
the seconds of preprocess, planning and annotation, right the peaks of their processes with the limit that the first two
must keep at ten million interactions; docs/catalogue.png, the seconds of an optimiser step in each setting, the peaks
of its processes with what a step must hold per item, and the seconds of an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.support.written import new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LIMIT_MIB = 4096
BLUE, GREEN, RED, YELLOW = "#0072B2", "#009E73", "#D55E00", "#E69F00"
Lines = dict[str, tuple[str, str]]  # by the beginning of their keys: label and colour
SECONDS: Lines = {
    "preprocess_seconds": ("preprocess", BLUE),
    "plan_seconds": ("plan", GREEN),
    "annotate_seconds": ("annotate (tiny LLM)", RED),
}
PEAKS: Lines = {
    "preprocess_peak_mib": ("preprocess", BLUE),
    "plan_peak_mib": ("plan", GREEN),
    "annotate_peak_mib": ("annotate (tiny LLM), master", RED),
    "annotate_worker_peak_mib": ("annotate (tiny LLM), a worker", YELLOW),
}
LOSSES = {"full": ("all items", RED), "sampled": ("sampled", BLUE), "sparse": ("sampled, sparse", GREEN)}


def stages_picture(result: Mapping[str, Any]) -> Figure:
    """Two panels over the same sizes."""
    figure, (seconds, peaks) = new_figure(1, 2, figsize=(11, 4.2))
    draw_lines(seconds, result, SECONDS)
    seconds.set(xlabel="interactions", ylabel="seconds", title="Time, start of the process included", yscale="log")
    draw_lines(peaks, result, PEAKS)
    peaks.axhline(LIMIT_MIB, color="black", lw=1, ls="--", label="4 GiB")
    peaks.set(xlabel="interactions", ylabel="peak MiB of a process", title="Memory", ylim=(0, 1.08 * LIMIT_MIB))
    peaks.set_yticks(range(0, LIMIT_MIB + 1, 1024))
    peaks.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(0.0, 0.93))
    seconds.legend(frameon=False, fontsize=9, loc="upper left")
    return finished(figure)


def catalogue_picture(result: Mapping[str, Any]) -> Figure:
    """Three panels."""
    figure, (seconds, peaks, epochs) = new_figure(1, 3, figsize=(13, 4.2))
    draw_lines(seconds, result, {f"{name}_step_seconds": look for name, look in LOSSES.items()})
    draw_lines(peaks, result, {f"{name}_peak_mib": look for name, look in LOSSES.items()})
    peaks.plot(*points(result, "sparse_held_mib"), color="black", lw=1, ls="--", label="arithmetic (sparse)")
    draw_lines(epochs, result, {"epoch_seconds": LOSSES["sparse"]})
    slope = f"slope {result['epoch_slope']:.2f}"
    epochs.annotate(slope, (0.06, 0.9), xycoords="axes fraction", fontsize=9, color=GREEN)
    seconds.set(xlabel="items", ylabel="seconds", title="One optimiser step", yscale="log")
    peaks.set(xlabel="items", ylabel="peak MiB of the process", title="Memory of training", yscale="log")
    epochs.set(xlabel="interactions", ylabel="seconds", title="One epoch, 10,000 items", yscale="log")
    seconds.legend(frameon=False, fontsize=9, loc="upper left")
    peaks.legend(frameon=False, fontsize=8, loc="lower right")
    return finished(figure)


def draw_lines(axes: Axes, result: Mapping[str, Any], lines: Lines) -> None:
    """A line for each; it ends where its sizes were not measured."""
    for key, (label, colour) in lines.items():
        axes.plot(*points(result, key), "o-", color=colour, lw=1.3, ms=4, label=label)


def finished(figure: Figure) -> Figure:
    """The figure when all its axes have their lines and titles."""
    for axes in figure.axes:
        axes.set_xscale("log")
        axes.grid(alpha=0.25, lw=0.6)
        plain(axes)
    figure.tight_layout(w_pad=2.5)
    return figure


def points(result: Mapping[str, Any], key: str) -> tuple[list[float], list[float]]:
    """Sizes and values of the entries `key`_SIZE, by size."""
    found = {name.removeprefix(f"{key}_"): value for name, value in result.items() if name.startswith(f"{key}_")}
    sizes = sorted(found, key=float)
    return [float(size) for size in sizes], [found[size] for size in sizes]
