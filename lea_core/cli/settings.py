"""`lea check` and `lea use`: params.yaml, read and changed.

In: params.yaml; a file of settings. Out: a table or the changes on stdout; params.yaml.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lea_core.cli.printing import pipeline, print_table, say


@pipeline
def check() -> None:
    """Validate params.yaml and say what each variant uses; warn where what is ranked is not what the data allow."""
    from lea_core.common.errors import warn
    from lea_core.metrics.protocol import mixed
    from lea_core.params import FOLDERS, load

    params = load()
    cells = [
        [name, variant.backbone, variant.method, *(getattr(variant, part) for part in FOLDERS)]
        for name, variant in params.variants.items()
    ]
    title = f"{params.dataset.name}, seeds {', '.join(map(str, params.train.seeds))}"
    print_table(title, ["variant", "backbone", "method", *FOLDERS], cells, left=3 + len(FOLDERS))
    if words := mixed(params.preprocess.repeats, params.evaluate.mask_seen):
        warn(f"params.yaml: {words}")


@pipeline
def use(file: Annotated[Path, typer.Argument(help="An overlay, such as settings/faithful.yaml.")]) -> None:
    """Set the keys of params.yaml that a file of settings names; comments stay, and a mistake changes nothing."""
    from lea_core.params.overlay import use as merge

    changes = merge(file)
    for change in changes:
        say(change)
    kept = "`git checkout params.yaml` brings the committed ones back, `dvc repro` runs what depends on it."
    say(f"{len(changes)} of params.yaml's keys changed: {kept}" if changes else "params.yaml has all of this already.")
