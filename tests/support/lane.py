"""The tiny lane: the whole pipeline on 60 users and two layers of the real language model, in a repository of its own.

In: the code and dvc.yaml of this checkout, and the parameters of settings/default.yaml, made small. Out: a Git and DVC
repository in another folder. Nothing else comes along: not params.yaml, data/ or dvc.lock, which are their user's, nor
settings of Git and DVC that lie outside. `python -m tests.support.lane` (`make tiny`) runs it in a temporary folder and
prints the report; tests/pipeline/test_pipeline.py runs it and then changes one parameter after another.

Fetched files are shared with this checkout, so that a lane downloads nothing that was downloaded before.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lea_core.common.errors import LeaError
from lea_core.params import read_yaml
from lea_core.params.overlay import change_params

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "settings" / "default.yaml"  # not params.yaml: what somebody changed there changes no test
CODE = (
    "lea_core",
    "stages",
    "dvc.yaml",
    "data/.gitkeep",
    ".dvc/config",
    ".dvc/plots",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
)
VARIANTS = ("supervised", "snqn-lea")
TINY = {
    "preprocess.max_users": 60,
    "llm.layers": 2,
    "tokenize_items.layer": 2,
    "tokenize_items.text_tokens": 16,
    "tokenize_items.content_width": 32,
    "finetune_le.history": 20,
    "finetune_le.selection_events": 200,
    "finetune_le.heads.epochs": 1,
    "finetune_le.lora.epochs": 1,
    "annotate.sampled_actions": 1,
    "measure_le.twins": [],
    "augment.actions": 2,
    "backbones.sasrec.width": 16,
    "methods.sa2c.warmup_epochs": 1,
    "train.seeds": [0],
    "train.epochs": 4,
    "train.le.state_width": 16,
}


def make_lane(folder: Path) -> None:
    """Make a repository in `folder` that holds this checkout's code and small parameters, and commit them there."""
    for name in CODE:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    make_params(folder)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    name_author(folder)
    commit(folder, "The tiny lane")


def make_params(folder: Path) -> None:
    """Write a params.yaml into `folder`: the defaults, made small, with two variants."""
    shutil.copy(PARAMS, folder / "params.yaml")
    variants = read_yaml(PARAMS)["variants"]
    change_params(folder, {**TINY, "variants": {name: variants[name] for name in VARIANTS}})


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


def environment() -> dict[str, str]:
    """Stages run `python`: it must be this one. Fetched files are shared with this checkout.

    What Git and DVC would read elsewhere is left out: the settings of this user and machine, and the variables of a Git
    hook or of a DVC stage from which the tests were started.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    nowhere = str(ROOT / ".dvc" / "nowhere")
    cache = kept.get("LEA_LANE_CACHE", kept.get("LEA_CACHE", str(ROOT / ".dvc" / "tmp" / "lea")))
    return {
        **kept,
        "LEA_CACHE": cache,
        "PATH": path,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "DVC_GLOBAL_CONFIG_DIR": nowhere,
        "DVC_SYSTEM_CONFIG_DIR": nowhere,
    }


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


@contextmanager
def skipped_offline() -> Iterator[None]:
    """Skip a test whose data or language model were never fetched, where no network is; CI must have both."""
    try:
        yield
    except (LeaError, RuntimeError) as error:
        if "cannot be reached" not in str(error) or "CI" in os.environ:
            raise
        import pytest

        pytest.skip("what this test reads is not on this machine, and there is no network: connect once")


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
