"""Training events of a subset of users + item tokens + LLM -> data/le, the fine-tuned LE.

In: data/interactions, data/llm, data/item_tokens. Out: data/le and data/le_curve.csv (learning curve). A killed run
continues where it stopped. Run alone: python -m stages.finetune_le. With several processes:
`torchrun --nproc-per-node N -m stages.finetune_le`, and then `dvc commit finetune_le`.
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.entrypoint import no_arguments, run

INTERACTIONS, LLM, TOKENS = (Path(f"data/{name}") for name in ("interactions", "llm", "item_tokens/items.parquet"))
OUT, CURVE = Path("data/le"), Path("data/le_curve.csv")


def main(argv: list[str]) -> None:
    """Fine-tune the LE and measure it; takes no arguments."""
    import numpy as np

    from lea_core import params
    from lea_core.common.artifacts import write_csv
    from lea_core.common.checkpoints import Checkpoint
    from lea_core.common.sources import file_sha256
    from lea_core.data.leaks import training_events
    from lea_core.data.sequences import read_sequences
    from lea_core.environment import model as environment
    from lea_core.environment.distributed import distributed_context
    from lea_core.environment.finetune import Finetuning
    from lea_core.environment.quality import quality, worse_than_start
    from lea_core.environment.user_split import choose_users
    from lea_core.llm import language_model

    no_arguments(argv)
    wanted = params.load()
    p, distributed = wanted.finetune_le, distributed_context()
    sequences = read_sequences(INTERACTIONS)
    train = training_events(sequences)
    users, unseen = choose_users(train, p.users_share, np.random.default_rng(p.seed))
    model = language_model.load(LLM, wanted.llm.layers)
    identity = {
        "params": p.model_dump(),
        "llm": language_model.fingerprint(model),
        "tokens": file_sha256(TOKENS),
        "interactions": file_sha256(INTERACTIONS / "interactions.parquet"),
    }
    checkpoint = Checkpoint("finetune_le", "stages.finetune_le", identity)
    le = environment.new(model, environment.read_item_tokens(TOKENS), p)
    training = Finetuning(le, train, users, unseen, p, checkpoint, distributed)
    start = le.snapshot()
    before = quality(le, sequences, unseen, p)
    curve = training.run()
    after = quality(le, sequences, unseen, p)
    if worse_than_start(after, before):
        le.restore(start)
        after = before
    if distributed.is_main:
        le.save(OUT, {"le": after, "content_start": before})
        write_csv(CURVE, curve)
        checkpoint.remove()


if __name__ == "__main__":
    run(main)
