"""How much of a score is one LE: configurations of the paper-scale benchmark, with LEs trained from other seeds.

In: a data set of benchmark.yaml, what `make benchmark` has made of its log and item texts (.work/benchmark/<data>),
configurations that learn from the LE. Out: for each seed of the LE a folder <data>-le-<seed> beside that one; what
stays of its configurations, and of the LE as a recommender, in results/cells/<data>-le-<seed>;
benchmarks/results/le_seeds.md.

Everything but `finetune_le.seed` is as in the benchmark, whose LE has seed 0. Where the machine has another number
format, an LE of seed 0 is another LE all the same. The benchmark's intervals are over users and seeds of the policy;
this is what they leave out. What is kept does not run again.

    python -m benchmarks.environment.seeds scientific sasrec-supervised-ranking --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.inputs import content_hash, differences, made_of
from benchmarks.paper.params import CONFIGURATIONS, FOLDER, params_of, read_benchmark
from benchmarks.paper.stage import BASELINES, run_baselines, run_configuration, run_stage
from benchmarks.paper.store import STORE, Kept, keep, read_kept
from benchmarks.paper.summary import NDCG
from benchmarks.support.written import table, write_text
from lea_core.common.artifacts import read_json, write_json
from lea_core.common.code_hash import computed_by
from lea_core.common.entrypoint import run
from lea_core.common.errors import LeaError
from lea_core.evaluation.comparisons import compare_users
from lea_core.evaluation.results import interval
from lea_core.params import FOLDERS, Params
from lea_core.params.overlay import change_params

RESULT = STORE.parent / "le_seeds.md"
TABLES = ("state", "reward", "actions", "ranking")  # signals that an LE makes; the first two are of `annotate`
FURTHER = {"actions": "augment", "ranking": "rank"}  # stages that read the states that annotate kept
LOG = ("interactions", "llm", "item_tokens", "items")  # what no seed of the LE changes
CODE = tuple(f"stages.{name}" for name in ("finetune_le", "evaluate_le", "annotate", "augment", "rank", "control"))
SEED = "finetune_le.seed"
HEAD = """# One LE or another

`python -m benchmarks.environment.seeds`: configurations of the benchmark with LEs trained from other seeds. NDCG@10 on
test; ± is the standard deviation over seeds of the policy. An LE of seed 0 in another number format (blank: not noted)
is not the benchmark's.
"""
BESIDE = "Less the best baselines without the LLM on validation; 95 % intervals over users and seeds, not corrected."


def stages_of(params: Params, configurations: Sequence[str]) -> list[str]:
    """What makes an LE, measures it, and makes the tables that these configurations read, in order.

    Raises `LeaError` where one is no configuration, or reads no table of the LE nor one made with it.
    """
    wanted: set[tuple[str, str]] = set()  # signal and source
    for name in configurations:
        if name not in params.variants:
            raise LeaError(f"there is no configuration {name}: give names of {CONFIGURATIONS.name}")
        sources = params.variants[name].sources
        if params.variants[name].is_control or not set(TABLES) & set(sources):
            raise LeaError(f"{name} does not learn from the LE's state, reward, actions or ranking: give one that does")
        wanted |= set(sources.items())
    further = [stage for part, stage in FURTHER.items() if part in dict(wanted)]
    tables = {(FOLDERS[part], source) for part, source in wanted}
    made = [name for name, entry in params.controls.sources.items() if (entry.part, entry.source) in tables]
    return ["finetune_le", "evaluate_le", "annotate", *further, *(f"control {name}" for name in made)]


def seeded(benchmark: Mapping[str, Any], data: str, seed: int) -> Params:
    """The data set's parameters with this seed of the LE."""
    return params_of({**benchmark, "changes": {**benchmark["changes"], SEED: seed}}, data)[1]


def run_seed(params: Params, data: str, configurations: Sequence[str]) -> None:
    """Train an LE, and these configurations with it, as far as they are not kept."""
    label = f"{data}-le-{params.finetune_le.seed}"
    folder, stages = FOLDER / label, stages_of(params, configurations)
    kept = {name: read_kept(params, STORE / label, name) for name in configurations}
    wanted = [name for name, one in kept.items() if one is None or differences(one.note, made_of(params, folder, name))]
    if not wanted:
        print(f"{label}: its configurations are kept in {STORE / label} and do not run again")
        return
    prepare(FOLDER / data, folder, params.finetune_le.seed)
    known = read_json(folder / "done.json")
    done = known["stages"]
    for stage in stages:
        if stage not in done:
            if stage in BASELINES:
                run_baselines(folder, stage)
            else:
                run_stage(folder, *stage.split())
            done.append(stage)
            write_json(folder / "done.json", {**known, "stages": done})
    keep(params, folder, STORE / label)
    for name in wanted:
        run_configuration(folder, name)
        keep(params, folder, STORE / label)


def prepare(source: Path, folder: Path, seed: int) -> None:
    """Copy what an LE is trained on, where it, its parameters or the code of what follows are not as they were."""
    if not (source / "data" / "item_tokens").exists():
        raise LeaError(f"{source}: not found: run `make benchmark`, or `dvc repro rank@{source.name}` in benchmarks/")
    done = folder / "done.json"
    former = read_json(done).get("of") if done.exists() else None
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "params.yaml", folder)
    change_params(folder, {SEED: seed})
    files = {name: content_hash(source / "data" / name) for name in LOG}
    own = {"params": content_hash(folder / "params.yaml"), **files, **computed_by(*CODE)}
    if own == former:
        return
    shutil.rmtree(folder / "data", ignore_errors=True)
    for name in (*LOG, *(f"{FOLDERS[part]}/none.parquet" for part in TABLES)):
        path, copy = source / "data" / name, folder / "data" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, copy)
        else:
            shutil.copy(path, copy)
    write_json(done, {"of": own, "stages": []})


def read_all(params: Params, store: Path) -> dict[str, Kept]:
    """What is kept with these parameters."""
    read = {name: read_kept(params, store, name) for name in (*params.baselines.names, *params.variants)}
    return {name: one for name, one in read.items() if one}


def read_les(benchmark: Mapping[str, Any], data: str) -> dict[str, dict[str, Kept]]:
    """What is kept of each LE of a data set, the benchmark's first and then by seed."""
    found = {"the benchmark's": read_all(params_of(benchmark, data)[1], STORE / data)}
    for seed in sorted(int(path.name.rpartition("-")[2]) for path in STORE.glob(f"{data}-le-*")):
        found[f"seed {seed}"] = read_all(seeded(benchmark, data, seed), STORE / f"{data}-le-{seed}")
    return {name: kept for name, kept in found.items() if "le" in kept}


def spread(scores: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Mean and standard deviation over LEs, and what of this the policy's seeds leave: their variance by their number.

    scores: for each LE those of the policy's seeds.
    """
    means = [np.mean(own) for own in scores]
    pooled = np.mean([np.var(own, ddof=1) / len(own) if len(own) > 1 else 0.0 for own in scores])
    return float(np.mean(means)), float(np.std(means, ddof=1)), float(np.sqrt(pooled))


def section(data: str, les: Mapping[str, Mapping[str, Kept]]) -> list[str]:
    """The tables of a data set: a row for each LE and what varies among them; then configurations beside baselines."""
    main, *others = les.values()
    names = [name for name in main if name != "le" and any(name in kept for kept in others)]
    systems = ("le", *names)
    rows = []
    for label, kept in les.items():
        formats = {kept[name].note["where"].get("number_format", "") for name in names if name in kept}
        scores = [str(kept[name].result.scores[NDCG]) if name in kept else "" for name in systems]
        rows.append([label, ", ".join(sorted(formats - {""})), f"{kept['le'].result.valid[NDCG].mean:.4f}", *scores])
    found = [
        spread([kept[name].result.scores[NDCG].seeds for kept in les.values() if name in kept]) for name in systems
    ]
    for place, words in enumerate(("mean", "SD among LEs", "of it by seeds of the policy")):
        rows.append([words, "", "", *(f"{one[place]:.4f}" for one in found)])
    rows[-1][3] = ""  # the LE itself has none
    baselines = [kept.result for kept in main.values() if kept.result.cost and not kept.result.cost.needs_llm]
    rivals = [rival.name for rival in sorted(baselines, key=lambda result: -result.valid[NDCG].mean)[:2]]
    beside = [
        [name, rival, *(difference(kept, main, name, rival) for kept in les.values())]
        for name in names
        for rival in rivals
    ]
    head = " | >".join(["LE | number format", "the LE itself, validation", "test", *names])
    return [
        *(f"## {data}", "", *table(head, rows), ""),
        *(BESIDE, "", *table(" | >".join(["configuration | baseline", *les]), beside), ""),
    ]


def difference(kept: Mapping[str, Kept], main: Mapping[str, Kept], name: str, rival: str) -> str:
    """A configuration minus a baseline of the benchmark, over users and seeds; empty where it is not kept."""
    if name not in kept:
        return ""
    found = compare_users({name: kept[name].users, rival: main[rival].users}, name, rival)
    return f"{found.difference:+.4f} ({interval(vars(found), '_with_seeds')})"


def write(benchmark: Mapping[str, Any]) -> None:
    """le_seeds.md, of all that is kept."""
    found = {data: read_les(benchmark, data) for data in benchmark["data"]}
    lines = [line for data, les in found.items() if len(les) > 1 for line in section(data, les)]
    write_text(RESULT, "\n".join([HEAD, *lines]))
    print(f"wrote {RESULT}")


def main(argv: list[str]) -> None:
    """Run what `argv` names, and write what is kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.environment.seeds")
    parser.add_argument("data")
    parser.add_argument("configurations", nargs="*", help="none: write what is kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[])
    options = parser.parse_args(argv)
    benchmark = read_benchmark()
    if options.data not in benchmark["data"]:
        raise LeaError(f"benchmark.yaml has no data set {options.data}: give one of {', '.join(benchmark['data'])}")
    if bool(options.configurations) != bool(options.seeds):
        raise LeaError("give both configurations and --seeds, or neither to write what is kept")
    for seed in options.seeds:
        run_seed(seeded(benchmark, options.data, seed), options.data, options.configurations)
    write(benchmark)


if __name__ == "__main__":
    run(main)
