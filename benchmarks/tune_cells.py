"""Settings of cells of the paper-scale benchmark by the same number of trials, on validation.

In: a data set, cells of one backbone, benchmark.yaml, and what `make benchmark` has made of the data set
(benchmarks/.work/benchmark/<data>; with parts of the LE, its tables). Out: every trial in
benchmarks/results/tuning/<data>-cells.csv, the best in tuning.md and on stdout: what to write into benchmark.yaml.

The first trial is what benchmark.yaml says. Finished trials are kept: a killed run goes on.

    python -m benchmarks.tune_cells scientific gru4rec-supervised gru4rec-snqn gru4rec-sa2c --trials 6
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.benchmark_params import CELLS, FOLDER, params_of, read_benchmark
from benchmarks.common import changed
from benchmarks.tune import keep_rows, space_for, write_summary
from lea_core.common.entrypoint import run
from lea_core.common.errors import LeaError
from lea_core.experiments.tuning import best, rows, tune, words
from lea_core.params import Params


def asked(benchmark: Mapping[str, Any], data: str, cells: Sequence[str], trials: int) -> Params:
    """The data set's parameters with the space of the cells' backbone. Raises `LeaError` where that is not one."""
    if data not in benchmark["data"]:
        raise LeaError(f"benchmark.yaml has no data set {data}: give one of {', '.join(benchmark['data'])}")
    params = params_of(benchmark, data)[1]
    if unknown := [name for name in cells if name not in params.variants]:
        raise LeaError(f"{data} has no cell {unknown[0]}: give names of {CELLS.name}")
    backbones = {params.variant(name).backbone for name in cells}
    if len(backbones) != 1:
        raise LeaError(f"cells of {' and '.join(sorted(backbones))}: tune one backbone at a time")
    return changed(params, {"tune.space": space_for(params, backbones.pop()), "tune.trials": trials})


def main(argv: list[str]) -> None:
    """Tune the cells that `argv` names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune_cells")
    parser.add_argument("data")
    parser.add_argument("cells", nargs="+")
    parser.add_argument("--trials", type=int, required=True)
    options = parser.parse_args(argv)
    params = asked(read_benchmark(), options.data, options.cells, options.trials)
    data = FOLDER / options.data / "data"
    if not data.exists():
        made = " ".join(f"{stage}@{options.data}" for stage in ("annotate", "augment", "rank"))
        raise LeaError(f"{data}: not found: run `make benchmark`, or `dvc repro {made}` in benchmarks/, to make it")
    studies = tune(params, data, options.cells, options.data)
    label = f"{options.data}-cells"
    keep_rows(label, rows(studies, label))
    write_summary()
    for name, trials in studies.items():
        print(f"{name}: NDCG@10 {best(trials).score:.4f} with {words(best(trials).values)}")


if __name__ == "__main__":
    run(main)
