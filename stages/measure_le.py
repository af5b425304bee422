"""LE + its states -> data/le_quality: the quality of the LE in each of its roles, beside cheap replacements.

In: data/interactions, data/llm, data/item_tokens, data/le, data/states/le.parquet. Out: data/le_quality (quality.json,
summary.json, tables for plots, le.png) and data/le_metrics.json. Nothing else depends on it.
Run alone: python -m stages.measure_le
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.entrypoint import no_arguments, run

INTERACTIONS, LLM, TOKENS, LE = (
    Path(f"data/{name}") for name in ("interactions", "llm", "item_tokens/items.parquet", "le")
)
STATES, OUT, METRICS = Path("data/states/le.parquet"), Path("data/le_quality"), Path("data/le_metrics.json")


def main(argv: list[str]) -> None:
    """Measure the LE; takes no arguments."""
    import numpy as np

    from lea_core import params
    from lea_core.common import tables
    from lea_core.common.artifacts import publish_folder, read_json, write_csv, write_json
    from lea_core.data.leaks import training_events
    from lea_core.data.sequences import read_sequences
    from lea_core.environment import model as environment
    from lea_core.environment.user_split import choose_users
    from lea_core.evaluation.environment import plots, yardsticks
    from lea_core.llm import language_model

    no_arguments(argv)
    wanted = params.load()
    p = wanted.finetune_le
    sequences, tokens = read_sequences(INTERACTIONS), environment.read_item_tokens(TOKENS)
    train = training_events(sequences)
    users, unseen = choose_users(train, p.users_share, np.random.default_rng(p.seed))
    le = environment.load(LE, language_model.load(LLM, wanted.llm.layers), tokens)
    cheap = yardsticks.scorers(train, users, tokens)
    texts = tables.read_table(INTERACTIONS / "items.parquet", tables.ITEMS)["text"].to_pylist()
    ablated = yardsticks.ablations(
        wanted.measure_le.twins,
        lambda layers: language_model.load(LLM, layers, random_seed=p.seed),
        texts,
        tokens,
        sequences,
        users,
        unseen,
        wanted,
    )
    others = yardsticks.states(sequences, unseen, cheap, p.history)
    found = yardsticks.assemble(read_json(LE / "quality.json"), ablated, others)
    fair = {name: scorer for name, scorer in cheap.items() if name != "item_neighbours"}  # it saw the later events
    le_states = tables.to_numpy(tables.read_table(STATES, tables.STATES), "state")
    found["actions"] = (
        yardsticks.actions(le, train, unseen, le_states, fair, tokens.content, wanted.preprocess.repeats)
        if len(unseen)
        else {}
    )
    with publish_folder(OUT) as folder:
        write_json(folder / "quality.json", found)
        write_json(folder / "summary.json", yardsticks.summary(found))
        test = found.get("test", {"state": {}, "reliability": []})
        rows = [{"method": name, **value} for name, value in test["state"].items()]
        write_csv(folder / "state.csv", rows, ["method", "ndcg10", "hr10"])
        write_csv(folder / "reliability.csv", test["reliability"], ["predicted", "observed", "count"])
        rows = [{"source": name, "share5": value.get("share5")} for name, value in found["actions"].items()]
        write_csv(folder / "actions.csv", rows, ["source", "share5"])
        if len(unseen):
            ranked = {name: value for name, value in test["state"].items() if "_unmasked" not in name}
            plots.draw({**test, "state": ranked, "actions": found["actions"]}, folder / "le.png")
    write_json(METRICS, yardsticks.headline(found))


if __name__ == "__main__":
    run(main)
