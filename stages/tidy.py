"""tidy <folder>: what is left in data/<folder>/ of variants that params.yaml no longer has is removed.

DVC leaves it there, and a stage that depends on the whole folder would run again for it. DVC's cache keeps it, and a
variant that comes back is taken from there. Out: data/tidied/<folder>.json, the variants that stay. Alone:
`python -m stages.tidy policies`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lea_core.common.artifacts import write_json
from lea_core.common.entrypoint import run
from lea_core.common.errors import LeaError
from lea_core.params import load

DATA = Path("data")
KINDS = ("policies", "evaluations", "signals")


def main(argv: list[str]) -> None:
    """Remove what no variant makes in the folder named in `argv`."""
    params = load()
    if len(argv) != 1 or argv[0] not in KINDS:
        raise LeaError(f"usage: python -m stages.tidy FOLDER, one of {', '.join(KINDS)}")
    for path in sorted((DATA / argv[0]).iterdir()):
        if path.stem not in params.variants:
            print(f"{path}: of no variant in params.yaml, removed; DVC's cache has it")
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_json(DATA / "tidied" / f"{argv[0]}.json", {"variants": list(params.variants)})


if __name__ == "__main__":
    run(main)
