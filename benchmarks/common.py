"""What the benchmarks share: a folder with a data set gone through preprocess and tokenize_items, and where they ran.

In: the data sets beside this checkout (../shared/data) or MovieLens. Out: a folder of artifacts under .work/, made once
for the same parameters.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lea_core import environment, params
from lea_core.item_tokens import ItemTokens
from lea_core.params import Params
from lea_core.sequences import Sequences, read_sequences
from tests.lane import change_params

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"
WORK = ROOT / "benchmarks" / ".work"
LLM = Path("data/llm")
TABLES = {"timestamp": "timestamp", "order": "pos", "event": None, "rating": None, "split": "split"}
CHANGES: dict[str, dict[str, Any]] = {
    "ml-100k": {},
    "scientific": {
        "dataset": {
            "name": "tables",
            "interactions": {"source": str(SHARED / "scientific" / "interactions.parquet"), "sha256": None},
            "items": {"source": str(SHARED / "scientific" / "items.parquet"), "sha256": None},
            "columns": {"user": "user_id", "item": "item_id", **TABLES},
            "text": "{title}. {brand}. {categories}",
        },
        "preprocess.min_rating": None,
        "preprocess.k_core": 0,
        "preprocess.repeats": True,
        "preprocess.split.method": "column",
    },
}


@dataclass(frozen=True)
class Prepared:
    """A data set in a folder of its own, and what the benchmarks read of it."""

    folder: Path
    params: Params
    sequences: Sequences
    tokens: ItemTokens


def prepare(name: str, changes: Mapping[str, object] | None = None, label: str = "") -> Prepared:
    """Run fetch, preprocess and tokenize_items on a data set, with `changes` of params.yaml; ends without the data."""
    if name != "ml-100k" and not (SHARED / name).is_dir():
        raise SystemExit(f"skipped: {SHARED / name} is not there")
    folder = WORK / (name + label)
    folder.mkdir(parents=True, exist_ok=True)
    former = (folder / "params.yaml").read_text() if (folder / "done").exists() else ""
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    change_params(folder, {**CHANGES[name], **(changes or {})})
    if (folder / "params.yaml").read_text() != former:
        (folder / "done").unlink(missing_ok=True)
        for stage in ("fetch", "preprocess", "tokenize_items"):
            run_stage(folder, stage)
        (folder / "done").touch()
    return Prepared(
        folder,
        params.load(folder / "params.yaml"),
        read_sequences(folder / "data" / "interactions"),
        environment.read_item_tokens(folder / "data" / "item_tokens" / "items.parquet"),
    )


def run_stage(folder: Path, stage: str) -> None:
    """Run one stage in `folder`; ends where it fails."""
    cache = os.environ.get("LEA_CACHE", str(ROOT / ".dvc" / "tmp" / "lea"))
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "LEA_CACHE": cache}
    if subprocess.run([sys.executable, "-m", f"stages.{stage}"], cwd=folder, env=settings).returncode:
        raise SystemExit(f"{folder}: stage {stage} failed")


def changed(whole: Params, changes: Mapping[str, object]) -> Params:
    """The same parameters with dotted keys set."""
    raw = whole.model_dump()
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = raw
        for name in sections:
            section = section[name]
        section[last] = value
    return Params.model_validate(raw)


def where() -> dict[str, Any]:
    """Commit, hardware and versions, to stand beside results."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True, capture_output=True).stdout.strip()
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "commit": commit,
        "processor": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "torch": torch.__version__,
    }
