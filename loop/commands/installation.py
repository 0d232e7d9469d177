"""What is installed, and where runs are shown."""

from __future__ import annotations

import argparse
import sys

from ouroloop.loop.commands.shared import (
    Add,
    root_of,
    run_path,
)
from ouroloop.loop.extras import require


def add_commands(add: Add) -> None:
    """The commands of this file, with their options."""
    sync = add("sync", "bring MLflow and other trackers up to date with a run (again)", _sync)
    sync.add_argument("run", help="name or folder of the run")
    ui = add("ui", "open MLflow's pages on 127.0.0.1", _ui)
    ui.add_argument("--port", type=int, default=5000)
    doctor = add(
        "doctor",
        "say what is installed, what would break, and the command that repairs it",
        _doctor,
    )
    doctor.add_argument("--json", action="store_true", help="for scripts")
    doctor.add_argument(
        "--deep", action="store_true", help="also import the heavy libraries (slower)"
    )


def _sync(options: argparse.Namespace) -> int:
    from ouroloop.loop.trackers.process import safe_sync

    # Whoever asks for a sync waits to its end, and wants its failure as an exit code; the end of a
    # run does neither (`trackers/process.py`).
    failure = safe_sync(run_path(options, options.run), seconds=None)
    if failure:
        print(f"ouroloop: {failure}", file=sys.stderr)
    return 1 if failure else 0


def _ui(options: argparse.Namespace) -> int:
    require("mlflow", "ouroloop ui")
    from ouroloop.loop.trackers.mlflow import ui

    return ui(root_of(options), options.port)


def _doctor(options: argparse.Namespace) -> int:
    from ouroloop.loop import doctor

    return doctor.main(as_json=options.json, deep=options.deep)
