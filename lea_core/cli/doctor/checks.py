"""What a machine and a folder lack to serve a policy or run the pipeline, and the mend of each: `lea doctor`.

In: this machine, the working folder, the cache folder; the network where asked. Out: a `Finding` or more per check.
Nothing is written and nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lea_core.cli.doctor import folder, machine
from lea_core.cli.doctor.finding import Finding, Found, findings
from lea_core.cli.doctor.network import network as reach

__all__ = ["Finding", "examine"]


def examine(policy: Path, network: bool = False) -> list[Finding]:
    """Run every check in the working folder, those of the network too where wanted; `policy` is the policy's folder."""
    checks: dict[str, Callable[[], Found]] = {
        "python": machine.python,
        "torch": machine.torch_and_device,
        "train extra": machine.train_extra,
        "disk": machine.disk,
        "memory": machine.memory,
        "git": folder.git,
        "params.yaml": folder.params,
        "dvc": folder.dvc,
        "data": folder.data,
        "policy": lambda: folder.policy(policy),
    }
    if network:
        checks["network"] = reach
    return [finding for name, check in checks.items() for finding in findings(name, check)]
