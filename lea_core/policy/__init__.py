"""The old name of lea_core.serving, for one release: change `lea_core.policy` to `lea_core.serving`."""

from __future__ import annotations

import warnings
from typing import Any

from lea_core import serving

NOW = "lea_core.policy is lea_core.serving now: change the import, for the old name goes with the next release"
warnings.warn(NOW, DeprecationWarning, stacklevel=2)
__path__ = serving.__path__  # so that `lea_core.policy.onnx_policy` is found too


def __getattr__(name: str) -> Any:
    """What `lea_core.serving` gives, when it is first asked for."""
    return getattr(serving, name)
