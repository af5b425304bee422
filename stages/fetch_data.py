"""fetch_data: params `dataset` -> data/raw/.

What comes from elsewhere is kept in a cache (`$LEA_CACHE`, or .dvc/tmp/lea) and fetched once: another
`dataset.text` copies the files again and downloads nothing that a hash pins. Alone: `python -m stages.fetch_data`.
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.entrypoint import no_arguments, run
from lea_core.common.sources import cache_folder
from lea_core.data import datasets
from lea_core.params import load


def main(argv: list[str]) -> None:
    """Fetch the data set."""
    no_arguments(argv)
    params = load()
    datasets.fetch(params.dataset, cache_folder(), Path("data/raw"))


if __name__ == "__main__":
    run(main)
