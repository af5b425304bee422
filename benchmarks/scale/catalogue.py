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

from collections.abc import Mapping

import numpy as np

from benchmarks.scale.catalogue_worker import SETTINGS, Job
from benchmarks.scale.plot import catalogue_picture
from benchmarks.support.jobs import RESULTS, ROOT, measure
from benchmarks.support.prepared import where
from benchmarks.support.written import save, table, write_text
from lea_core.common.artifacts import write_json

ITEMS = (10**3, 10**4, 10**5, 10**6)
EVENTS = 20_000
# One tensor of the scores of a batch's 1,216 transitions takes 464 MiB at 10^5 items, and 4.5 GiB at 10^6: a step
# holds several of them.
FULL_ITEMS = 10**5
INTERACTIONS = (10**4, 10**5, 10**6)
EPOCH_ITEMS = 10**4
STEP_KEYS = ("step_seconds", "batch_seconds", "peak_mib", "held_mib")
STEP_HEAD = ">items | setting | >s per step | >of it the batch, s | >peak MiB | >held per item, MiB | >rest, MiB"
WORKER = "benchmarks.scale.catalogue_worker"


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
                take(setting, power(items), measure(WORKER, Job("step", setting, items, EVENTS)))
    for items in ITEMS:
        take("rank", power(items), measure(WORKER, Job("rank", "sampled", items, EVENTS)))
    for events in INTERACTIONS:
        take("epoch", power(events), measure(WORKER, Job("epoch", "sparse", EPOCH_ITEMS, events)))
    seconds = [result[f"epoch_seconds_{power(events)}"] for events in INTERACTIONS]
    result["epoch_slope"] = round(float(np.polyfit(np.log(INTERACTIONS), np.log(seconds), 1)[0]), 3)
    return result


def tables(result: Mapping[str, float]) -> list[str]:
    """The result as Markdown."""
    steps = []
    for items in ITEMS:
        for setting in SETTINGS:
            keys = [f"{setting}_{key}_{power(items)}" for key in STEP_KEYS]
            numbers = ["not run", "", "", "", ""]
            if keys[0] in result:
                step, batch, peak, held = (result[key] for key in keys)
                numbers = [f"{step + batch:.3f}", f"{batch:.4f}", f"{peak:,}", f"{held:,}", f"{peak - held:,}"]
            steps.append([f"{items:,}", setting, *numbers])
    ranked = []
    for items in ITEMS:
        seconds, peak, held = (result[f"rank_{key}_{power(items)}"] for key in ("seconds", "peak_mib", "held_mib"))
        ranked.append([f"{items:,}", f"{seconds:.2f}", f"{peak:,}", f"{held:,}", f"{peak - held:,}"])
    epochs = []
    for events in INTERACTIONS:
        seconds, peak = (result[f"epoch_{key}_{power(events)}"] for key in ("seconds", "peak_mib"))
        epochs.append([f"{events:,}", f"{seconds:.2f}", f"{seconds / events * 1e6:.0f}", f"{peak:,}"])
    return [
        *table(STEP_HEAD, steps),
        "",
        *table(">items | >s per 1,000 ranked events | >peak MiB | >weights, MiB | >rest, MiB", ranked),
        "",
        *table(">interactions | >s per epoch | >microseconds per interaction | >peak MiB", epochs),
        "",
        f"Slope of log seconds per epoch against log interactions: {result['epoch_slope']:.2f}.",
    ]


def main() -> None:
    """Measure, and write the result, its tables and its picture."""
    result = everything()
    write_json(RESULTS / "catalogue.json", {**result, "command": "make bench-catalogue", **where()})
    write_text(RESULTS / "catalogue.md", tables(result))
    save(catalogue_picture(result), ROOT / "docs" / "catalogue.png")
    print("\n".join(tables(result)))


if __name__ == "__main__":
    main()
