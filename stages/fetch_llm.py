"""fetch_llm: params `llm` -> data/llm/, the language model in the form in which it is loaded.

The file is kept in a cache (`$LEA_CACHE`, or .dvc/tmp/lea) and fetched once. Alone: `python -m stages.fetch_llm`.
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.entrypoint import no_arguments, run
from lea_core.common.sources import cache_folder
from lea_core.params import load


def main(argv: list[str]) -> None:
    """Fetch the language model."""
    from lea_core.llm import language_model

    no_arguments(argv)
    params = load()
    language_model.fetch(params.llm.source, params.llm.sha256, cache_folder(), Path("data/llm"))


if __name__ == "__main__":
    run(main)
