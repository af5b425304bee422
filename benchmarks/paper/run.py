"""The paper-scale benchmark, one configuration after another in the order of configurations.yaml: `make benchmark`.

In: benchmark.yaml, the data sets that are there, what results/cells keeps. Out: what benchmarks/dvc.yaml makes under
.work/benchmark/, and benchmarks/results: cells/, benchmark.{csv,md} and summary.json (report.py).

`dvc repro` has an order of its own, so it is called for each configuration. What is done is not done again, here or on
any machine whose results/cells are in the repository: a killed run goes on with the next configuration. One that is
named runs in any case; so does one whose data, LE, code or libraries would differ here today (inputs.py), and a line
says it. One that fails is named, and the others go on.

    python -m benchmarks.paper.run scientific-sasrec-supervised scientific-sasrec-snqn-lea   # these alone
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # type: ignore[import-untyped]
from voluptuous import MultipleInvalid

from benchmarks.paper import report
from benchmarks.paper.inputs import LE_CODE, LE_STAGE, differences, made_of
from benchmarks.paper.params import (
    BENCHMARK,
    CONFIGURATIONS,
    FOLDER,
    HOME,
    configurations_of,
    params_of,
    read_benchmark,
    write_configurations,
)
from benchmarks.paper.stage import BASELINES, RUNNER
from benchmarks.paper.store import STORE, read_kept
from benchmarks.support.prepared import datasets
from lea_core.common.artifacts import read_json
from lea_core.common.code_hash import computed_by
from lea_core.common.entrypoint import run
from lea_core.common.errors import LeaError, warn
from lea_core.params import Params, read_yaml


def targets(
    known: Mapping[str, Any], wanted: Sequence[str], absent: Collection[str], kept: Collection[str] = ()
) -> list[str]:
    """Names of DVC stages, in order: the baselines of a data set after its first two configurations; these need the LE.

    known: `configurations_of`.  kept: configurations and baselines, <data>-<name>, that run only where they are wanted
    by name.  Raises `LeaError` where a wanted configuration is none.
    """
    configurations = known["configurations"]
    if unknown := [name for name in wanted if name not in configurations]:
        raise LeaError(f"{CONFIGURATIONS}: has no {unknown[0]}: write one such as {next(iter(configurations))}")
    found: list[str] = []
    seen: Counter[str] = Counter()
    for name, row in configurations.items():
        data = row["data"]
        if data in absent or (wanted and name not in wanted):
            continue
        if wanted or name not in kept:
            found.append(f"configuration@{name}")
        seen[data] += 1
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


def reproduce(target: str, *options: str) -> bool:
    """Whether DVC could bring a stage up to date. Ends where DVC itself is killed or interrupted."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # stages run `python`: this one
    settings = {**os.environ, "PATH": path, RUNNER: str(os.getpid())}
    status = subprocess.run([sys.executable, "-m", "dvc", "repro", *options, target], cwd=HOME, env=settings).returncode
    if status < 0:
        raise LeaError(f"dvc repro {target} was killed: run the same command to go on")
    return status == 0


def kept_of(known: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is kept with the present parameters, here or elsewhere, <data>-<name>, and wherein it is not of today."""
    found = {}
    for data in known["data"]:
        params = params_of(known, data)[1]
        names = (*params.variants, *params.baselines.names)
        found |= {f"{data}-{name}": wherein_other(params, data, name) for name in names}
    return {name: other for name, other in found.items() if other is not None}


def wherein_other(params: Params, data: str, name: str) -> list[str] | None:
    """What a kept configuration or baseline is made of that would be other here today; None where none is kept.

    Only what is known of both is compared: files that are here, and nothing of a result that noted nothing.
    """
    kept = read_kept(params, STORE / data, name)
    return differences(kept.note, made_of(params, FOLDER / data, name)) if kept else None


def stage_of(name: str, configurations: Collection[str]) -> str:
    """The DVC stage that makes a configuration or baseline, <data>-<name>."""
    if name in configurations:
        return f"configuration@{name}"
    data, _, baseline = name.rpartition("-")
    return f"{'evaluate_le' if baseline == BASELINES['evaluate_le'] else 'baselines'}@{data}"


def tell_why(known: Mapping[str, Any], wanted: Sequence[str], found: Mapping[str, Sequence[str]]) -> None:
    """Say which results of the `wanted` stages are kept but run again, and which LEs of their data other code trained.

    found: `kept_of`.
    """
    configurations = configurations_of(known)["configurations"]
    for name, other in found.items():
        if other and stage_of(name, configurations) in wanted:
            print(f"{name} is kept, but made of other {', '.join(other)}: it runs again", flush=True)
    today = computed_by(LE_STAGE)
    for data in known["data"]:
        reads = any(f"{target.partition('@')[2]}-".startswith(f"{data}-") for target in wanted)
        if reads and (trained := FOLDER / data / LE_CODE).exists() and read_json(trained) != today:
            print(f"{data}: other code or libraries trained its LE: `dvc repro --force finetune_le@{data}` trains anew")


def run_target(known: Mapping[str, Any], target: str) -> bool:
    """Whether a configuration or baseline could be made. DVC does not know the code: that forces it."""
    stage, _, place = target.partition("@")
    data = next(name for name in known["data"] if f"{place}-".startswith(f"{name}-"))
    params, name = params_of(known, data)[1], BASELINES.get(stage) or place.removeprefix(f"{data}-")
    for options in ((), ("--force", "--single-item")):
        if not reproduce(target, *options):
            return False
        report.keep_all(known)
        if wherein_other(params, data, name) == []:
            break
    return True


def main(argv: list[str]) -> None:
    """Run the configurations that `argv` names, or all, and then collect. Raises `LeaError` where one failed."""
    known = read_benchmark()
    write_configurations(known)
    for name in known["data"]:
        params_of(known, name)  # a mistake in benchmark.yaml is told now, not in hours
    absent = set(known["data"]) - set(datasets(known["data"]))
    drop_broken_lock(HOME / "dvc.lock")
    found = kept_of(known)
    kept = [name for name, other in found.items() if not other]
    if kept and not argv:
        print(f"{len(kept)} configurations and baselines are kept in {STORE} and do not run again", flush=True)
    wanted = targets(configurations_of(known), argv, absent, kept)
    tell_why(known, wanted, found)
    failed = []
    for place, target in enumerate(wanted, start=1):
        print(f"-- {place} of {len(wanted)}: {target}", flush=True)
        failed += [] if run_target(known, target) else [target]
    report.main([])
    if failed:
        raise LeaError(f"{BENCHMARK}: {len(failed)} of {len(wanted)} failed: {', '.join(failed)}")


if __name__ == "__main__":
    run(main)
