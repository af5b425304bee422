"""The paper-scale benchmark, cell by cell in the order of cells.yaml: `make benchmark`.

In: benchmark.yaml, the data sets that are there, what results/cells keeps. Out: the cells of benchmarks/dvc.yaml under
.work/benchmark/, and benchmarks/results: cells/, benchmark.{csv,md} and summary.json (benchmark.py).

`dvc repro` has an order of its own, so it is called for one cell after another. What is done is not done again, here or
on any machine whose results/cells are in the repository: a killed run goes on with the next cell when it is called
again. A cell that is named runs even so. A cell that fails is named, and the others go on.

    python -m benchmarks.benchmark_run scientific-sasrec-supervised scientific-sasrec-snqn-lea   # these cells alone
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # type: ignore[import-untyped]
from voluptuous import MultipleInvalid

from benchmarks import benchmark
from benchmarks.benchmark_params import BENCHMARK, CELLS, HOME, cells_of, params_of, read_benchmark, write_cells
from benchmarks.benchmark_stage import RUNNER
from benchmarks.benchmark_store import STORE, read_kept
from benchmarks.common import absent_source
from lea_core.entry import run
from lea_core.errors import LeaError, warn
from lea_core.params import read_yaml

BASELINES = {"baselines": "text_knn", "evaluate_le": "le"}  # stages, and the last baseline that each makes


def targets(
    cells: Mapping[str, Any], wanted: Sequence[str], absent: Sequence[str], kept: Collection[str] = ()
) -> list[str]:
    """Names of DVC stages, in order: the baselines of a data set after its first two cells, which need the LE too.

    kept: cells and baselines, <data>-<name>, that need not run unless they are wanted by name.

    Raises `LeaError` where a wanted cell is none.
    """
    if unknown := [name for name in wanted if name not in cells["cells"]]:
        raise LeaError(f"{CELLS}: has no cell {unknown[0]}: write one such as {next(iter(cells['cells']))}")
    found: list[str] = []
    seen: dict[str, int] = {}
    for name, cell in cells["cells"].items():
        data = cell["data"]
        if data in absent or (wanted and name not in wanted):
            continue
        if wanted or name not in kept:
            found.append(f"cell@{name}")
        seen[data] = seen.get(data, 0) + 1
        if seen[data] == 2 and not wanted:
            found += [f"{stage}@{data}" for stage, made in BASELINES.items() if f"{data}-{made}" not in kept]
    return found


def drop_broken_lock(path: Path) -> None:
    """Remove a dvc.lock that a kill left half written: DVC finds what was run in its cache."""
    if not path.exists():
        return
    try:
        COMPILED_LOCKFILE_SCHEMA(read_yaml(path))
    except (LeaError, MultipleInvalid):
        warn(f"{path} is broken and made anew")
        path.unlink()


def reproduce(target: str) -> bool:
    """Whether DVC could bring a stage up to date. Ends where DVC itself is killed or interrupted."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # stages run `python`: this one
    settings = {**os.environ, "PATH": path, RUNNER: str(os.getpid())}
    status = subprocess.run([sys.executable, "-m", "dvc", "repro", target], cwd=HOME, env=settings).returncode
    if status < 0:
        raise LeaError(f"dvc repro {target} was killed: run the same command to go on")
    return status == 0


def kept_of(known: Mapping[str, Any]) -> set[str]:
    """Cells and baselines that have run, here or elsewhere, with the present parameters: <data>-<name>."""
    found = set()
    for data in known["data"]:
        params = params_of(known, data)[1]
        names = (*params.variants, *params.baselines.names)
        found |= {f"{data}-{name}" for name in names if read_kept(params, STORE / data, name)}
    return found


def main(argv: list[str]) -> None:
    """Run the cells that `argv` names, or all, and then collect. Raises `LeaError` where one failed."""
    known = read_benchmark()
    write_cells(known)
    absent = []
    for name in known["data"]:
        params_of(known, name)  # a mistake in benchmark.yaml is told now, not in hours
        if file := absent_source(name):
            print(f"{name} skipped: {file} is not there", flush=True)
            absent.append(name)
    drop_broken_lock(HOME / "dvc.lock")
    kept = kept_of(known)
    if kept and not argv:
        print(f"{len(kept)} cells and baselines are kept in {STORE} and do not run again", flush=True)
    wanted = targets(cells_of(known), argv, absent, kept)
    failed = []
    for place, target in enumerate(wanted, start=1):
        print(f"-- {place} of {len(wanted)}: {target}", flush=True)
        if reproduce(target):
            benchmark.keep_all(known)
        else:
            failed.append(target)
    benchmark.main([])
    if failed:
        raise LeaError(f"{BENCHMARK}: {len(failed)} of {len(wanted)} failed: {', '.join(failed)}")


if __name__ == "__main__":
    run(main)
