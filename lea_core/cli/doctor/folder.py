"""The checks of `lea doctor` on the working folder: git, params.yaml, DVC, raw data, weights and the policy.

In: params.yaml, dvc.lock, data/, a policy's folder. Out: findings. Nothing is written.

Data and weights are compared byte by byte with the hashes in dvc.lock. DVC's own status trusts the time and size of a
file that it has hashed before.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

from lea_core.cli.doctor.finding import REPRO, TRAIN, Found, output
from lea_core.cli.doctor.machine import installed
from lea_core.common.artifacts import read_json
from lea_core.common.progress import amount

PARAMS, LOCK, MODEL = Path("params.yaml"), Path("dvc.lock"), Path("data/llm/llm.json")
FETCHING, GOALS = ("fetch_data", "fetch_llm"), ("report", "export")  # stages; what `make run` makes


def git() -> Found:
    """The commit, and whether tracked files have changed since."""
    if shutil.which("git") is None:
        yield "warning", "git is not installed: experiments and provenance need it", "install git"
        return
    done = output("git", "status", "--porcelain", "--untracked-files=no")
    if done.returncode:
        yield "warning", "the working folder is no git repository", "run this in a clone, or `git init`"
        return
    commit = output("git", "rev-parse", "--short", "HEAD").stdout.strip() or "no commit yet"
    changed = len(done.stdout.splitlines())
    if changed:
        mend = "commit them before a run whose provenance matters"
        yield "warning", f"at {commit}, {changed} tracked file(s) changed since", mend
    else:
        yield "ok", f"at {commit}, nothing changed since", ""


def params() -> Found:
    """Whether params.yaml is valid."""
    if not PARAMS.exists():
        yield "warning", "there is none here: this is no folder of the pipeline", "run this in the folder that holds it"
        return
    try:
        from lea_core.params import load
    except ModuleNotFoundError:
        yield "warning", "not checked: this needs the pipeline", TRAIN
        return
    found = load()
    yield "ok", f"valid: {found.dataset.name}, {len(found.variants)} variants", ""


def dvc() -> Found:
    """Whether this is a DVC repository, and which stages would run."""
    if not Path("dvc.yaml").exists() or not installed("dvc"):
        return  # an earlier check says so: no folder of the pipeline, or its packages are missing
    if not Path(".dvc").is_dir():
        yield "problem", "the working folder is no DVC repository", "restore .dvc with git, or run `dvc init`"
        return
    done = output(sys.executable, "-m", "dvc", "status", "--json", "--with-deps", *GOALS)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["it says nothing"]
        yield "warning", f"dvc status fails: {lines[0].removeprefix('ERROR: ')[:200]}", "mend what it names"
        return
    changed = json.loads(done.stdout)
    if changed:
        names = ", ".join(list(changed)[:4]) + (", ..." if len(changed) > 4 else "")
        yield "warning", f"{len(changed)} stage(s) would run: {names}", REPRO
    else:
        yield "ok", "every stage is up to date", ""


def data() -> Found:
    """Whether raw data and weights have the hashes of dvc.lock."""
    if not LOCK.exists():
        if PARAMS.exists():
            yield "warning", "nothing has run here yet: no dvc.lock, no raw data, no language model", REPRO
        return
    try:
        from lea_core.params import read_yaml
    except ModuleNotFoundError:
        yield "warning", "not checked: this needs the pipeline", TRAIN
        return
    stages = read_yaml(LOCK).get("stages", {})
    outs = [out for name in FETCHING for out in stages.get(name, {}).get("outs", [])]
    for out in outs:
        path, wanted = Path(out["path"]), str(out["md5"])
        if not path.exists():
            yield "warning", f"{path} is not there", f"run `dvc checkout {path}`, or `dvc repro`"
        elif folder_md5(path) != wanted:
            yield (
                "problem",
                f"{path} is not what was fetched: its hash is not that of {LOCK}",
                f"delete {path} and run `dvc repro`",
            )
        else:
            yield "ok", f"{path} is whole, {amount(sum(file.stat().st_size for file in path.iterdir()))}", ""
    if not outs:
        yield "warning", f"{LOCK} knows no raw data and no language model", REPRO
    yield from _model_elsewhere()


def folder_md5(folder: Path) -> str:
    """The hash that DVC gives a folder: of the list of its files and their hashes."""
    files = (file for file in folder.rglob("*") if file.is_file())
    names = sorted((file.relative_to(folder).as_posix(), file) for file in files)
    listed = [{"md5": _md5(file), "relpath": name} for name, file in names]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _md5(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _model_elsewhere() -> Found:
    """A language model that stays where it is: llm.json has the hashes of its files."""
    card = read_json(MODEL) if MODEL.exists() else {}
    if card.get("kind") == "folder":
        from lea_core.llm.language_model import FETCHED_OTHER, RESTORE, changed_files

        if wrong := changed_files(card):
            yield "problem", f"{wrong[0]} is {FETCHED_OTHER} ({len(wrong)} file(s))", RESTORE
        else:
            yield "ok", f"{card['path']} is whole", ""


def policy(folder: Path) -> Found:
    """Whether the policy's folder exists and every file of it is unchanged."""
    if not folder.exists():
        yield "warning", f"{folder} is not there: nothing to recommend with", "run `dvc repro export`"
        return
    from lea_core.serving import Policy

    found = Policy.load(folder)
    yield "ok", f"{folder} is sound: {found.config.backbone}, {len(found.item_ids):,} items, all hashes hold", ""
