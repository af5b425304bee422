"""`lea tune`: the same number of trials for every variant.

In: params.yaml, data/. Out: tuning.csv and tuned.yaml in a folder, a table on stdout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lea_core.cli.printing import pipeline, print_table, say
from lea_core.common.progress import duration


@pipeline
def tune(
    variants: Annotated[list[str] | None, typer.Argument(help="Which to tune; default: all of params.yaml.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for tuning.csv and tuned.yaml.")] = Path("tuning"),
) -> None:
    """Try settings of the variants on validation, the same number for each, as params.yaml's section tune says."""
    from lea_core.experiments import tuning
    from lea_core.metrics.ranking import SELECTION
    from lea_core.params import load

    params = load()
    studies = tuning.tune(params, Path("data"), variants or list(params.variants), params.dataset.name)
    tuning.publish(params, studies, params.dataset.name, out)
    cells = [
        [
            name,
            f"{trials[0].score:.4f}",
            f"{tuning.best(trials).score:.4f}",
            duration(sum(trial.seconds for trial in trials)),
            tuning.words(tuning.best(trials).values),
        ]
        for name, trials in studies.items()
    ]
    title = f"Validation {SELECTION}, {params.tune.trials} trials each"
    print_table(title, ["variant", "now", "best", "time", "best settings"], cells, left=1)
    say(f"To take the best settings: lea use {out / 'tuned.yaml'}")
