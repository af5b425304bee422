"""The best policy on validation, or the one that params.yaml names -> data/policy/.

A folder for serving: weights, vocabulary, metrics, provenance, model card, and the hashes of all of them
(lea_core/serving/folder.py); if its items started from their texts, also the text projection for new items. Alone:
`python -m stages.export`.
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.artifacts import publish_folder, read_json, write_json
from lea_core.common.entrypoint import no_arguments, run
from lea_core.common.tables import ITEMS, read_table, to_numpy
from lea_core.params import load

DATA, OUT = Path("data"), Path("data/policy")


def main(argv: list[str]) -> None:
    """Choose and publish; takes no arguments."""
    import numpy as np

    from lea_core.data.sequences import read_sequences
    from lea_core.models.policy_network import load_network
    from lea_core.serving.folder import Vocabulary, seal, write_vocabulary
    from lea_core.serving.item_texts import export_item_path
    from lea_core.serving.model_card import model_card
    from lea_core.serving.new_items import ITEM_PATH
    from lea_core.serving.provenance import provenance
    from lea_core.serving.selection import choose, read_metrics, shipped_metrics

    no_arguments(argv)
    params = load()
    found = read_metrics(DATA / "evaluations", params)
    variant, seed = choose(params, found)
    trained = DATA / "policies" / variant
    network = load_network(trained / f"seed-{seed}")
    items = read_table(DATA / "interactions" / "items.parquet", ITEMS)
    metrics = shipped_metrics(params, found[variant], variant, seed)
    training = read_json(trained / "training.json")["params"]
    made_of = provenance(params, variant, seed, training, DATA / "interactions")
    sequences = read_sequences(DATA / "interactions")
    size = {
        "users": sequences.num_users,
        "events": len(sequences.items),
        "weights": sum(tensor.numel() for tensor in network.state_dict().values()),
    }
    with publish_folder(OUT) as folder:
        network.save(folder)
        counts = to_numpy(items, "train_count").astype(np.int64)
        write_vocabulary(folder, Vocabulary(items["item_id"].to_pylist(), counts))
        if params.variant(variant).items == "le":
            export_item_path(folder / ITEM_PATH, network, counts, DATA, params)
        write_json(folder / "metrics.json", metrics)
        write_json(folder / "provenance.json", made_of)
        takes_new = (folder / ITEM_PATH).exists()
        card = model_card(network.config, metrics, made_of, size, str(OUT), takes_new)
        (folder / "README.md").write_text(card, encoding="utf-8")
        seal(folder)


if __name__ == "__main__":
    run(main)
