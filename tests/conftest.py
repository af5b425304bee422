"""For all tests: one thread each for torch and NumPy, in this process and in those it starts.

The tensors here are tiny: a second thread costs more than it brings, many times more where the cores are busy. And sums
of floats do not depend on the machine then.

And numba, on which the oracle ranx rests, compiles nothing: that takes most of a minute, what it computes here no time.
"""

import os

import pytest

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The pipeline's tests first: they take longest, and `make test` runs files side by side."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
