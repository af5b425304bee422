"""A folder with a data set gone through preprocess and tokenize_items, and where a benchmark ran.

In: MovieLens, or a data set of settings/, which lies beside this checkout (../shared/data). Out: a folder of artifacts
under .work/, made once for the same parameters and code.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.support.jobs import DEFAULTS, ROOT, SETTINGS, WORK
from lea_core import params
from lea_core.common.artifacts import publish_file, read_json, write_json
from lea_core.common.code_hash import computed_by
from lea_core.common.cores import usable_cores
from lea_core.common.sources import file_sha256
from lea_core.data.sequences import Sequences, read_sequences
from lea_core.environment import model as environment
from lea_core.llm.language_model import choose_device_and_dtype
from lea_core.llm.pooled_tokens import ItemTokens
from lea_core.params import Params, assign, read_yaml
from lea_core.params.overlay import assigned, leaves

LLM = Path("data/llm")
DONE = "done.json"  # of a prepared folder: what it is made of
DEFAULT = "ml-100k"  # the data set of default.yaml; its file holds the settings of variants alone, if there is one
TABLES = ("interactions", "items")


def changes_of(name: str) -> dict[str, Any]:
    """Dotted changes of params.yaml in settings/<name>.yaml, but for its variants; ends where there is no such data."""
    path = SETTINGS / f"{name}.yaml"
    if not path.exists() and name != DEFAULT:
        raise SystemExit(f"{path}: not found: write {DEFAULT} or the name of a file there")
    raw = read_yaml(path) if path.exists() else {}
    raw.pop("variants", None)
    changes: dict[str, Any] = {"dataset": raw.pop("dataset")} if "dataset" in raw else {}
    for source in sources_of(changes):
        source["source"] = str((ROOT / source["source"]).resolve())  # there it is as seen from the repository's root
    return {**changes, **leaves(raw)}


def absent_source(name: str) -> str | None:
    """A file of the data set that is not on this machine, if there is one."""
    files = [source["source"] for source in sources_of(changes_of(name))]
    return next((file for file in files if not Path(file).exists()), None)


def sources_of(changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The user's own files that a `dataset` among the changes names."""
    return [changes["dataset"][table] for table in TABLES if table in changes.get("dataset", {})]


@dataclass(frozen=True)
class Prepared:
    """A data set in a folder of its own, and what the benchmarks read of it."""

    folder: Path
    params: Params
    sequences: Sequences
    tokens: ItemTokens


def prepare(
    name: str, changes: Mapping[str, object] | None = None, label: str = "", further: Sequence[str] = ()
) -> Prepared:
    """Run all stages up to tokenize_items and `further` ones on a data set, with `changes` of params.yaml.

    Ends without the data.
    """
    folder, whole = prepare_stages(
        name, ("fetch_data", "fetch_llm", "preprocess", "tokenize_items", *further), changes, label
    )
    return Prepared(
        folder,
        whole,
        read_sequences(folder / "data" / "interactions"),
        environment.read_item_tokens(folder / "data" / "item_tokens" / "items.parquet"),
    )


def prepare_stages(
    name: str, stages: Sequence[str], changes: Mapping[str, object] | None = None, label: str = ""
) -> tuple[Path, Params]:
    """Run these stages on a data set, once for the same params.yaml, files and code; the folder and its parameters.

    Processes side by side take turns.
    """
    changes = {**changes_of(name), **(changes or {})}
    if absent := absent_source(name):
        raise SystemExit(f"skipped: {absent} is not there")
    folder = WORK / (name + label)
    folder.mkdir(parents=True, exist_ok=True)
    done, path = folder / DONE, folder / "params.yaml"
    text = assigned(DEFAULTS.read_text(encoding="utf-8"), changes)
    sources = [file_sha256(Path(source["source"])) for source in sources_of(changes)]
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the file, or with this process
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            with publish_file(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        code = computed_by(*(f"stages.{stage}" for stage in stages))
        own = {"params": file_sha256(path), "sources": sources, **code}
        if not done.exists() or read_json(done) != own:
            done.unlink(missing_ok=True)
            shutil.rmtree(folder / "data", ignore_errors=True)
            for stage in stages:
                run_stage(folder, stage)
            write_json(done, own)
        return folder, params.load(path)


def run_stage(folder: Path, stage: str) -> None:
    """Run one stage in `folder`; ends where it fails."""
    if subprocess.run([sys.executable, "-m", f"stages.{stage}"], cwd=folder, env=stage_environment()).returncode:
        raise SystemExit(f"{folder}: stage {stage} failed")


def stage_environment() -> dict[str, str]:
    """For a process that runs stages elsewhere: this code, and the checkout's cache of fetched files."""
    cache = os.environ.get("LEA_CACHE", str(ROOT / ".dvc" / "tmp" / "lea"))
    return {**os.environ, "PYTHONPATH": str(ROOT), "LEA_CACHE": cache}


def changed(whole: Params, changes: Mapping[str, object]) -> Params:
    """The same parameters with dotted keys set."""
    raw = whole.model_dump()
    for key, value in changes.items():
        assign(raw, key, value)
    return Params.model_validate(raw)


def where() -> dict[str, Any]:
    """Commit, hardware and versions, to stand beside results."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True, capture_output=True).stdout.strip()
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "commit": commit,
        "processor": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": usable_cores(),
        "gpu": gpu,
        "torch": torch.__version__,
        "number_format": number_format(),
    }


def number_format() -> str:
    """In which a language model runs here."""
    return str(choose_device_and_dtype()[1]).removeprefix("torch.")


def datasets(names: Iterable[str]) -> Iterator[str]:
    """Those whose files are on this machine; a line for each other one."""
    for name in names:
        if absent := absent_source(name):
            print(f"{name} skipped: {absent} is not there", flush=True)
        else:
            yield name
