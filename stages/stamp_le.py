"""What is measured of the LE -> data/stamps/{states,rewards,actions,rankings}/le.json: hashes of it (stamps.py).

In: data/le_quality, data/le_curve.csv, the LE's rewards and actions, data/baselines/le, data/stamps/items/le.json. Run
alone: python -m stages.stamp_le
"""

from __future__ import annotations

from pathlib import Path

from lea_core.common.entrypoint import no_arguments, run
from lea_core.common.layout import FOLDERS
from lea_core.common.stamps import stamp_path, write_stamp

DATA = Path("data")


def main(argv: list[str]) -> None:
    """Write the stamps of the LE's own signals; takes no arguments."""
    no_arguments(argv)
    tables = [DATA / folder / "le.parquet" for folder in ("rewards", "actions")]
    measured = [DATA / name for name in ("le_quality", "le_curve.csv", "baselines/le")]
    for folder in FOLDERS.values():
        if folder != "items":
            write_stamp(DATA, folder, "le", [*tables, *measured, stamp_path(DATA, "items", "le")])


if __name__ == "__main__":
    run(main)
