"""Runs a peer: its environment, made once, and its script on our sequences.

In: a data set's log, settings. Out: what the peer's script writes, as a dict. The environments stand in
benchmarks/.work/env-PEER and are made again when their requirements file changes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.support.jobs import ROOT, WORK

HERE = Path(__file__).parent
PEERS = ("recbole", "rectools")


def environment(peer: str, work: Path = WORK) -> Path:
    """The Python of a peer's environment, installed where it is not yet; ends where pip fails."""
    folder, requirements = work / f"env-{peer}", HERE / f"requirements-{peer}.txt"
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    wanted = f"# Python {sys.version.partition(' ')[0]}\n{requirements.read_text()}"
    if installed.exists() and installed.read_text() == wanted:
        return python
    print(f"Installing {peer} into {folder} ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    quiet = ["-qq", "--disable-pip-version-check"]
    if subprocess.run([python, "-m", "pip", "install", *quiet, "-r", requirements]).returncode:
        raise SystemExit(f"{peer}: pip could not install {requirements.name} (RecBole needs Python 3.11)")
    installed.write_text(wanted)
    return python


def run_peer(peer: str, log: Path, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train a peer on the data/interactions `log` in `folder`; its result, see harness.py. Ends where that fails.

    settings: model (SASRec; with recbole GRU4Rec too), width, layers, heads, dropout, learning_rate, weight_decay,
    batch (recbole: samples; rectools: sessions), history, epochs, patience, seed, mask_seen; threads, 1 if left out;
    sessions, rectools alone: windows (every training event is a target) or last (what RecTools does by itself).
    """
    python = environment(peer)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)
    settings = {"threads": 1, **settings, "log": str(log.absolute())}
    (folder / "settings.json").write_text(json.dumps(settings, indent=1))
    threads = {name: str(settings["threads"]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [python, "-m", f"benchmarks.peers.{peer}_run", folder]
    if subprocess.run(command, cwd=folder, env={**os.environ, **threads, "PYTHONPATH": str(ROOT)}).returncode:
        raise SystemExit(f"{folder}: {peer}_run.py failed")
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result
