"""Settings of every method by the same number of trials: `make tune`.

In: MovieLens and the data sets of settings/. Out, after each data set: benchmarks/results/tuning/<data>.csv with every
trial, benchmarks/results/tuning.md with the best ones, and in settings/<data>.yaml the `set` of each variant.

Trials start from params.yaml's settings, not from the tuned ones of settings/. Finished trials are kept, as with
`lea tune`: a killed run goes on. Test events are never looked at.

    python -m benchmarks.tune --data ml-100k scientific --variants supervised snqn --backbone sasrec --trials 20
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import DEFAULTS, ROOT, SETTINGS, absent_source, changed, prepare_stages
from lea_core.common.artifacts import publish_file, write_csv
from lea_core.experiments.tuning import Trial, best, rows, tune, words
from lea_core.metrics.ranking import SELECTION
from lea_core.params import Params, read_yaml
from lea_core.params.overlay import round_trip, styled

RESULTS = ROOT / "benchmarks" / "results"
FIXED = ("dataset", "variant", "trial", "proposed", SELECTION, "sd", "best_epoch", "seconds")
DATA = ("ml-100k", "scientific", "lastfm")
METHODS = ("supervised", "snqn", "sa2c")
NEW = "# Settings of each variant on {name}, found by `make tune`. `lea use settings/{name}.yaml`.\n\n"


def with_variants(params: Params, methods: Sequence[str], backbone: str) -> Params:
    """The parameters with a variant without LE parts for each method."""
    plain = {
        "backbone": backbone,
        "state": "none",
        "reward": "none",
        "actions": "none",
        "ranking": "none",
        "items": "none",
    }
    end = "" if backbone == "sasrec" else f"-{backbone}"
    variants = {f"{method}{end}": {**plain, "method": method, "set": {}} for method in methods}
    return changed(params, {"variants": variants, "tune.space": space_for(params, backbone)})


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
    old = read_rows(path) if path.exists() else []
    variants = {row["variant"] for row in new}
    together = [row for row in old if row["variant"] not in variants] + new
    columns = list(dict.fromkeys(key for row in together for key in row))
    columns = [*FIXED[:4], *(key for key in columns if key not in FIXED), *FIXED[4:]]
    write_csv(path, [{key: row.get(key) for key in columns} for row in together], columns)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_summary() -> None:
    """benchmarks/results/tuning.md, from the tables of all data sets."""
    lines = [
        "# Settings by the same number of trials",
        "",
        f"`make tune`; of cells `python -m benchmarks.tune_cells`. Validation {SELECTION}, one seed each; the first "
        "trial",
        "is params.yaml or benchmark.yaml. Every trial: [tuning/](tuning). So few trials of one seed are a coarse",
        "search: a seed moves a score on MovieLens by .004. Where no trial is by TPE, it was a random search.",
        "",
        "| data | variant | trials | random | by TPE | first | best | at trial | best settings | seconds |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|--:|",
    ]
    for path in sorted((RESULTS / "tuning").glob("*.csv")):
        found = read_rows(path)
        for variant in dict.fromkeys(row["variant"] for row in found):
            trials = [row for row in found if row["variant"] == variant]
            top = max(trials, key=lambda row: float(row[SELECTION]))
            values = words({key: value for key, value in top.items() if key not in FIXED and value})
            seconds = sum(float(row["seconds"]) for row in trials)
            scores = f"{float(trials[0][SELECTION]):.4f} | {float(top[SELECTION]):.4f}"
            ways = [row["proposed"] for row in trials]
            counts = f"{len(trials)} | {ways.count('random')} | {ways.count('TPE')}"
            lines.append(
                f"| {path.stem} | {variant} | {counts} | {scores} | {top['trial']} | {values} | {seconds:,.0f} |"
            )
    with publish_file(RESULTS / "tuning.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


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


def main() -> None:
    """Tune on one data set after another."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--data", nargs="+", default=DATA)
    parser.add_argument("--variants", nargs="+", default=METHODS, help="methods, each without LE parts")
    parser.add_argument("--backbone", default="sasrec")
    parser.add_argument("--trials", type=int, help="default: tune.trials of params.yaml")
    options = parser.parse_args()
    for name in options.data:
        if absent := absent_source(name):
            print(f"{name} skipped: {absent} is not there")
            continue
        folder, whole = prepare_stages(name, ("fetch_data", "preprocess"), label="-log")
        params = with_variants(whole, options.variants, options.backbone)
        if options.trials:
            params = changed(params, {"tune.trials": options.trials})
        studies = tune(params, folder / "data", list(params.variants), name)
        keep_rows(name, rows(studies, name))
        keep_settings(name, params, studies)
        write_summary()


if __name__ == "__main__":
    main()
