"""Settings of every method by the same number of trials: `make tune`; on demand of configurations of the benchmark.

In: MovieLens and the data sets of settings/. Out, after each data set: benchmarks/results/tuning/<data>.csv with every
trial, benchmarks/results/tuning.md with the best ones, and in settings/<data>.yaml the `set` of each variant.

Trials start from the settings of params.yaml, not from the tuned ones of settings/. Finished trials are kept, as with
`lea tune`: a killed run goes on. Test events are never looked at.

    python -m benchmarks.paper.tune --data ml-100k scientific --variants supervised snqn --backbone sasrec --trials 20

With --configurations, all of one backbone, trials start from benchmark.yaml, on what `make benchmark` has made of the
data set (benchmarks/.work/benchmark/<data>; with signals of the LE, its tables). Every trial stands in
benchmarks/results/tuning/<data>-cells.csv; what to write into benchmark.yaml stands in tuning.md and on stdout.

    python -m benchmarks.paper.tune --data scientific --configurations gru4rec-supervised gru4rec-snqn --trials 6
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.paper.params import CONFIGURATIONS, FOLDER, NONE, params_of, read_benchmark
from benchmarks.support.jobs import DEFAULTS, RESULTS, SETTINGS
from benchmarks.support.prepared import changed, datasets, prepare_stages
from benchmarks.support.written import read_csv, table, write_text
from lea_core.common.artifacts import publish_file, write_csv
from lea_core.common.entrypoint import run
from lea_core.common.errors import LeaError
from lea_core.experiments.tuning import Trial, best, rows, tune, words
from lea_core.metrics.ranking import SELECTION
from lea_core.params import Params, read_yaml
from lea_core.params.overlay import round_trip, styled

FIXED = ("dataset", "variant", "trial", "proposed", SELECTION, "sd", "best_epoch", "seconds")
DATA = ("ml-100k", "scientific", "lastfm")
METHODS = ("supervised", "snqn", "sa2c")
NEW = "# Settings of each variant on {name}, found by `make tune`. `lea use settings/{name}.yaml`.\n\n"
INTRODUCTION = f"""\
# Settings by the same number of trials

`make tune`; of configurations `python -m benchmarks.paper.tune --configurations ...` (`-cells`). Validation
{SELECTION}, one seed each; the first trial is params.yaml or benchmark.yaml. Every trial: [tuning/](tuning). So few
trials of one seed are a coarse search: a seed moves a score on MovieLens by .004. Where no trial is by TPE, it was a
random search.
"""


def with_variants(params: Params, methods: Sequence[str], backbone: str) -> Params:
    """The parameters with a variant without signals of the LE for each method."""
    end = "" if backbone == "sasrec" else f"-{backbone}"
    variants = {f"{method}{end}": {"backbone": backbone, "method": method, **NONE, "set": {}} for method in methods}
    return changed(params, {"variants": variants, "tune.space": space_for(params, backbone)})


def with_configurations(benchmark: Mapping[str, Any], data: str, names: Sequence[str]) -> Params:
    """A data set's parameters with the space of its configurations' backbone. Raises `LeaError` where there is none."""
    if data not in benchmark["data"]:
        raise LeaError(f"benchmark.yaml has no data set {data}: give one of {', '.join(benchmark['data'])}")
    params = params_of(benchmark, data)[1]
    if unknown := [name for name in names if name not in params.variants]:
        raise LeaError(f"{data} has no configuration {unknown[0]}: give names of {CONFIGURATIONS.name}")
    backbones = {params.variant(name).backbone for name in names}
    if len(backbones) != 1:
        raise LeaError(f"configurations of {' and '.join(sorted(backbones))}: tune one backbone at a time")
    return changed(params, {"tune.space": space_for(params, backbones.pop())})


def space_for(params: Params, backbone: str) -> dict[str, Any]:
    """The space of the tuning; another backbone has that of SASRec, as far as it has the same keys."""
    space = {key: dimension.model_dump() for key, dimension in params.tune.space.items()}
    if backbone != "sasrec":
        fields = getattr(params.backbones, backbone).model_dump()
        own = {key: value for key, value in space.items() if key.removeprefix("backbones.sasrec.") in fields}
        space |= {key.replace("sasrec", backbone): value for key, value in own.items()}
    return space


def keep_rows(name: str, new: list[dict[str, Any]]) -> None:
    """Put the trials into the table of the data set, in the place of former ones of the same variants."""
    path = RESULTS / "tuning" / f"{name}.csv"
    variants = {row["variant"] for row in new}
    together = [row for row in read_csv(path) if row["variant"] not in variants] + new
    columns = list(dict.fromkeys(key for row in together for key in row))
    columns = [*FIXED[:4], *(key for key in columns if key not in FIXED), *FIXED[4:]]
    write_csv(path, [{key: row.get(key) for key in columns} for row in together], columns)


def write_summary() -> None:
    """benchmarks/results/tuning.md, from the tables of all data sets."""
    head = "data | variant | >trials | >random | >by TPE | >first | >best | >at trial | best settings | >seconds"
    lines = []
    for path in sorted((RESULTS / "tuning").glob("*.csv")):
        found = read_csv(path)
        for variant in dict.fromkeys(row["variant"] for row in found):
            trials = [row for row in found if row["variant"] == variant]
            top = max(trials, key=lambda row: float(row[SELECTION]))
            proposed = [row["proposed"] for row in trials]
            counts = [len(trials), proposed.count("random"), proposed.count("TPE")]
            scores = [f"{float(row[SELECTION]):.4f}" for row in (trials[0], top)]
            values = words({key: value for key, value in top.items() if key not in FIXED and value})
            seconds = sum(float(row["seconds"]) for row in trials)
            lines.append([path.stem, variant, *map(str, counts), *scores, top["trial"], values, f"{seconds:,.0f}"])
    write_text(RESULTS / "tuning.md", [INTRODUCTION, *table(head, lines)])


def keep_settings(name: str, params: Params, studies: Mapping[str, Sequence[Trial]]) -> None:
    """Put the best `set` of each variant into settings/<name>.yaml, with its other keys where params.yaml has none."""
    path = SETTINGS / f"{name}.yaml"
    yaml = round_trip()
    text = path.read_text(encoding="utf-8") if path.exists() else NEW.format(name=name)
    head, _, _ = text.partition("\nvariants:")
    variants: dict[str, Any] = read_yaml(path).get("variants", {}) if path.exists() else {}
    known = read_yaml(DEFAULTS)["variants"]
    for variant, trials in studies.items():
        whole = {} if variant in known else params.variants[variant].model_dump()
        variants[variant] = {**whole, "set": best(trials).values}
    with publish_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(head.rstrip("\n") + "\n\n")
        yaml.dump(styled({"variants": variants}), file)


def main(argv: list[str]) -> None:
    """Tune on one data set after another."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper.tune")
    parser.add_argument("--data", nargs="+", default=DATA)
    parser.add_argument("--variants", nargs="+", default=METHODS, help="methods, each without signals of the LE")
    parser.add_argument("--backbone", default="sasrec")
    parser.add_argument("--configurations", nargs="+", default=[], help="of the benchmark, in the place of variants")
    parser.add_argument("--trials", type=int, help="default: tune.trials of params.yaml")
    options = parser.parse_args(argv)
    for name in datasets(options.data):
        if options.configurations:
            params, folder = with_configurations(read_benchmark(), name, options.configurations), FOLDER / name
            if not (folder / "data").exists():
                made = " ".join(f"{stage}@{name}" for stage in ("annotate", "augment", "rank"))
                raise LeaError(f"{folder}: not found: run `make benchmark`, or `dvc repro {made}` in benchmarks/")
        else:
            folder, whole = prepare_stages(name, ("fetch_data", "preprocess"), label="-log")
            params = with_variants(whole, options.variants, options.backbone)
        if options.trials:
            params = changed(params, {"tune.trials": options.trials})
        label = f"{name}-cells" if options.configurations else name
        studies = tune(params, folder / "data", options.configurations or list(params.variants), name)
        keep_rows(label, rows(studies, label))
        if not options.configurations:
            keep_settings(name, params, studies)
        write_summary()
        for variant, trials in studies.items():
            print(f"{variant}: {SELECTION} {best(trials).score:.4f} with {words(best(trials).values)}")


if __name__ == "__main__":
    run(main)
