"""Item texts -> vectors, as `tokenize_items` made them for training: the input of the trained text path.

In: texts, the LLM of training, and item_path.safetensors of a policy folder, or, when a policy is exported, the
artifacts of tokenize_items. Out: vectors (N, C), or item_path.safetensors. The only part of serving that needs an LLM
and the packages of the pipeline.

The vectors are of one LLM, layer and text length. Another LLM may give vectors of the same width, but with another
meaning, so it is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lea_core.common.errors import LeaError, warn
from lea_core.common.tables import ITEM_VECTORS, read_table, to_numpy
from lea_core.models.policy_network import PolicyNetwork
from lea_core.serving.ids import id_column
from lea_core.serving.new_items import ItemPath, write_item_path
from lea_core.serving.text_projection import FEWEST, fit_item_path, usable

if TYPE_CHECKING:
    from lea_core.params import Params

NEW_ITEM: dict[str, str] = {"item_id": "string", "text": "string"}
READERS = (".parquet", ".csv", ".jsonl")


def reading(params: Params, llm: Path) -> dict[str, Any]:
    """What item vectors depend on, except the texts."""
    from lea_core.llm.language_model import folder_hash

    return {
        "llm": folder_hash(llm),
        "layer": params.tokenize_items.layer,
        "text_tokens": params.tokenize_items.text_tokens,
        "text": params.dataset.text,
    }


def export_item_path(file: Path, network: PolicyNetwork, counts: np.ndarray, data: Path, params: Params) -> None:
    """Fit the text path of a policy whose items started from the LLM's vectors, and write it to `file`.

    counts: (I,) training events.  data: the folder with items/, item_tokens/ and llm/. With too few items for a fit it
    warns and writes nothing. Raises `LeaError` as `fit_item_path` does, and where an artifact is absent.
    """
    from lea_core.common.artifacts import read_tensors

    vectors = to_numpy(read_table(data / "items" / "le.parquet", ITEM_VECTORS), "vector")
    statistics = read_tensors(data / "item_tokens" / "statistics.safetensors")
    if (fitting := usable(vectors, counts).sum()) < FEWEST:
        warn(f"{fitting} items have text and training events, {FEWEST} make a text path: the policy takes no new items")
        return
    arrays = fit_item_path(network, vectors, counts)
    write_item_path(file, arrays | {name: statistics[name] for name in ("mean", "map")}, reading(params, data / "llm"))


def vectors_of(texts: list[str], path: ItemPath, folder: Path) -> np.ndarray:
    """The vectors (N, C) of texts, read as training read its items'; a row of zeros where a text has no token.

    folder: the LLM's, such as data/llm. Raises `LeaError` where it is another LLM than that of training.
    """
    from lea_core.llm import language_model as llm
    from lea_core.llm.pooled_tokens import Statistics, pooled_tokens

    if llm.folder_hash(folder) != path.reading["llm"]:
        raise LeaError(
            f"{folder}: another LLM than the one whose vectors the policy was trained from: name that one's folder"
        )
    mean, directions = path.arrays["mean"], path.arrays["map"].astype(np.float64)
    statistics = Statistics(mean, np.ones_like(mean), directions, np.zeros_like(mean))
    model = llm.load(folder, path.reading["layer"])
    return pooled_tokens(model, texts, path.reading["text_tokens"], directions.shape[1], statistics).tokens.content


def read_new_items(file: Path) -> tuple[list[str], list[str]]:
    """Ids and texts of a Parquet, CSV or JSON-lines file with the columns item_id and text.

    Raises `LeaError` where the file is none of these, or a column is missing, has an empty cell or what is no id.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv, json, parquet

    if file.suffix not in READERS:
        raise LeaError(f"{file}: give a file that ends in {', '.join(READERS)}")
    try:
        if file.suffix == ".parquet":
            table = parquet.read_table(file)
        elif file.suffix == ".csv":
            options = csv.ConvertOptions(column_types=NEW_ITEM, strings_can_be_null=False)
            table = csv.read_csv(file, convert_options=options)
        else:
            table = json.read_json(file)
    except FileNotFoundError:
        raise LeaError(f"{file}: not found") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise LeaError(f"{file}: cannot be read ({str(error).splitlines()[0]}): mend the file") from None
    columns = []
    for name in NEW_ITEM:
        if name not in table.column_names:
            raise LeaError(f"{file}: column {name!r} is missing: give the columns item_id and text")
        row = int(pc.index(pc.is_null(table[name], nan_is_null=True), True).as_py())
        try:
            cells = id_column(table[name], name) if row < 0 else []
        except LeaError as error:
            raise LeaError(f"{file}: {error}") from None
        if bad := [place for place, cell in enumerate(cells) if not cell.strip()] or [row] * (row >= 0):
            raise LeaError(f"{file}: row {bad[0]}: column {name!r} is empty: give every new item an id and a text")
        columns.append(cells)
    return columns[0], columns[1]
