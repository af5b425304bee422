"""Tuning: every variant gets the same number of trials, each scored on the validation events alone.

In: data/ as stages.train reads it, and params.yaml with its section `tune`. Out: for each variant its trials;
tuning.csv, a row per trial; tuned.yaml, an overlay for `lea use` with the best settings of each variant.

The first trial of a variant has its present settings, so the best trial is never worse. The next ones are random until
there are three (ten, if `tune.trials` is 20 or more); Optuna's TPE proposes the others from the earlier trials. A trial
trains with each of `tune.seeds`; its score is the mean of the best validation NDCG@10. No trial is pruned. A method
with more settings than its supervised baseline searches a larger space with the same budget.

Variants are tuned in parallel, each in a process with one thread. Finished trials are kept in the cache folder under a
hash of the data, the parameters, the code, its libraries and the kind of device. A run that was killed continues after
them, and so does one with more `tune.trials` (but a budget below 20 and one of 20 or more are separate studies). With
anything else changed, it starts from the beginning. A proposal depends only on `tune.seed`, the number of random trials
and the earlier trials, so a killed run ends with the same trials.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lea_core.common.artifacts import publish_file, write_csv
from lea_core.common.checkpoints import Checkpoint
from lea_core.common.errors import LeaError
from lea_core.common.layout import table_path
from lea_core.common.processes import side_by_side
from lea_core.common.progress import duration, no_bars
from lea_core.common.sources import file_sha256
from lea_core.metrics.ranking import SELECTION
from lea_core.params import Choices, Dimension, IntRange, Params, parse

DIGITS = 3  # significant ones of a proposed number


@dataclass(frozen=True)
class Trial:
    """One setting of a variant: its values by key, and the score, best epoch and seconds of each seed."""

    values: dict[str, Any]
    scores: list[float]  # validation NDCG@10; 0 where the training diverged
    epochs: list[int]
    seconds: float

    @property
    def score(self) -> float:
        """Mean over the seeds."""
        return math.fsum(self.scores) / len(self.scores)


def best(trials: Sequence[Trial]) -> Trial:
    """The trial of the highest score, the first of equal ones."""
    return max(trials, key=lambda trial: trial.score)


def tune(params: Params, data: Path, names: Sequence[str], label: str) -> dict[str, list[Trial]]:
    """Run the missing trials of the variants `names` on the folder `data`, which messages call `label`."""
    for name in names:
        check(params, name)
    trials = side_by_side(partial(study, params, data.resolve(), label), names)
    return dict(zip(names, trials, strict=True))


def space_of(params: Params, name: str) -> dict[str, Dimension]:
    """The part of `tune.space` that a variant may set."""
    variant = params.variant(name)
    own = ("train.", f"methods.{variant.method}.", f"backbones.{variant.backbone}.")
    return {key: dimension for key, dimension in params.tune.space.items() if key.startswith(own)}


def check(params: Params, name: str) -> None:
    """Raise `LeaError` where a variant's space is empty, lacks what it has now or holds what it cannot have."""
    space, present = space_of(params, name), present_values(params, name)
    if not space:
        raise LeaError(f"params.yaml: tune.space has no key that variant {name} may set: add one or tune others")
    for key, dimension in space.items():
        ends = dimension.choices if isinstance(dimension, Choices) else [dimension.low, dimension.high]
        inside = present[key] in ends
        if not isinstance(dimension, Choices):
            inside = isinstance(present[key], int | float) and dimension.low <= present[key] <= dimension.high
            if isinstance(dimension, IntRange):
                inside = inside and (present[key] - dimension.low) % dimension.step == 0
        if not inside:
            raise LeaError(
                f"params.yaml: tune.space.{key} lacks {present[key]!r}, which variant {name} has now: widen the space"
            )
        for end in ends:
            with_values(params, name, {key: end})


def present_values(params: Params, name: str) -> dict[str, Any]:
    """What a variant has now at the keys of its space."""
    raw = params.of(name).model_dump()
    values = {}
    for key in space_of(params, name):
        below: Any = raw
        for part in key.split("."):
            below = below[part]
        values[key] = below
    return values


def with_values(params: Params, name: str, values: Mapping[str, Any]) -> Params:
    """The parameters with `values` among one variant's own settings."""
    raw = params.model_dump()
    raw["variants"][name]["set"] |= values
    return parse(raw, Path("params.yaml"))


def study(params: Params, data: Path, label: str, name: str) -> list[Trial]:
    """All trials of one variant; those that an earlier run finished are read back."""
    from lea_core.data.leaks import training_events
    from lea_core.data.sequences import read_sequences
    from lea_core.learners.supervision import read_supervision

    space, settings = space_of(params, name), params.tune
    kept = _kept(params, data, name)
    trials = [Trial(**trial) for trial in (kept.load() or ({}, {"trials": []}))[1]["trials"]]
    if trials:
        _say(f"{label} {name}: {min(len(trials), settings.trials)} of {settings.trials} trials are there")
    sequences = read_sequences(data / "interactions")
    variant = params.variant(name)
    supervision = read_supervision(data, variant, params.of(name).train, training_events(sequences))
    while len(trials) < settings.trials:
        values = (
            propose(space, settings.seed, trials, startup_trials(settings.trials))
            if trials
            else present_values(params, name)
        )
        trials.append(run_trial(with_values(params, name, values), name, values, sequences, supervision))
        kept.save({}, {"trials": [asdict(trial) for trial in trials]})
        scores = f"{SELECTION} {trials[-1].score:.4f} (best {best(trials).score:.4f})"
        place = f"{label} {name} {len(trials)}/{settings.trials}"
        _say(f"{place}: {scores}, {duration(trials[-1].seconds)}, {words(values)}")
    return trials[: settings.trials]


def run_trial(params: Params, name: str, values: dict[str, Any], sequences: Any, supervision: Any) -> Trial:
    """Train with these values from every seed of the tuning."""
    import torch

    from lea_core.learners.divergence import DivergedError
    from lea_core.learners.loop import train_seed

    device = torch.device(_device())
    started, scores, epochs = time.perf_counter(), [], []
    for seed in params.tune.seeds:
        try:
            with no_bars():
                summary = train_seed(name, seed, params, sequences, supervision, device).summary
        except DivergedError:
            summary = {SELECTION: 0.0, "best_epoch": 0}
        scores.append(summary[SELECTION])
        epochs.append(summary["best_epoch"])
    return Trial(values, scores, epochs, round(time.perf_counter() - started, 1))


def startup_trials(budget: int) -> int:
    """How many of `budget` trials come before TPE, the present settings included; Optuna's default is ten."""
    return 3 if budget < 20 else 10


def propose(space: Mapping[str, Dimension], seed: int, trials: Sequence[Trial], startup: int) -> dict[str, Any]:
    """The values to try after `trials`, random while they are fewer than `startup`; the same for the same arguments."""
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

    def distribution(dimension: Dimension) -> BaseDistribution:
        if isinstance(dimension, Choices):
            return CategoricalDistribution(dimension.choices)
        if isinstance(dimension, IntRange):
            return IntDistribution(dimension.low, dimension.high, step=dimension.step)
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: distribution(dimension) for key, dimension in space.items()}
    # The number of the trial is part of the seed: the sampler is new for each trial and would draw the same again.
    sampler = optuna.samplers.TPESampler(n_startup_trials=startup, seed=seed * 100_003 + len(trials))
    told = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in trials:
        told.add_trial(optuna.trial.create_trial(params=trial.values, distributions=distributions, value=trial.score))
    drawn = told.ask(distributions).params
    return {key: _rounded(drawn[key], dimension) for key, dimension in space.items()}


def _rounded(value: Any, dimension: Dimension) -> Any:
    """A proposed number, rounded to DIGITS digits within its range: the same number is trained and written."""
    if isinstance(dimension, Choices | IntRange):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), dimension.low), dimension.high)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _kept(params: Params, data: Path, name: str) -> Checkpoint:
    """Where the trials of a variant are kept, by all that their results depend on; the label tells data sets apart."""
    variant, own = params.variant(name), params.of(name).model_dump()
    files = [data / "interactions" / f"{table}.parquet" for table in ("interactions", "items")]
    files += [table_path(data, part, source) for part, source in variant.sources.items()]
    for file in files:
        if not file.exists():
            raise LeaError(f"{file}: not found: run `dvc repro` to make it")
    hashes = [file_sha256(file) for file in files]
    identity = {
        "files": hashes,
        "device": _device(),
        "variant": own["variants"][name],
        "train": {key: value for key, value in own["train"].items() if key != "seeds"},
        "method": own["methods"][variant.method],
        "backbone": own["backbones"][variant.backbone],
        "mask_seen": params.evaluate.mask_seen,
        "space": {key: dimension.model_dump() for key, dimension in space_of(params, name).items()},
        "seed": params.tune.seed,
        "startup": startup_trials(params.tune.trials),
        "seeds": params.tune.seeds,
    }
    return Checkpoint(f"{name}-{hashes[0][:8]}", __name__, identity, "tune")


def words(values: Mapping[str, Any]) -> str:
    """Settings on one line."""
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _say(message: str) -> None:
    print(message, flush=True)


def rows(studies: Mapping[str, Sequence[Trial]], label: str) -> list[dict[str, Any]]:
    """A row per trial, with a column for every key that any of the variants has."""
    keys = dict.fromkeys(key for trials in studies.values() for key in trials[0].values)
    return [
        {
            "dataset": label,
            "variant": name,
            "trial": number,
            "proposed": "present" if number == 0 else "random" if number < startup_trials(len(trials)) else "TPE",
            **{key: trial.values.get(key) for key in keys},
            SELECTION: round(trial.score, 6),
            "sd": round(statistics.stdev(trial.scores), 6) if len(trial.scores) > 1 else None,
            "best_epoch": " ".join(map(str, trial.epochs)),
            "seconds": trial.seconds,
        }
        for name, trials in studies.items()
        for number, trial in enumerate(trials)
    ]


def overlay(params: Params, studies: Mapping[str, Sequence[Trial]]) -> dict[str, Any]:
    """The best settings of each variant, in the form of params.yaml."""
    chosen = {name: {**params.variant(name).set, **best(trials).values} for name, trials in studies.items()}
    return {"variants": {name: {"set": values} for name, values in chosen.items()}}


def publish(params: Params, studies: Mapping[str, Sequence[Trial]], label: str, folder: Path) -> None:
    """Write tuning.csv and tuned.yaml into `folder`."""
    from lea_core.params.overlay import round_trip, styled

    write_csv(folder / "tuning.csv", rows(studies, label))
    head = (
        f"# The best of {params.tune.trials} trials of each variant on {label}, by validation {SELECTION} "
        f"(seeds {', '.join(map(str, params.tune.seeds))}).\n\n"
    )
    with publish_file(folder / "tuned.yaml") as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(head)
        round_trip().dump(styled(overlay(params, studies)), file)
