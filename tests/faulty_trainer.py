"""A trainer's child that trains nothing, with faults: set `training.MODULE` to "faulty_trainer".

The checkpoint is a copy of the one that it starts from, so that a real engine can serve it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from faults import FOREVER, TrainerFaults

from ouroloop.loop.objectives import child
from ouroloop.loop.objectives.job import TrainingJob

NUM_STEPS = 3


def step(number: int, batch: int, faults: TrainerFaults) -> None:
    if number == faults.silent_after and faults.note("silent"):
        time.sleep(FOREVER)
    if 0 < faults.fits < batch and faults.note(f"memory {batch}"):
        if faults.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if faults.how == "launcher":
            print("traceback: died with <Signals.SIGKILL: 9>", file=sys.stderr, flush=True)
            os._exit(1)
        if faults.how == "torch":
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        raise MemoryError
    child.report(done=number + 1, total=NUM_STEPS)


def run(job: TrainingJob, folder: Path) -> None:
    faults = TrainerFaults.here()
    if faults.fails and faults.note("fails"):
        raise SystemExit(3)
    for number in range(NUM_STEPS):
        step(number, int(job.settings.get("per_device_train_batch_size", 8)), faults)
    shutil.copytree(job.init, job.output)
    if told := os.environ.get("TELL"):
        print(f"{told}: trained in {os.getpid()} of {os.getppid()}", file=sys.stderr)
    facts = {
        "status": "trained",
        "checkpoint": "/".join(job.output.parts[-3:]),
        "seconds": 0.0,
        "num_examples": 1,
        "loss": [],
        "by_origin": {},
        "weight_sync": {
            "num_tokens": 1,
            "rms": 1.0,
            "bulk": 1.0,
            "largest": 1.0,
            "dtype": "float32",
        },
        "retries": [asdict(retry) for retry in job.retries],
    }
    (folder / "train.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    from ouroloop.loop.objectives import training

    training.run = run
    # It trains nothing, so it needs no library.
    training.warm_up = lambda: None
    sys.exit(training.main())
