"""train <variant>: interactions and what the variant uses of the LE -> data/policies/<variant>/.

One folder per seed with the policy, curves.csv (a row per seed and evaluation) and training.json (how long it took,
which epoch was best, with which settings). Alone: `python -m stages.train snqn`.

On the CPU the seeds train side by side, a process with one thread each: these networks are too small for a second
thread to pay, and the sums of floats, so the policies, do not depend on the number of cores.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from lea_core.common.artifacts import publish_folder, write_csv, write_json
from lea_core.common.entrypoint import run
from lea_core.common.errors import LeaError
from lea_core.common.processes import side_by_side
from lea_core.data.leaks import training_events
from lea_core.data.sequences import read_sequences
from lea_core.params import Params, load

DATA = Path("data")


def main(argv: list[str]) -> None:
    """Train the variant named in `argv` from every seed."""
    params = load()
    if len(argv) != 1:
        raise LeaError(f"usage: python -m stages.train VARIANT, one of {', '.join(params.variants)}")
    name = argv[0]
    params.variant(name)
    seeds = params.train.seeds
    with publish_folder(DATA / "policies" / name) as folder:
        trained = side_by_side(partial(train_one, name, folder), seeds)
        write_csv(folder / "curves.csv", [row for curve, _ in trained for row in curve])
        summaries = {str(seed): summary for seed, (_, summary) in zip(seeds, trained, strict=True)}
        write_json(folder / "training.json", {"seeds": summaries, "params": settings(params, name)})


def settings(params: Params, name: str) -> dict[str, Any]:
    """What the policies of variant `name` were trained with, its own settings in their places; the policy keeps it."""
    own, variant = params.of(name), params.variant(name)
    return {
        "variant": variant.model_dump(),
        "backbone": getattr(own.backbones, variant.backbone).model_dump(),
        "method": getattr(own.methods, variant.method).model_dump(),
        "train": own.train.model_dump(),
    }


def train_one(name: str, folder: Path, seed: int) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Train the variant from one seed and save its policy into `folder`; returns its curve and summary."""
    import torch

    from lea_core.learners.loop import train_seed
    from lea_core.learners.supervision import read_supervision

    params = load()
    sequences = read_sequences(DATA / "interactions")
    supervision = read_supervision(DATA, params.variant(name), params.train, training_events(sequences))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trained = train_seed(name, seed, params, sequences, supervision, device)
    trained.policy.save(folder / f"seed-{seed}")
    return trained.curve, trained.summary


if __name__ == "__main__":
    run(main)
