"""train <variant>: interactions and what the variant uses of the LE -> data/policies/<variant>/.

One folder per seed with the policy, curves.csv (a row per seed and evaluation) and training.json (how long it took,
which epoch was best). Alone: `python -m stages.train snqn`.
"""

from __future__ import annotations

from pathlib import Path

from lea_core.artifacts import publish_folder, write_csv, write_json
from lea_core.errors import LeaError, run
from lea_core.leaks import training_events
from lea_core.params import load
from lea_core.sequences import read_sequences


def main(argv: list[str]) -> None:
    """Train the variant named in `argv` from every seed."""
    import torch

    from lea_core.le_parts import read_supervision
    from lea_core.learners.loop import train_seed

    params = load()
    if len(argv) != 1:
        raise LeaError(f"usage: python -m stages.train VARIANT, one of {', '.join(params.variants)}")
    name, data = argv[0], Path("data")
    sequences = read_sequences(data / "interactions")
    supervision = read_supervision(data, params.variant(name), params.train, training_events(sequences))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    curves, summary = [], {}
    with publish_folder(data / "policies" / name) as folder:
        for seed in params.train.seeds:
            trained = train_seed(name, seed, params, sequences, supervision, device)
            trained.policy.save(folder / f"seed-{seed}")
            curves += trained.curve
            summary[str(seed)] = trained.summary
        write_csv(folder / "curves.csv", curves)
        write_json(folder / "training.json", {"seeds": summary})


if __name__ == "__main__":
    run(main)
