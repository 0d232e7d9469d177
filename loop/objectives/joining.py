"""Take part in a run's trainings from a further machine.

    python -m ouroloop.loop.objectives.joining RUN --machine-rank 1

The run itself is started on the machine of rank 0, with `launcher: accelerate` and a config of
several machines; RUN is its folder, on storage that all of them see under the same path. Waits for
each round's job and runs this machine's processes of it, until it is interrupted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from ouroloop.loop.folder.store import WARM_START
from ouroloop.loop.objectives import launcher, training

SECONDS_BETWEEN_LOOKS = 1.0


def open_job(run: Path) -> Path | None:
    """The latest job of a run that has no result yet."""
    found = [
        path
        for path in (run / WARM_START / "job.json", *run.glob("rounds/*/job.json"))
        if path.exists() and not (path.parent / "train.json").exists()
    ]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def join(job: Path, machine_rank: int) -> int:
    """Run this machine's processes of a job to their end; the launcher's exit code."""
    config = json.loads(job.read_text(encoding="utf-8"))["accelerate_config"]
    told = launcher.arguments(Path(config) if config else None)
    module = [*told, "--machine_rank", str(machine_rank), "--module", training.MODULE, str(job)]
    command = [sys.executable, "-m", launcher.MODULE, *module]
    return subprocess.run(command, check=False).returncode


def main() -> None:
    """Join one training after the other."""
    parser = argparse.ArgumentParser(
        prog="python -m ouroloop.loop.objectives.joining", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--machine-rank", type=int, required=True, help="1 for the second machine")
    given = parser.parse_args()
    joined: tuple[Path, int] | None = None
    while True:
        job = open_job(given.run)
        # A training that is tried again, or resumed, writes its job anew.
        found = (job, job.stat().st_mtime_ns) if job is not None else None
        if job is None or found == joined:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            continue
        joined = found
        print(f"joining {job}", flush=True)
        print(f"{job}: the launcher ended with status {join(job, given.machine_rank)}", flush=True)


if __name__ == "__main__":
    main()
