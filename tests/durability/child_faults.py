"""The engine's child or the trainer's child fails: the run goes on by itself.

The model is the scripted one behind the real pipe and supervision, the trainer copies weights; both
fail as `tests/faults.py` says.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import worlds
from faults import EngineFaults, Faults, TrainerFaults
from trials import Fault, Trial
from worlds import NAME, Child, finished, log_lines, lost_rows, reference, write_recipe

from ouroloop.loop.engines import pipe
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.engines.supervised import SupervisedEngine
from ouroloop.loop.objectives import training
from ouroloop.loop.records import Completion, Request

# Beyond what a busy machine takes between two signs of progress.
SILENCE_S = 8.0
CHANGES = {"supervision": {"engine_silence_s": SILENCE_S, "trainer_silence_s": SILENCE_S}}
LINE_LIMIT = 2**20
GIANT = "giant answer"
# What the trainer was given and did is not that of an undisturbed one where its batch was halved.
TRAINERS_OWN = ("train.json",)


class LoggedProcess(ProcessEngine):
    """Writes down what the child is asked, what is asked again included."""

    log: Path

    async def complete(self, request: Request) -> Completion:
        with self.log.open("a") as file:
            file.write(f"{time.time():.6f} {request.id}\n")
        return await super().complete(request)


def engine(root: Path, config: Mapping[str, Any], log_path: Path) -> SupervisedEngine:
    """The scripted model in a child behind the real pipe."""

    def make() -> ProcessEngine:
        made = LoggedProcess({**config, "kind": "scripted"}, log_path, "faulty_worker")
        made.log = root / "asked.log"
        return made

    return SupervisedEngine(make)


def behind_pipe(root: Path, *faults: Faults) -> int:
    """Start or resume a run whose engine and trainer are children with these faults."""
    for each in faults or (EngineFaults(),):
        os.environ.update(each.environment())  # type: ignore[attr-defined]
    pipe.LINE_LIMIT = LINE_LIMIT
    training.MODULE = "faulty_trainer"
    return worlds.play(root, trainer=None, engine=partial(engine, root))


def disturbed(
    name: str, kind: type[Faults], settings: str, folder: Path, seed: str, number: int
) -> Trial:
    """A run that meets the fault once; settings: JSON, in which "n" is drawn anew."""
    before, rng = reference(behind_pipe, json.dumps(CHANGES)), random.Random(seed)
    root = folder / "run"
    write_recipe(root, **CHANGES)
    tally = folder / "tally"
    drawn = settings.replace('"n"', str(rng.randrange(5, len(before.asked) // 3)))
    fault = kind(tally=str(tally), limit=1, **json.loads(drawn))
    child = Child.of(root, lambda: behind_pipe(root, fault))
    code = child.wait()
    if code is None:
        child.end()
    if not fault.count():
        return Trial(name, number, 0, 0, note=f"did not meet the fault: {child.text()[-200:]}")
    if not finished(code):
        return Trial(name, number, 1, 0, note=f"ended with {code}: {child.text()[-300:]}")
    leave_out = TRAINERS_OWN if kind is TrainerFaults else ()
    lost = lost_rows(root / "runs" / NAME, before.path, leave_out)
    if name == GIANT:
        # One answer is replaced by none; later samples are drawn from what is learnt without it.
        lost = min(lost, 1)
    happened = tally.stat().st_mtime
    times = [when - happened for when, _ in log_lines(root) if when > happened][:1]
    return Trial(name, number, 1, 1, lost, worlds.repeated(root, before), tuple(times))


def _fault(name: str, what: str, kind: type[Faults], **settings: Any) -> Fault:
    quick = int(name in ("engine death", "out of memory"))
    return Fault(name, what, partial(disturbed, name, kind, json.dumps(settings)), quick=quick)


FAULTS = (
    _fault("silent engine", "it lives and answers nothing more", EngineFaults, silent_after="n"),
    _fault("garbled line", "an answer arrives cut in half", EngineFaults, garbled_every="n"),
    _fault("bytes in the pipe", "a line that is no text", EngineFaults, noise_every="n"),
    _fault(
        GIANT,
        "an answer over the pipe's limit; it costs its own sample, the row lost (what changes in"
        " later rounds because of it is not counted)",
        EngineFaults,
        giant_every="n",
        giant_bytes=2 * LINE_LIMIT,
    ),
    _fault("engine death", "its process is killed", EngineFaults, dies_every="n"),
    _fault("trainer killed", "SIGKILL in its first step", TrainerFaults, fits=1, how="killed"),
    _fault(
        "out of memory", "the trainer's own error of memory", TrainerFaults, fits=1, how="python"
    ),
    _fault("silent trainer", "it lives and does nothing more", TrainerFaults, silent_after=1),
)
