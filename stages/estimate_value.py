"""estimate_value: interactions and data/policies/ of every variant -> data/value/.

value.csv has off-policy estimates of each variant's test reward, mean over the seeds; behaviour.json tells how good the
estimated behaviour policy is, and how to read the values. Alone: `python -m stages.estimate_value`.
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.artifacts import publish_folder, write_csv, write_json
from lea_core.common.entrypoint import no_arguments, run
from lea_core.data.rewards import read_rewards
from lea_core.data.sequences import read_sequences
from lea_core.params import load

DATA = Path("data")


def main(argv: list[str]) -> None:
    """Estimate the values; takes no arguments."""
    from lea_core.evaluation.off_policy import behaviour as behaviours
    from lea_core.evaluation.off_policy.value import COLUMNS, make_log, summary, target_policy, value_rows, worth
    from lea_core.models.policy_network import load_network

    no_arguments(argv)
    params = load()
    settings, repeats = params.off_policy, params.preprocess.repeats
    sequences = read_sequences(DATA / "interactions")
    rewards = read_rewards(DATA / "interactions" / "interactions.parquet", params.train.event_rewards)
    behaviour = behaviours.fit(sequences, settings.smoothing, repeats)
    users, positions = behaviours.events(sequences, "test", repeats)
    log = make_log(
        sequences, users, positions, behaviour.of(sequences, users, positions), rewards, settings.reward_shrinkage
    )
    rows, found = [], {}
    for name in params.variants:
        folders = [DATA / "policies" / name / f"seed-{seed}" for seed in params.train.seeds]
        targets = [
            target_policy(load_network(folder), folder, log, params.evaluate.mask_seen, params.evaluate.batch_users)
            for folder in folders
        ]
        found[name] = worth(targets, log, settings.clip)
        rows += value_rows(name, found[name], log, settings.seed)
    report = summary(behaviour, rewards, log, found, rows, settings.seed, params.evaluate.mask_seen)
    with publish_folder(DATA / "value") as out:
        write_csv(out / "value.csv", rows, COLUMNS)
        write_json(out / "behaviour.json", report)


if __name__ == "__main__":
    run(main)
