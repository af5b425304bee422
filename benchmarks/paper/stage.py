"""One stage of the project in the folder of a data set, for benchmarks/dvc.yaml.

In: the name of a data set, of a stage, and the stage's argument. Out: what the stage writes under data/ there.
`configuration` is train and evaluate of a variant, and data/cells/<variant>.json: its parameters, what it is made of,
where it ran and for how long. A baseline has a note of the first two in its folder.

Where RUNNER names a process (run.py), the stage ends with it: after a kill nothing goes on unseen.

    python -m benchmarks.paper.stage scientific configuration sasrec-snqn-lea
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from benchmarks.paper.inputs import LE_CODE, LE_STAGE, note_of
from benchmarks.paper.params import FOLDER
from benchmarks.support.prepared import stage_environment, where
from lea_core.common.artifacts import write_json
from lea_core.common.code_hash import computed_by
from lea_core.common.entrypoint import run
from lea_core.common.errors import LeaError
from lea_core.params import load

RUNNER = "LEA_BENCHMARK_RUNNER"
WATCH = 1.0  # seconds
STEPS = {"fetch": ("fetch_data", "fetch_llm"), "baselines": ("baselines", "text_knn")}  # stages of the project's
BASELINES = {"baselines": "text_knn", "evaluate_le": "le"}  # stages, and the last baseline that each makes
NOTE = "note.json"


def run_stage(folder: Path, stage: str, *arguments: str) -> None:
    """Run a stage in `folder`, or the STEPS of one; of the LE's training, note what code it was.

    Raises `LeaError` where the stage fails or the runner is gone.
    """
    for step in STEPS.get(stage, (stage,)):
        _run_step(folder, step, *arguments)


def _run_step(folder: Path, stage: str, *arguments: str) -> None:
    code = computed_by(LE_STAGE)
    child = subprocess.Popen([sys.executable, "-m", f"stages.{stage}", *arguments], cwd=folder, env=stage_environment())
    runner = os.environ.get(RUNNER)
    while True:
        try:
            status = child.wait(WATCH)
            break
        except subprocess.TimeoutExpired:
            if runner and not lives(int(runner)):
                child.kill()
                raise LeaError(f"{folder.name}: stage {stage} ended with the benchmark that it belongs to") from None
    if status:
        raise LeaError(f"{folder.name}: stage {' '.join((stage, *arguments))} failed: its own message is above")
    if f"stages.{stage}" == LE_STAGE:
        write_json(folder / LE_CODE, code)


def lives(process: int) -> bool:
    """Whether a process still runs; one that ended and that nobody waited for does not."""
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def run_configuration(folder: Path, variant: str) -> None:
    """Train a variant, rank with it, and note the circumstances."""
    started = time.perf_counter()
    note = note_of(load(folder / "params.yaml"), folder, variant)
    for stage in ("train", "evaluate"):
        run_stage(folder, stage, variant)
    note |= {"seconds": round(time.perf_counter() - started, 1), "where": where()}
    write_json(folder / "data" / "cells" / f"{variant}.json", note)


def run_baselines(folder: Path, stage: str) -> None:
    """Rank with baselines, by `baselines` or `evaluate_le`, and note what each is made of."""
    params = load(folder / "params.yaml")
    wanted = [name for name in params.baselines.names if (name == "le") == (stage == "evaluate_le")]
    notes = {name: note_of(params, folder, name) for name in wanted}
    run_stage(folder, stage)
    for name, note in notes.items():
        write_json(folder / "data" / "baselines" / name / NOTE, note)


def main(argv: list[str]) -> None:
    """Run the stage that `argv` names."""
    if len(argv) < 2:
        raise LeaError("usage: python -m benchmarks.paper.stage DATA STAGE [ARGUMENT]")
    data, stage, *arguments = argv
    if stage == "configuration":
        run_configuration(FOLDER / data, *arguments)
        return
    started = time.perf_counter()
    if stage in BASELINES:
        run_baselines(FOLDER / data, stage)
    else:
        run_stage(FOLDER / data, stage, *arguments)
    # Beyond DVC's reach, as seconds differ in every run.
    note = FOLDER / data / "data" / "seconds" / f"{'-'.join((stage, *arguments))}.json"
    write_json(note, {"seconds": round(time.perf_counter() - started, 1)})


if __name__ == "__main__":
    run(main)
