"""`lea doctor`: the findings of every check, and what to do about them.

In: see lea_core/doctor. Out: a line per finding on stdout, or JSON; status 1 where one is a problem.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

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
    from lea_core.cli.doctor.checks import examine

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
