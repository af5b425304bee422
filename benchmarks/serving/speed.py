"""What an answer of the shipped policy costs, beside the LE that trained it: `make bench-serve`.

In: untrained SASRecs of params.yaml's settings, made here, for the sizes; for the LE, the artifacts of a pipeline run
(data/, or `--data FOLDER`), its policy among them. Out: benchmarks/results/serve.json and its tables, serve.md. Each
measurement is a process of its own (worker.py), from ids to ids, ten items, seen ones as when it was evaluated.

Keys of serve.json:

  p50_ms_10k_items p99_ms_10k_items   ONNX Runtime, 10,000 items, one history at a time, one thread
  users_per_s_4k_items                ONNX Runtime, 4,000 items, many histories together, two threads
  onnx_start_s                        from the start of Python to the first answer, 10,000 items
  le_cost_ratio                       seconds per history of the LE, ranking the data's test events as `evaluate_le`
                                      does, over those of ONNX Runtime for the same histories; two threads each
  le_cpu_ratio                        the same of the processor's seconds, all threads together
  le_single_ratio                     p50 of the LE over p50 of ONNX Runtime, the same histories one at a time; the LE
                                      on two threads, ONNX Runtime on one
  rows                                all measurements: torch, ONNX Runtime, and it with 8-bit integers, by items
  data                                the same on the data, and the LE
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.worker import LENGTH, LIST, ROUNDS, Job
from benchmarks.support.jobs import RESULTS, ROOT, WORK, measure
from benchmarks.support.prepared import where
from benchmarks.support.written import table, write_text
from lea_core.common.artifacts import write_json

ITEMS = (10**3, 4 * 10**3, 10**4, 10**5, 10**6)
RUNTIMES = ("torch", "onnx", "onnx-int8")
THREADS = 2  # of a batch
NAMES = {"torch": "torch", "onnx": "ONNX Runtime", "onnx-int8": "ONNX Runtime, int8", "le": "the LE"}
LOAD = {
    "torch": "from lea_core.policy import Policy; p = Policy.load(sys.argv[1] + '/policy')",
    "onnx": "from lea_core.policy.onnx_policy import OnnxPolicy; p = OnnxPolicy.load(sys.argv[1] + '/onnx')",
    "onnx-int8": "from lea_core.policy.onnx_policy import OnnxPolicy; p = OnnxPolicy.load(sys.argv[1] + '/onnx-int8')",
}
WORKER = "benchmarks.serving.worker"
COLUMNS = {
    "p50, ms": "p50_ms",
    "p99, ms": "p99_ms",
    "users/s in batch": "users_per_s",
    "CPU, µs per user": "batch_cpu_us",
    "start, s": "start_s",
    "load, s": "load_s",
    "peak MiB": "peak_mib",
}


def start(folder: Path, runtime: str) -> float:
    """Seconds from the start of Python to its first answer and end, the median of ROUNDS."""
    code = f"import sys; {LOAD[runtime]}; p.recommend([[p.item_ids[0]]])"
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, str(folder)], env=settings, check=True)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def row(folder: Path, runtime: str) -> dict[str, Any]:
    """All that is measured of one runtime on one folder."""
    return {
        "runtime": runtime,
        **measure(WORKER, Job("latency", str(folder), runtime)),
        **measure(WORKER, Job("batch", str(folder), runtime, threads=THREADS), THREADS),
        "start_s": start(folder, runtime),
    }


def sizes(items: Iterable[int]) -> list[dict[str, Any]]:
    """Untrained policies of every size, in every runtime."""
    rows = []
    for count in items:
        folder = WORK / "serve" / str(count)
        measure(WORKER, Job("make", str(folder), items=count))  # anew, of today's code and settings
        rows += [{"items": count, **row(folder, runtime)} for runtime in RUNTIMES]
    return rows


def beside_the_le(data: Path) -> list[dict[str, Any]]:
    """The policy and the LE of a pipeline run, asked the same."""
    for name in ("policy", "interactions", "llm", "item_tokens", "le"):
        if not (data / name).exists():
            raise SystemExit(f"{data / name}: not found: `make run` makes it, or name another folder with --data")
    folder = WORK / "serve" / "data"
    measure(WORKER, Job("adopt", str(folder), data=str(data)))
    asked = measure(WORKER, Job("le", str(folder), "le", threads=THREADS, data=str(data)), THREADS)
    return [*(row(folder, runtime) for runtime in RUNTIMES), {"runtime": "le", **asked}]


def headline(rows: list[dict[str, Any]], data: list[dict[str, Any]]) -> dict[str, float]:
    """The keys of the module's header."""
    onnx = {one["items"]: one for one in rows if one["runtime"] == "onnx"}
    on_data = {one["runtime"]: one for one in data}
    return {
        "p50_ms_10k_items": onnx[10**4]["p50_ms"],
        "p99_ms_10k_items": onnx[10**4]["p99_ms"],
        "users_per_s_4k_items": onnx[4000]["users_per_s"],
        "onnx_start_s": onnx[10**4]["start_s"],
        "le_cost_ratio": on_data["onnx"]["users_per_s"] / on_data["le"]["users_per_s"],
        "le_cpu_ratio": on_data["le"]["batch_cpu_us"] / on_data["onnx"]["batch_cpu_us"],
        "le_single_ratio": on_data["le"]["p50_ms"] / on_data["onnx"]["p50_ms"],
    }


def tables(result: Mapping[str, Any]) -> list[str]:
    """The result as Markdown."""

    def numbers(one: Mapping[str, Any]) -> list[str]:
        return [NAMES[one["runtime"]], *(number(one.get(key)) for key in COLUMNS.values())]

    columns = " | ".join(["runtime", *(f">{column}" for column in COLUMNS)])
    return [
        f"{result['processor']}, {result['cores']} cores; from ids to ids: histories of {LENGTH} random items, "
        f"the {LIST} best unseen. Latency: one history at a time, one thread. Batch: {THREADS} threads. Start: from "
        "the start of Python to the first answer. Made by `make bench-serve`.",
        "",
        *table(f">items | {columns}", ([f"{one['items']:,}", *numbers(one)] for one in result["rows"])),
        "",
        "The policy of a pipeline run and its LE, asked for the histories of the same test events:",
        "",
        *table(columns, map(numbers, result["data"])),
        "",
        f"The LE costs {result['le_cost_ratio']:,.0f} times as much per history in batch (two threads each; "
        f"{result['le_cpu_ratio']:,.0f} times the processor's time), "
        f"{result['le_single_ratio']:,.0f} times as long one at a time.",
    ]


def number(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def main() -> None:
    """Measure, and write the result and its tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    chosen = parser.parse_args()
    data = beside_the_le(chosen.data.resolve())
    rows = sizes(ITEMS)
    result = {**headline(rows, data), "rows": rows, "data": data, "command": "make bench-serve", **where()}
    write_json(RESULTS / "serve.json", result)
    write_text(RESULTS / "serve.md", tables(result))
    print("\n".join(tables(result)))


if __name__ == "__main__":
    main()
