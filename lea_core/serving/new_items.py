"""New items: adds items without training events to a policy folder, through its trained text path.

In: a policy folder with item_path.safetensors, ids and text vectors of new items. Out: another policy folder, with the
new items at the end of its vocabulary. This module needs no language model: item_texts.py makes vectors from texts.

    item_path.safetensors   the path (text_projection.py), the statistics that turn an LLM's hidden states into vectors,
                            and as metadata the LLM, layer and text length

The other files are copied unchanged. Files of another runtime (policy.onnx) hold only the old items, so they are not
copied: export the new folder again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lea_core.common.artifacts import publish_folder, read_json, read_tensors, write_json, write_tensors
from lea_core.common.errors import LeaError, show_causes
from lea_core.common.sources import file_sha256
from lea_core.serving.folder import MANIFEST, MEND, PROVENANCE, Vocabulary, check_folder, seal, write_vocabulary
from lea_core.serving.ids import known_as, short, whole_ids
from lea_core.serving.text_projection import BOOST, Arrays, extend
from lea_core.serving.torch_policy import Policy

ITEM_PATH = "item_path.safetensors"
KEPT = (ITEM_PATH, "metrics.json")  # what new items do not change
SHAPES = {"embedding": 2, "actor": 2, "bias": 0, "explained": 1, "mean": 1, "map": 2}
READING = "reading"
READ_WITH = {"llm": str, "layer": int, "text_tokens": int, "text": str}  # in ItemPath.reading


@dataclass(frozen=True)
class ItemPath:
    """arrays: those of `fit_item_path`, and mean (H,) and map (H, C) from an LLM's hidden states to vectors.

    reading: what the vectors depend on, except the texts: llm (a hash), layer, text_tokens, text (the template).
    """

    arrays: Arrays
    reading: dict[str, Any]


def write_item_path(file: Path, arrays: Arrays, reading: Mapping[str, Any]) -> None:
    """Write `arrays`, the path's and `mean` and `map` of the statistics, with `reading` as metadata."""
    whole = {name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()}
    write_tensors(file, whole, {READING: json.dumps(dict(reading), sort_keys=True)})


def read_item_path(folder: Path) -> ItemPath:
    """Read the text path of a policy folder. Raises `LeaError` where it has none, or a broken one."""
    from safetensors import safe_open

    if ITEM_PATH not in check_folder(folder):
        raise LeaError(
            f"{folder}: has no {ITEM_PATH}: this policy's items did not start from texts, so it takes no new ones by "
            "theirs: export a variant with `items: le`, or train again once the items have interactions"
        )
    file = folder / ITEM_PATH
    arrays = read_tensors(file)
    with safe_open(file, framework="numpy") as opened:
        metadata = opened.metadata() or {}
    try:
        reading = json.loads(metadata[READING])
    except (KeyError, ValueError) as error:
        show_causes(error)
        reading = None
    axes = {name: array.ndim for name, array in arrays.items()}
    said = isinstance(reading, dict) and all(type(reading.get(name)) is kind for name, kind in READ_WITH.items())
    if not said or axes != SHAPES or arrays["embedding"].shape != arrays["actor"].shape:
        raise LeaError(f"{file}: holds no text path: {MEND}")
    if len(arrays["embedding"]) != arrays["map"].shape[1] + 1 or arrays["map"].shape[0] != len(arrays["mean"]):
        raise LeaError(f"{file}: its parts are of different widths: {MEND}")
    return ItemPath(arrays, reading)


def add_items(folder: Path, out: Path, ids: Sequence[str], vectors: np.ndarray, boost: float = BOOST) -> None:
    """Publish at `out` the policy of `folder` with items of these ids and vectors (N, C) added; they may be the same.

    A new item has train_count 0. `boost`: see text_projection.py. Raises `LeaError` where the policy has no text path,
    an id is known, empty or given twice, an item has no vector, or `out` is something else than a policy folder.
    """
    path = read_item_path(folder)
    policy = Policy.load(folder)
    ids = check_ids(ids, policy.item_ids)
    _check_vectors(ids, vectors)
    if out.exists() and not (out / MANIFEST).is_file():
        raise LeaError(f"{out}: is there and no policy folder: name a new one")
    network = extend(policy.network, path.arrays, vectors, boost)
    counts = np.concatenate([policy.counts, np.zeros(len(ids), dtype=np.int64)])
    listed = check_folder(folder)
    origin = read_json(folder / PROVENANCE) if PROVENANCE in listed else {}
    if not isinstance(added := origin.get("added_items", []), list):
        raise LeaError(f"{folder / PROVENANCE}: added_items is {short(added)}, not a list: {MEND}")
    note = {"items": len(ids), "boost": boost, "to_manifest": file_sha256(folder / MANIFEST)}
    with publish_folder(out) as temporary:
        network.save(temporary)
        write_vocabulary(temporary, Vocabulary([*policy.item_ids, *ids], counts))
        for name in KEPT:
            if name in listed:
                shutil.copyfile(folder / name, temporary / name)
        write_json(temporary / PROVENANCE, origin | {"added_items": [*added, note]})
        card = (folder / "README.md").read_text(encoding="utf-8") if "README.md" in listed else "# A policy\n"
        (temporary / "README.md").write_text(card.rstrip() + _sentence(len(ids), path, boost), encoding="utf-8")
        seal(temporary)


def check_ids(ids: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the ids as the vocabulary will have them. Raises `LeaError` where one is empty, known or given twice."""
    before = set(known)
    seen: set[str] = set()
    ids = whole_ids(ids, known)
    for place, name in enumerate(ids):
        if not name:
            raise LeaError(f"new item {place} has an empty id: give each an id")
        if (same := known_as(name, before)) is not None:
            raise LeaError(f"item {same!r} is known to the policy already: leave it out")
        if name in seen:
            raise LeaError(f"item {name!r} is given twice: leave one out")
        seen.add(name)
    return ids


def _check_vectors(ids: Sequence[str], vectors: np.ndarray) -> None:
    if not ids or len(ids) != len(vectors):
        raise LeaError(f"{len(ids)} item ids and {len(vectors)} vectors: give one of each for every new item")
    if empty := [name for name, vector in zip(ids, vectors, strict=True) if not vector.any()]:
        raise LeaError(f"item {empty[0]!r} has no text ({len(empty)} such): give every new item some, or leave it out")


def _sentence(count: int, path: ItemPath, boost: float) -> str:
    share = path.arrays["explained"][1]
    return (
        f"\n\n## Items added\n\n{count} items without interactions were added by their texts. On items left out of the "
        f"fit the texts explain {share:.0%} of the variance of the actor's rows. {boost:g} is added to the scores of "
        "the new items. The metrics above are of the policy before.\n"
    )
