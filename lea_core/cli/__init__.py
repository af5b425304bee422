"""`lea`, the command line for people; the stages stay plain `python -m stages.<name>`.

In: what a person types. Out: a command's own output; a mistake is one line on stderr and an exit status (`STATUS`).

A command imports what it needs when it runs: what ships needs the base install alone, `lea --help` not even torch.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from lea_core.cli import le, new_items, policy, printing, recommend, report, settings, tuning
from lea_core.cli.doctor import command as doctor
from lea_core.common.entrypoint import run
from lea_core.common.errors import DEBUG

STATUS = """Exit status: 0 done; 1 a mistake, in one line on stderr; 2 an unknown command or option; 3 done, but lines
of the input were refused, each named on stderr (recommend); 130 interrupted; 141 the reader of the output has gone."""
POLICY, PIPELINE, MACHINE = (
    "The policy that ships",
    printing.paragraph("The pipeline: pip install 'lea-recommender[train]'"),
    "This machine",
)

app = typer.Typer(
    help="Recommenders trained with reinforcement learning on a language model's judgement.",
    epilog=printing.paragraph(STATUS),
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, function, examples in (
    (POLICY, recommend.recommend, recommend.EXAMPLES),
    (POLICY, policy.info, policy.INFO_EXAMPLES),
    (POLICY, policy.export, policy.EXPORT_EXAMPLES),
    (POLICY, new_items.add_items, new_items.EXAMPLES),
    (PIPELINE, report.report, ["lea report"]),
    (PIPELINE, settings.check, ["lea check"]),
    (PIPELINE, settings.use, ["lea use settings/faithful.yaml", "git checkout params.yaml  # takes it back"]),
    (PIPELINE, le.forecast, ["lea forecast"]),
    (PIPELINE, le.inspect, ["lea inspect --user 104", "lea inspect --user 104 --position 5 --actions 3"]),
    (PIPELINE, tuning.tune, ["lea tune", "lea tune supervised snqn --out tuning"]),
    (MACHINE, doctor.doctor, ["lea doctor", "lea doctor --network", "lea doctor --json | jq '.[].level'"]),
):
    app.command(rich_help_panel=panel, epilog=printing.examples(*examples))(function)


def _show(wanted: bool) -> None:
    if wanted:
        os.environ[DEBUG] = "1"


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=printing.version)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show what led to an error; for stages: {DEBUG}=1.", callback=_show)
    ] = False,
) -> None:
    """Take the options of all commands."""


def command(arguments: list[str]) -> None:
    """Run one command. Raises `SystemExit` with its status where that is not 0, `LeaError` on a mistake."""
    if "--debug" in arguments:  # it may stand behind the command too
        arguments = ["--debug", *(argument for argument in arguments if argument != "--debug")]
    try:
        status = app(arguments or ["--help"], prog_name="lea", standalone_mode=False)
    except typer.TyperException as error:
        reason = " ".join(error.format_message().split())
        print(f"error: {reason} (`lea --help` and `lea COMMAND --help` say what there is)", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    if status == printing.INTERRUPTED:
        print("error: interrupted: nothing was published; run the same command to start again", file=sys.stderr)
    if status:
        raise SystemExit(status)


def main() -> None:
    """Entry point of `lea`."""
    run(command)
