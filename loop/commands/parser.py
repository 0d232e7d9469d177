"""The whole command line, from the commands' files."""

from __future__ import annotations

import argparse
from pathlib import Path

from ouroloop import __version__
from ouroloop.loop.commands import experiments, installation, runs, traces, views
from ouroloop.loop.commands.shared import Command

EPILOG = """\
examples:
  ouroloop run demo                                    a guarded run on the embedded small model
  ouroloop init mine --model ./model --data p.jsonl    a recipe for your own model and data
  ouroloop run mine.yaml --check                       what can be known of it before it runs
  ouroloop run demo --set rounds=3 --set name=short    the same with two keys changed
  ouroloop explain demo --round 2                      why it was decided so, with the numbers
  ouroloop show demo --round 2 --rejected steps        samples of a round, and what became of them
  ouroloop report demo unguarded                       two arms side by side in one HTML page
  ouroloop ui                                          MLflow on 127.0.0.1
  ouroloop monitor round0.jsonl round1.jsonl           the rounds of any loop, from their traces

exit codes:
  0 finished; 1 a bug or a failed engine; 2 wrong input (nothing was made); 3 halted by a monitor

Runs lie in ./runs, or in the folder that $OUROLOOP_RUNS or --runs names.
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    # Raw: the examples and exit codes keep their lines.
    raw = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser(
        prog="ouroloop",
        description=(
            "Rounds of draft, critique, revise, filter and SFT, steered before the model collapses."
        ),
        epilog=EPILOG,
        formatter_class=raw,
    )
    whole.add_argument("--version", action="version", version=f"ouroloop {__version__}")
    commands_of = whole.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str, command: Command) -> argparse.ArgumentParser:
        sub = commands_of.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", formatter_class=raw
        )
        sub.set_defaults(command=command)
        # An option of every command, not of the program: it may stand after the command.
        sub.add_argument(
            "--runs",
            type=Path,
            default=None,
            metavar="DIR",
            help="folder of all runs (default: $OUROLOOP_RUNS or ./runs)",
        )
        return sub

    # In the order of `--help`: what is used most comes first.
    for group in (runs, views, traces, installation, experiments):
        group.add_commands(add)
    return whole
