"""For all tests: one thread each for torch and NumPy, in this process and in those it starts.

The tensors here are tiny: a second thread costs more than it brings, many times more where the cores are busy. And sums
of floats do not depend on the machine then. For the same reason no test of hypothesis has to end in a given time.

And numba, on which the oracle ranx rests, compiles nothing: that takes most of a minute, what it computes here no time.

And no test reads or fills the cache folder of whoever runs them, but for the files that the lane fetches.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
shared = Path(__file__).parent.parent / ".dvc" / "tmp" / "lea"
os.environ.setdefault("LEA_LANE_CACHE", os.environ.get("LEA_CACHE", str(shared)))
os.environ["LEA_CACHE"] = tempfile.mkdtemp(prefix="lea-tests-")
atexit.register(shutil.rmtree, os.environ["LEA_CACHE"], ignore_errors=True)
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The pipeline's tests first: they take longest, and `make test` runs files side by side."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
