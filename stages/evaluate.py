"""evaluate <variant>: interactions and data/policies/<variant>/ -> data/evaluations/<variant>/.

ranks.parquet has the rank of every validation and test event for every seed, and the best items; metrics.json has the
metrics over events, with mean and standard deviation over seeds, and for each type of event if the data have types.
Alone: `python -m stages.evaluate snqn`.
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.artifacts import publish_folder
from lea_core.common.entrypoint import run
from lea_core.common.errors import LeaError
from lea_core.common.tables import INTERACTIONS, read_table
from lea_core.data.sequences import read_sequences
from lea_core.params import load


def main(argv: list[str]) -> None:
    """Evaluate the variant named in `argv`."""
    from lea_core.metrics.full_ranking import rank_table, write_evaluation
    from lea_core.metrics.protocol import warn_of
    from lea_core.models.policy_network import load_network

    params = load()
    if len(argv) != 1:
        raise LeaError(f"usage: python -m stages.evaluate VARIANT, one of {', '.join(params.variants)}")
    params.variant(argv[0])
    data = Path("data")
    sequences = read_sequences(data / "interactions")
    folder = data / "policies" / argv[0]
    policies = {seed: load_network(folder / f"seed-{seed}") for seed in params.train.seeds}
    scorers = {seed: (policy.scores, policy.config.history) for seed, policy in policies.items()}
    events = read_table(data / "interactions" / "interactions.parquet", INTERACTIONS, columns=("event",))["event"]
    p = params.evaluate
    table = rank_table(scorers, sequences, events, p.mask_seen, p.batch_users, p.cutoffs)
    with publish_folder(data / "evaluations" / argv[0]) as out:
        warn_of(argv[0], write_evaluation(out, table, sequences, p.cutoffs))


if __name__ == "__main__":
    run(main)
