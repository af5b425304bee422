"""`lea doctor`: what this machine and this folder lack to serve a policy or to run the pipeline, and how to mend it.

In: this machine, the working folder, the cache folder; with --network also the network. Out: one line or more per check
on stdout, or JSON; status 1 where a finding is a problem. Nothing is written or fetched.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from lea_core.cli.doctor import folder, machine
from lea_core.cli.doctor.finding import Finding, Found, findings

COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(
    policy: Annotated[Path, typer.Option(help="Folder of the policy to look at.")] = Path("data/policy"),
    network: Annotated[
        bool, typer.Option("--network", help="Try to reach what params.yaml names, 5 seconds each.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: check, level, message and mend of each.")
    ] = False,
) -> None:
    """Check this machine and this folder, and say what to do where something is wrong; status 1 where it is."""
    found = examine(policy, network)
    if as_json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        console = Console()
        for finding in found:
            mend = f"\n{'':21}-> {finding.mend}" if finding.mend else ""
            level = Text(f"{finding.level:<8}", style=COLOURS[finding.level])
            console.print(level, Text(f"{finding.check:<11} {finding.message}{mend}"), soft_wrap=True)
        number = Counter(finding.level for finding in found)
        console.print(f"{number['problem']} problem(s), {number['warning']} warning(s), {number['ok']} ok")
    if any(finding.level == "problem" for finding in found):
        raise typer.Exit(1)


def examine(policy: Path, network: bool = False) -> list[Finding]:
    """Run every check in the working folder, with `network` those of the network too. policy: the policy's folder."""
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
        from lea_core.cli.doctor.network import network as reachable

        checks["network"] = reachable
    return [finding for name, check in checks.items() for finding in findings(name, check)]
