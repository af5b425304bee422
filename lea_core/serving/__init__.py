"""The policy that ships: a folder, what loads it, and what it recommends. No language model, and none of its libraries.

    from lea_core.serving import Policy
    Policy.load("data/policy").recommend([["50", "181"]], k=10)

`Policy` (torch_policy.py) needs torch; the other modules here that serve do not, so they are imported one by one.
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
