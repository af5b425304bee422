"""LE + training events -> data/states/le.parquet and data/rewards/le.parquet.

In: data/interactions, data/llm, data/item_tokens, data/le. A killed run continues where it stopped. A window that this
LE has computed before is not computed again (run.py). Run alone: python -m stages.annotate
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.entrypoint import no_arguments, run


def main(argv: list[str]) -> None:
    """Annotate every training position; takes no arguments."""
    from lea_core import params
    from lea_core.annotation import run as shard_run
    from lea_core.annotation.annotate import Annotating

    no_arguments(argv)
    wanted = params.load()
    task = Annotating(wanted.annotate.sampled_actions, wanted.annotate.seed)
    shard_run.perform(shard_run.prepare(task, Path(), wanted))


if __name__ == "__main__":
    run(main)
