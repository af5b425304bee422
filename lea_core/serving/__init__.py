"""Serving: the exported policy's folder, how it is loaded, what it recommends. No language model or its libraries.

    from lea_core.serving import Policy
    Policy.load("data/policy").recommend([["50", "181"]], k=10)

`Policy` (torch_policy.py) needs torch. The other modules for serving do not, so import them one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lea_core.serving.torch_policy import Policy

__all__ = ["Policy"]


def __getattr__(name: str) -> Any:
    """`Policy`, and torch with it, when it is first asked for."""
    if name != "Policy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lea_core.serving.torch_policy import Policy

    return Policy
