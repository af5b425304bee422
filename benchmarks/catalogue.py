"""What large catalogues and long logs take of time and memory: `make bench-catalogue`.

In: nothing; the logs are synthetic. Out: benchmarks/results/catalogue.json, its tables catalogue.md and its picture
docs/catalogue.png. Each measurement is a process of its own (catalogue_worker.py). Three settings:

  full     cross-entropy over all items, greedy actions of all items; up to FULL_ITEMS
  sampled  train.loss sampled_softmax and train.greedy_items, 1,024 each (half of the catalogue where it is smaller)
  sparse   sampled, and train.sparse: a step costs the rows that it reads

Keys such as sparse_step_seconds_1e6: of a setting and a number of items; rank_*_1e6: of ranking; epoch_*_1e6: of the
setting `sparse` with EPOCH_ITEMS items and that many interactions. epoch_slope is that of log seconds against log
interactions, 1 where the cost is linear.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.catalogue_plot import draw
from benchmarks.catalogue_worker import SETTINGS, Job
from benchmarks.common import ROOT, where
from lea_core.common.artifacts import write_json

ITEMS = (10**3, 10**4, 10**5, 10**6)
EVENTS = 20_000
# One tensor of the scores of a batch's 1,216 transitions takes 464 MiB at 10^5 items, and 4.5 GiB at 10^6: a step
# holds several of them.
FULL_ITEMS = 10**5
INTERACTIONS = (10**4, 10**5, 10**6)
EPOCH_ITEMS = 10**4


def measure(job: Job) -> dict[str, float]:
    """The numbers of a job, from a fresh process with one thread. Ends where it fails."""
    command = [sys.executable, "-m", "benchmarks.catalogue_worker", json.dumps(asdict(job))]
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{job} failed")
    found: dict[str, float] = json.loads(done.stdout)
    print(f"{job.part} {job.setting} of {job.items:,} items, {job.events:,} events: {found}", flush=True)
    return found


def power(number: int) -> str:
    """1000 -> 1e3."""
    return f"1e{len(str(number)) - 1}"


def everything() -> dict[str, float]:
    """All measurements, one flat map."""
    result: dict[str, float] = {}

    def take(prefix: str, suffix: str, found: Mapping[str, float]) -> None:
        for key, value in found.items():
            name = key if key.startswith(prefix) else f"{prefix}_{key}"
            result[f"{name}_{suffix}"] = round(value) if key.endswith(("mib", "transitions")) else round(value, 4)

    for setting in SETTINGS:
        for items in ITEMS:
            if setting != "full" or items <= FULL_ITEMS:
                take(setting, power(items), measure(Job("step", setting, items, EVENTS)))
    for items in ITEMS:
        take("rank", power(items), measure(Job("rank", "sampled", items, EVENTS)))
    for events in INTERACTIONS:
        take("epoch", power(events), measure(Job("epoch", "sparse", EPOCH_ITEMS, events)))
    seconds = [result[f"epoch_seconds_{power(events)}"] for events in INTERACTIONS]
    result["epoch_slope"] = round(float(np.polyfit(np.log(INTERACTIONS), np.log(seconds), 1)[0]), 3)
    return result


def tables(result: Mapping[str, float]) -> str:
    """The result as Markdown."""
    lines = ["| items | setting | s per step | of it the batch, s | peak MiB | held per item, MiB | rest, MiB |"]
    lines.append("|--:|---|--:|--:|--:|--:|--:|")
    for items in ITEMS:
        for setting in SETTINGS:
            of = {key: result.get(f"{setting}_{key}_{power(items)}") for key in STEP_KEYS}
            if of["peak_mib"] is None or of["held_mib"] is None:
                lines.append(f"| {items:,} | {setting} | not run | | | | |")
                continue
            whole = (of["step_seconds"] or 0.0) + (of["batch_seconds"] or 0.0)
            lines.append(
                f"| {items:,} | {setting} | {whole:.3f} | {of['batch_seconds']:.4f} | {of['peak_mib']:,} "
                f"| {of['held_mib']:,} | {of['peak_mib'] - of['held_mib']:,} |"
            )
    lines += [
        "",
        "| items | s per 1,000 ranked events | peak MiB | weights, MiB | rest, MiB |",
        "|--:|--:|--:|--:|--:|",
    ]
    for items in ITEMS:
        peak, held = (result[f"rank_{key}_{power(items)}"] for key in ("peak_mib", "held_mib"))
        seconds = result[f"rank_seconds_{power(items)}"]
        lines.append(f"| {items:,} | {seconds:.2f} | {peak:,} | {held:,} | {peak - held:,} |")
    lines += ["", "| interactions | s per epoch | microseconds per interaction | peak MiB |", "|--:|--:|--:|--:|"]
    for events in INTERACTIONS:
        seconds = result[f"epoch_seconds_{power(events)}"]
        peak = result[f"epoch_peak_mib_{power(events)}"]
        lines.append(f"| {events:,} | {seconds:.2f} | {seconds / events * 1e6:.0f} | {peak:,} |")
    lines += ["", f"Slope of log seconds per epoch against log interactions: {result['epoch_slope']:.2f}."]
    return "\n".join(lines) + "\n"


STEP_KEYS = ("step_seconds", "batch_seconds", "peak_mib", "held_mib")


def main() -> None:
    """Measure, and write the result, its tables and its picture."""
    result = everything()
    folder = ROOT / "benchmarks" / "results"
    rows: dict[str, Any] = {**result, "command": "make bench-catalogue", **where()}
    write_json(folder / "catalogue.json", rows)
    (folder / "catalogue.md").write_text(tables(result), encoding="utf-8")
    draw(result, ROOT / "docs" / "catalogue.png")
    print(tables(result))


if __name__ == "__main__":
    main()
