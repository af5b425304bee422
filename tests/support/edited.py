"""A copy of the sources with other code in it, for what code_hash.py reads; what runs stays what it is."""

import shutil
from pathlib import Path

import pytest

from lea_core.common import code_hash
from tests.support.lane import ROOT


def copy_sources(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Copy lea_core and stages into `folder` and let hashes be taken there."""
    for package in ("lea_core", "stages"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_hash, "ROOT", folder)
    return folder


def edit(monkeypatch: pytest.MonkeyPatch, folder: Path, file: str) -> None:
    """One more line in a file of such a copy."""
    with (copy_sources(monkeypatch, folder) / file).open("a") as source:
        source.write("CHANGED = True\n")
