"""signals <variant>: the stamps of the tables that it names -> data/signals/<variant>.json (stamps.py).

The report depends on it: so on what is measured of the LE where a variant uses the LE, and else on nothing of it.
Alone: `python -m stages.signals snqn`.
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.artifacts import write_json
from lea_core.common.entrypoint import run
from lea_core.common.errors import LeaError
from lea_core.common.stamps import of_variant
from lea_core.params import load

DATA = Path("data")


def main(argv: list[str]) -> None:
    """Join the stamps of the variant named in `argv`."""
    params = load()
    if len(argv) != 1:
        raise LeaError(f"usage: python -m stages.signals VARIANT, one of {', '.join(params.variants)}")
    write_json(DATA / "signals" / f"{argv[0]}.json", of_variant(DATA, params.variant(argv[0]).model_dump()))


if __name__ == "__main__":
    run(main)
