"""LE + states -> data/actions/le.parquet: positive actions that the LE proposes, with score and reward.

In: data/interactions, data/llm, data/item_tokens, data/le, data/states/le.parquet. A killed run continues where it
stopped. Run alone: python -m stages.augment
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.entrypoint import no_arguments, run


def main(argv: list[str]) -> None:
    """Propose actions at every training position; takes no arguments."""
    from lea_core import params
    from lea_core.annotation import run as shard_run
    from lea_core.annotation.augment import Augmenting

    no_arguments(argv)
    wanted = params.load()
    task = Augmenting(wanted.augment.actions, wanted.preprocess.repeats)
    shard_run.perform(shard_run.prepare(task, Path(), wanted))


if __name__ == "__main__":
    run(main)
