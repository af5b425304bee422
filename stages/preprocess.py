"""preprocess: data/raw/ -> data/interactions/ (interactions, items, users, quality.json).

It also writes the empty data/{states,rewards,actions,rankings,items}/none.parquet that variants without the LE read,
and their stamps.
Alone: `python -m stages.preprocess`.
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common import tables
from lea_core.common.artifacts import publish_folder, write_json
from lea_core.common.entrypoint import no_arguments, run
from lea_core.common.layout import FOLDERS, SCHEMAS, table_path
from lea_core.common.stamps import write_stamp
from lea_core.data import datasets
from lea_core.data.datasets.tables import read
from lea_core.data.leaks import check_no_leak
from lea_core.data.preprocess import prepare
from lea_core.data.sequences import read_sequences
from lea_core.data.statistics import summary
from lea_core.params import load


def main(argv: list[str]) -> None:
    """Filter, split and index the raw data, check for leaks, and print a summary."""
    no_arguments(argv)
    params = load()
    data = Path("data")
    with_split = params.preprocess.split.method == "column"
    prepared = prepare(read(data / "raw", datasets.as_tables(params.dataset), with_split), params.preprocess)
    with publish_folder(data / "interactions") as folder:
        tables.write_table(folder / "interactions.parquet", prepared.interactions, tables.INTERACTIONS)
        tables.write_table(folder / "items.parquet", prepared.items, tables.ITEMS)
        tables.write_table(folder / "users.parquet", prepared.users, tables.USERS)
        write_json(folder / "quality.json", prepared.quality)
        check_no_leak(read_sequences(folder), tables.to_numpy(prepared.items, "train_count"))
    for part, schema in SCHEMAS.items():
        tables.write_table(table_path(data, part, "none"), tables.empty(schema), schema)
        write_stamp(data, FOLDERS[part], "none")
    print(summary(prepared.quality))


if __name__ == "__main__":
    run(main)
