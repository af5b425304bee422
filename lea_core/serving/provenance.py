"""Where a policy comes from: data, parameters, commit, versions.

In: params.yaml, the policy's training.json, data/interactions, git. Out: provenance.json of the policy folder.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lea_core.common.sources import file_sha256
from lea_core.params import Params

PACKAGES = ("lea-recommender", "torch", "numpy", "pyarrow", "safetensors", "transformers", "peft", "dvc")


def provenance(
    params: Params, variant: str, seed: int, training: Mapping[str, Any], interactions: Path
) -> dict[str, Any]:
    """What the policy of this variant and seed was made of, all of it hashable and none of it a secret.

    training: the settings that the policy was trained with, from its training.json. data: SHA-256 of the preprocessed
    tables. commit: None outside of git; changed: whether files that git tracks differed from it.
    """
    used = {
        "dataset": params.dataset.model_dump(),
        "preprocess": params.preprocess.model_dump(),
        "training": training,
        "llm": params.llm.model_dump() if params.variant(variant).uses_le else None,
        "mask_seen": params.evaluate.mask_seen,
    }
    commit = _git("rev-parse", "HEAD")
    return {
        "variant": variant,
        "seed": seed,
        "params": used,
        "params_sha256": hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest(),
        "data": {name: file_sha256(interactions / name) for name in ("interactions.parquet", "items.parquet")},
        "commit": commit,
        "changed": None if commit is None else bool(_git("status", "--porcelain", "--untracked-files=no")),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def _git(*arguments: str) -> str | None:
    """What git says, None where it cannot."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)  # noqa: S603, S607
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
