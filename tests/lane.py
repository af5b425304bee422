"""The tiny lane: the whole pipeline on 60 users and two layers of the real language model, in a repository of its own.

In: this checkout as it lies (tracked files and new ones that git does not ignore). Out: a Git and DVC repository in
another folder, with the same dvc.yaml and a smaller params.yaml. `python -m tests.lane` (`make tiny`) runs it in a
temporary folder and prints the report; tests/test_pipeline.py runs it and then changes one parameter after another.

Fetched files are shared with this checkout, so that a lane downloads nothing that was downloaded before.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
VARIANTS = ("supervised", "snqn-lea")
TINY = {
    "preprocess.max_users": 60,
    "llm.layers": 2,
    "tokenize_items.layer": 2,
    "tokenize_items.text_tokens": 16,
    "tokenize_items.content_width": 32,
    "finetune_le.history": 20,
    "finetune_le.heads.epochs": 1,
    "finetune_le.lora.epochs": 1,
    "annotate.sampled_actions": 1,
    "augment.actions": 2,
    "backbones.sasrec.width": 16,
    "methods.sa2c.warmup_epochs": 1,
    "train.seeds": [0],
    "train.epochs": 4,
    "train.le.state_width": 16,
}


def make_lane(folder: Path) -> None:
    """Copy this checkout into `folder`, shrink its params.yaml and commit the whole there."""
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (ROOT / name).is_file():  # a tracked file may be deleted
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    variants = read_params(ROOT)["variants"]
    change_params(folder, {**TINY, "variants": {name: variants[name] for name in VARIANTS}})
    git(folder, "init", "--quiet", "--initial-branch", "main")
    name_author(folder)
    commit(folder, "The tiny lane")


def clone(lane: Path, folder: Path) -> None:
    """Another repository at the lane's last commit, with its artifacts; they share one DVC cache."""
    git(lane, "clone", "--quiet", ".", str(folder))
    name_author(folder)
    dvc(folder, "cache", "dir", "--local", str(lane / ".dvc" / "cache"))
    dvc(folder, "checkout")


def name_author(folder: Path) -> None:
    """Give the repository somebody to commit as."""
    for key, value in (("user.name", "lane"), ("user.email", "lane@localhost")):
        git(folder, "config", key, value)


def commit(folder: Path, message: str) -> None:
    """Commit everything that git does not ignore."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def read_params(folder: Path) -> dict[str, Any]:
    """params.yaml as plain values."""
    return YAML(typ="safe", pure=True).load(folder / "params.yaml")  # type: ignore[no-any-return]


def change_params(folder: Path, changes: Mapping[str, object]) -> None:
    """Set dotted keys of params.yaml in `folder`, or remove those whose value is `...`."""
    yaml = YAML()
    raw = yaml.load(folder / "params.yaml")
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = raw
        for name in sections:
            section = section[name]
        if value is ...:
            del section[last]
        else:
            section[last] = value
    yaml.dump(raw, folder / "params.yaml")


def environment() -> dict[str, str]:
    """Stages run `python`: it must be this one. Fetched files are shared with this checkout."""
    cache = os.environ.get("LEA_CACHE", str(ROOT / ".dvc" / "tmp" / "lea"))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "LEA_CACHE": cache}


def git(folder: Path, *arguments: str) -> str:
    """Run a Git command in a lane; its standard output."""
    return _run(["git", *arguments], folder)


def dvc(folder: Path, *arguments: str) -> str:
    """Run a DVC command in a lane; its standard output. A failure raises with everything it printed."""
    return _run([sys.executable, "-m", "dvc", *arguments], folder)


def ran(output: str) -> set[str]:
    """Names of the stages whose commands ran, from what `dvc repro` or `dvc exp run` printed."""
    return set(re.findall(r"^Running stage '(.+)':$", output, re.MULTILINE))


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=environment(), text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def main() -> None:
    """Run the lane in a temporary folder, on the screen."""
    with tempfile.TemporaryDirectory(prefix="lea-tiny-") as temporary:
        folder = Path(temporary)
        make_lane(folder)
        for command in (["dvc", "repro"], ["lea_core.cli", "report"]):
            done = subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment())
            if done.returncode:
                raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
