"""control_policy <name>: an entry of params `controls.policies` -> data/<signal>/policy.parquet.

In: data/interactions, data/<signal>/le.parquet and data/policies/<policy>, of which the first seed is used for all.
Alone: `python -m stages.control_policy actions-policy`, for an entry of that name.
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.entrypoint import run
from lea_core.common.errors import LeaError
from lea_core.params import POLICY, load

DATA = Path("data")


def main(argv: list[str]) -> None:
    """Make the control named in `argv`."""
    from lea_core.baselines.neighbours import by_history
    from lea_core.data.leaks import training_events
    from lea_core.data.sequences import read_sequences
    from lea_core.experiments.controls.tables import proposals, rankings, read_le, write
    from lea_core.models.policy_network import load_network

    params = load()
    if len(argv) != 1 or argv[0] not in params.controls.policies:
        names = ", ".join(params.controls.policies) or "controls.policies, which has none"
        raise LeaError(f"usage: python -m stages.control_policy NAME, one of {names}")
    control = params.controls.policies[argv[0]]
    train = training_events(read_sequences(DATA / "interactions"))
    policy = load_network(DATA / "policies" / control.policy / f"seed-{params.train.seeds[0]}")
    rank = by_history(policy.scores, train, policy.config.history)
    le = read_le(DATA, control.part)
    make = rankings if control.part == "rankings" else proposals
    write(DATA, control.part, POLICY, make(le, rank, train))


if __name__ == "__main__":
    run(main)
