"""What the LE is worth on Amazon Scientific, beside its yardsticks, and how fast it is tuned: `make bench-le`.

In: ../shared/data/scientific. Out: benchmarks/results/le.json: flat keys, means over seeds on the test events of users
outside the LE's subset (30 %), leave-one-out, all items ranked; the same by seed; commit, hardware and time.

  state_hr10_all_users   of an LE that learns from 95 % of the users (the rest select its epoch), on test events of all
  action_share5          on training events of users outside the subset; later includes the next event
  finetune_speedup       steps per second, packed, over those of one prompt per state and per action, same batches
  curve_*                the LE against the share of users that it learns from
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import numpy as np

from benchmarks.environment.prompts import speed_up
from benchmarks.support.jobs import RESULTS, WORK
from benchmarks.support.prepared import DONE, LLM, Prepared, changed, prepare, where
from lea_core.annotation.forward_pass import run_all
from lea_core.common.artifacts import read_json, write_json
from lea_core.common.code_hash import computed_by
from lea_core.common.processes import side_by_side
from lea_core.common.tables import ITEMS, read_table
from lea_core.environment import model as environment
from lea_core.environment.finetune import Finetuning
from lea_core.environment.model import Environment
from lea_core.environment.quality import KINDS, quality
from lea_core.environment.user_split import choose_users
from lea_core.evaluation.environment import yardsticks
from lea_core.llm import language_model
from lea_core.params import Params

SEEDS = (0, 1, 2)
SHARES = (0.05, 0.1, 0.95)
SPEED_BATCHES = 12


def tune(
    prepared: Prepared, wanted: Params, start_too: bool = False
) -> tuple[Environment, np.ndarray, np.ndarray, dict[str, Any]]:
    """A fine-tuned LE, its subset, the other users, and what it is worth on these; on demand before training too."""
    p, sequences = wanted.finetune_le, prepared.sequences
    users, unseen = choose_users(sequences.train(), p.users_share, np.random.default_rng(p.seed))
    le = environment.new(language_model.load(prepared.folder / LLM, wanted.llm.layers), prepared.tokens, p)
    training = Finetuning(le, sequences.train(), users, unseen, p)
    start = {"content_start": quality(le, sequences, unseen, p)} if start_too else {}
    training.run()
    return le, users, unseen, {"le": quality(le, sequences, unseen, p), **start}


def measure(prepared: Prepared, seed: int) -> dict[str, float]:
    """All yardsticks of one seed, flat."""
    wanted = changed(prepared.params, {"finetune_le.seed": seed})
    sequences, train, history = prepared.sequences, prepared.sequences.train(), wanted.finetune_le.history
    le, users, unseen, own = tune(prepared, wanted, start_too=True)
    cheap = yardsticks.scorers(train, users, prepared.tokens)
    texts = read_table(prepared.folder / "data" / "interactions" / "items.parquet", ITEMS)["text"].to_pylist()
    twins = yardsticks.ablations(
        ("small_transformer", "random_llm"),
        lambda layers: language_model.load(prepared.folder / LLM, layers, random_seed=seed),
        texts,
        prepared.tokens,
        sequences,
        users,
        unseen,
        wanted,
    )
    found = yardsticks.assemble(own, twins, yardsticks.states(sequences, unseen, cheap, history))
    le.optimize_for_inference()
    states = run_all(le, train, np.zeros((len(train.items), 1), np.int64), wanted.annotate.batch_tokens).states
    fair = {name: scorer for name, scorer in cheap.items() if name != "item_neighbours"}
    repeats = wanted.preprocess.repeats
    actions = yardsticks.actions(le, train, unseen, states, fair, prepared.tokens.content, repeats)
    return flat(found["test"], actions)


def flat(test: dict[str, Any], actions: dict[str, dict[str, float]]) -> dict[str, float]:
    """The nested findings under one name each; the LE's own bear the name of the role alone."""
    names = {"le": "state", "text_whitened": "text_knn", "text_raw": "text_knn_raw"}
    result = {}
    for method, values in test["state"].items():
        base = method.removesuffix("_unmasked")
        name = names.get(base, base) + method.removeprefix(base)
        result |= {f"{name}_ndcg10": values["ndcg10"], f"{name}_hr10": values["hr10"]}
    for source, values in test["reward"].items():
        prefix = "reward" if source == "le" else f"{source}_reward"
        result |= {f"{prefix}_{key}": value for key, value in values.items()}
    result["reward_calibration_error"] = test["calibration_error"]
    for source, values in actions.items():
        ending = "" if source == "le" else f"_{names.get(source, source)}"
        result |= {f"action_{key}{ending}": value for key, value in values.items()}
    return result


def against_share(prepared: Prepared, share: float) -> dict[str, float]:
    """An LE that learns from so many users, on the others; from nearly all, on all users too."""
    wanted = changed(prepared.params, {"finetune_le.users_share": share})
    le, _, _, own = tune(prepared, wanted)
    test = own["le"]["test"]
    label = f"curve_{round(100 * share)}_percent"
    result = {f"{label}_ndcg10": test["ndcg10"], f"{label}_hr10": test["hr10"]}
    result |= {f"{label}_reward_auc_{kind}": test[f"reward_auc_{kind}"] for kind in KINDS}
    if share == max(SHARES):
        everyone = np.arange(prepared.sequences.num_users)
        everywhere = quality(le, prepared.sequences, everyone, wanted.finetune_le)["test"]
        result |= {"state_ndcg10_all_users": everywhere["ndcg10"], "state_hr10_all_users": everywhere["hr10"]}
    return result


def piece(name: str) -> dict[str, float]:
    """One independent part of the benchmark: `seed 0`, `share 0.05` or `speed`.

    What is done is not done again with the same data, parameters, code and device.
    """
    prepared = prepare("scientific")
    device = [str(one) for one in language_model.choose_device_and_dtype()]
    made_of = [read_json(prepared.folder / DONE), computed_by("benchmarks.environment.quality"), device]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
    file = WORK / f"le-{digest[:12]}-{name.replace(' ', '-')}.json"
    if file.exists():
        return read_json(file)
    kind, _, value = name.partition(" ")
    if kind == "seed":
        found = measure(prepared, int(value))
    elif kind == "share":
        found = against_share(prepared, float(value))
    else:
        speed = speed_up(prepared.folder / LLM, prepared.sequences, prepared.tokens, prepared.params, SPEED_BATCHES)
        found = {f"finetune_{key}": number for key, number in speed.items()}
    write_json(file, found)
    return found


def main() -> None:
    """Measure and write the result; the speed alone, the rest side by side."""
    started = time.time()
    prepare("scientific")
    seeds = [f"seed {seed}" for seed in SEEDS]
    found = side_by_side(piece, [*seeds, *(f"share {share}" for share in SHARES)])
    by_seed = found[: len(seeds)]
    flat_numbers = {name: float(np.mean([numbers[name] for numbers in by_seed])) for name in by_seed[0]}
    flat_numbers |= {f"{name}_sd": float(np.std([one[name] for one in by_seed], ddof=1)) for name in by_seed[0]}
    for numbers in [*found[len(seeds) :], piece("speed")]:
        flat_numbers |= numbers
    minutes = round((time.time() - started) / 60, 1)
    record = {"seeds": list(SEEDS), "by_seed": by_seed, "minutes": minutes, "command": "make bench-le", **where()}
    write_json(RESULTS / "le.json", {**flat_numbers, **record})


if __name__ == "__main__":
    main()
