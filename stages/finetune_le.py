"""Training events of a subset of users + item tokens + LLM -> data/le, the fine-tuned LE.

In: data/interactions, data/llm, data/item_tokens. Out: data/le, data/le_curve.csv (learning curve) and
data/le_metrics.json (the LE on users it never saw, beside the content similarity).
Run alone: python -m stages.finetune_le
"""

from __future__ import annotations

from pathlib import Path

from lea_core.errors import no_arguments, run

INTERACTIONS, LLM, TOKENS = (Path(f"data/{name}") for name in ("interactions", "llm", "item_tokens"))
OUT, CURVE, METRICS = Path("data/le"), Path("data/le_curve.csv"), Path("data/le_metrics.json")


def main(argv: list[str]) -> None:
    """Fine-tune the LE and measure it; takes no arguments."""
    import numpy as np
    import torch

    from lea_core import environment, llm, params
    from lea_core.artifacts import write_csv, write_json
    from lea_core.finetune import choose_users, finetune
    from lea_core.le_quality import headline, quality, worse_than_start
    from lea_core.leaks import training_events
    from lea_core.sequences import read_sequences

    no_arguments(argv)
    wanted = params.load()
    p, mask_seen = wanted.finetune_le, not wanted.preprocess.repeats
    sequences = read_sequences(INTERACTIONS)
    train = training_events(sequences)
    users, unseen = choose_users(train, p.users_share, np.random.default_rng(p.seed))
    model = llm.load(LLM, wanted.llm.layers)
    shape = environment.Shape(
        layers=model.num_layers,
        history=p.history,
        recent_items=p.recent_items,
        recent_decay=p.recent_decay,
        temperature=p.temperature,
        lora_rank=p.lora.rank,
        lora_alpha=p.lora.alpha,
        lora_targets=p.lora.targets,
    )
    torch.manual_seed(p.seed)  # for LoRA's first factor; everything else draws from generators of its own
    le = environment.Environment(model, environment.read_item_tokens(TOKENS), shape)
    start = le.snapshot()
    curve = finetune(le, train, users, unseen, mask_seen, p)
    measured = quality(le, sequences, unseen, mask_seen, p)
    if worse_than_start(measured):
        le.restore(start)
        measured = quality(le, sequences, unseen, mask_seen, p)
    le.save(OUT, measured)
    write_csv(CURVE, curve)
    write_json(METRICS, headline(measured))


if __name__ == "__main__":
    run(main)
