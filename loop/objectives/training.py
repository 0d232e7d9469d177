"""Training in a child process: job.json in, a checkpoint folder and train.json out.

The same for every objective. `train` and `weight_sync_of` are the parent's side and import nothing
heavy; `python -m ouroloop.loop.objectives.training JOB` is the child's.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ouroloop.loop.config import Recipe
from ouroloop.loop.engines import heartbeat, weight_sync, weight_sync_truth
from ouroloop.loop.engines.checkpoint import Checkpoint, check_checkpoint
from ouroloop.loop.engines.pipe import TimeLimits
from ouroloop.loop.engines.served_weights import Change
from ouroloop.loop.errors import NotFiniteError, OuroloopError, RunStateError, TrainingError
from ouroloop.loop.folder.storage import storage_error
from ouroloop.loop.objectives import finite, launcher, saving
from ouroloop.loop.objectives.base import Prepared
from ouroloop.loop.objectives.child import LIMITS, report, run_child, watch_parent
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.registry import build_objective
from ouroloop.loop.objectives.retries import Attempts, memory_error
from ouroloop.loop.objectives.warm import FORK, ONCE, WarmTrainer, wait_for_jobs, warm_up
from ouroloop.loop.recipes.secrets import masked

MODULE = "ouroloop.loop.objectives.training"
# What train.json keeps of every logged step; the rewards are a preference objective's (in units of
# beta times nats: how much likelier than under the reference, chosen minus rejected).
CURVES = ("step", "loss", "entropy")
MARGINS = ("rewards/margins", "rewards/accuracies")


def train(
    job: TrainingJob,
    folder: Path,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    here: bool = False,
    warm: WarmTrainer | None = None,
) -> dict[str, Any]:
    """Train in a child process and return what train.json says.

    The checkpoint appears at `job.output` whole or not at all, then train.json; what a killed
    attempt left is cleared first. A child that runs out of memory, or gives no sign of progress, is
    started again as `job.supervision` says; train.json names each such `retries`.

    Args:
        job: what to train on what.
        folder: the round's folder; receives job.json and train.json.
        on_progress: called with (steps done, steps in all).
        here: in this process instead, for many short runs one after the other: the libraries are
            imported once.
        warm: the child that has imported them already; default: one is started. `accelerate launch`
            starts its own.

    Raises:
        RecipeError: a name or value in `sft`, `dpo` or `peft` is wrong.
        DataError: the examples cannot be trained on.
        TrainingError: the child failed; its log's last lines are quoted. OutOfMemoryError and
            TrainerSilentError: so did the last one that may be tried.
        RunStateError: the folder holds a train.json already.
    """
    if (folder / "train.json").exists():
        raise RunStateError(
            f"{folder}/train.json: this round is trained already. A round is never overwritten."
        )
    build_objective(job.objective, job.objective_options).check(job.settings, job.peft)
    if here:
        _clear(job)
        job.write(folder / "job.json")
        run(job, folder)
    else:
        Attempts(job).carry_out(lambda attempt: _run_in_child(attempt, folder, on_progress, warm))
    facts: dict[str, Any] = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    _warn_if_weak(facts, job)
    return facts


def _warn_if_weak(facts: dict[str, Any], job: TrainingJob) -> None:
    """Say so where the training moved too little for the weight-sync check."""
    change = Change(**facts["weight_sync"]) if facts["status"] == "trained" else None
    if change is not None and not change.has_power:
        logging.getLogger(__name__).warning(
            "%s: training moved %d log-probabilities by %.2g nats (root mean square), too little to"
            " tell these weights from those of %s in %s. The weight-sync check may refuse them.",
            job.output,
            change.num_tokens,
            change.rms,
            job.init,
            job.dtype,
        )


def _clear(job: TrainingJob) -> None:
    # A checkpoint without train.json is one whose training was killed before its proof.
    for leftover in (job.output, _temporary(job.output)):
        shutil.rmtree(leftover, ignore_errors=True)


def _run_in_child(
    job: TrainingJob,
    folder: Path,
    on_progress: Callable[[int, int], None],
    warm: WarmTrainer | None,
) -> None:
    _clear(job)
    path = folder / "job.json"
    job.write(path)
    limits = TimeLimits(job.supervision.start_s, job.supervision.trainer_silence_s)
    try:
        if warm is not None and warm.is_on and job.launcher == "python":
            warm.run(path, job.log_path, on_progress, limits)
        else:
            run_child(*command(job, path), job.log_path, on_progress, limits)
    except TrainingError:
        # It is written last of all: what ended badly then was only the process's own end.
        if not (folder / "train.json").exists():
            raise


def warm_trainer(recipe: Recipe, wanted: bool = True) -> WarmTrainer:
    """What trains the rounds of a recipe warm; off where each starts a process of its own."""
    is_on = wanted and recipe.launcher == "python" and recipe.supervision.warm_trainer
    return WarmTrainer(MODULE, is_on=is_on)


def weight_sync_of(
    checkpoint: Path, folder: Path, dtype: str = "float32", limits: TimeLimits = LIMITS
) -> Path:
    """The weight-sync check of a checkpoint.

    Its own, or one made (in a child process) and kept in `folder`/weight_sync until the
    checkpoint's files change.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        TrainingError: the child failed.
    """
    check_checkpoint(checkpoint)
    own = checkpoint / weight_sync.FILE_NAME
    if weight_sync.is_for(own, dtype):
        return own
    # Size and time of change stand for the content: hashing gigabytes at every load is too slow.
    files = [
        (file.name, file.stat().st_size, file.stat().st_mtime_ns)
        for file in sorted(checkpoint.iterdir())
    ]
    digest = hashlib.sha256(repr((str(checkpoint.resolve()), files)).encode()).hexdigest()[:8]
    made = folder / "weight_sync" / f"{checkpoint.name}-{digest}-{dtype}.json"
    if not weight_sync.is_for(made, dtype):
        made.parent.mkdir(parents=True, exist_ok=True)
        arguments = ["--weight-sync", str(checkpoint), str(made), "--dtype", dtype]
        run_child(MODULE, arguments, made.with_suffix(".log"), limits=limits)
    return made


def command(job: TrainingJob, job_path: Path) -> tuple[str, list[str]]:
    """The module that trains, and its arguments."""
    if job.launcher == "python":
        return MODULE, [str(job_path)]
    told = launcher.arguments(job.accelerate_config)
    return launcher.MODULE, [*told, "--module", MODULE, str(job_path)]


def _temporary(output: Path) -> Path:
    return output.with_name(f"{output.name}.tmp")


def main(arguments: list[str] | None = None) -> int:
    """`python -m ouroloop.loop.objectives.training JOB` trains.

    `--standby fork|once` waits for jobs on standard input (warm.py). `--weight-sync CHECKPOINT OUT`
    computes a checkpoint's weight-sync check.
    """
    parser = argparse.ArgumentParser(
        prog="python -m ouroloop.loop.objectives.training", description=main.__doc__
    )
    parser.add_argument("job", nargs="?", type=Path)
    parser.add_argument("--standby", choices=(FORK, ONCE))
    parser.add_argument("--weight-sync", nargs=2, type=Path, metavar=("CHECKPOINT", "OUT"))
    parser.add_argument("--dtype", default="float32", choices=sorted(weight_sync.TOLERANCES))
    options = parser.parse_args(arguments)
    given = (options.job, options.standby, options.weight_sync)
    if sum(what is not None for what in given) != 1:
        parser.error("give a job.json, --standby fork|once, or --weight-sync CHECKPOINT OUT")
    orders = watch_parent()
    if options.standby:
        warm_up()
        return wait_for_jobs(orders, _train, forks=options.standby == FORK)
    if options.job is not None:
        return _train(options.job)
    checkpoint, out = options.weight_sync
    return _reporting(
        lambda: weight_sync.write(weight_sync_truth.make(checkpoint, options.dtype), out)
    )


def _train(path: Path) -> int:
    """Run a job.json; the exit code."""

    def work() -> None:
        job = TrainingJob.from_json(json.loads(path.read_text(encoding="utf-8")))
        heartbeat.begin(lambda: report(beat=True), job.supervision.trainer_silence_s)
        run(job, path.parent)

    return _reporting(work)


def _reporting(work: Callable[[], None]) -> int:
    """Do the child's work; the exit code. The parent hears of errors that have a name."""
    heartbeat.begin(lambda: report(beat=True), LIMITS.silence_s)
    try:
        work()
    except Exception as error:
        known = error if isinstance(error, OuroloopError) else memory_error(error)
        known = known or storage_error(error)
        if known is None:
            raise
        print(known, file=sys.stderr)
        report(error=type(known).__name__, message=str(known))
        return known.exit_code
    return 0


def run(job: TrainingJob, folder: Path) -> None:
    """Train, save, check the weights, and only then let the checkpoint appear.

    Under `accelerate launch` every rank runs this; rank 0 writes. A training that is rejected
    leaves a train.json that says why, and no checkpoint.
    """
    started = time.monotonic()
    checkpoint = check_checkpoint(job.init)
    objective = build_objective(job.objective, job.objective_options)
    prepared = objective.prepare(job, checkpoint)
    trainer = prepared.trainer
    finite.watch(trainer)
    ready = time.monotonic()
    temporary = _temporary(job.output)
    rejection = _why_rejected(trainer, temporary, checkpoint)
    facts = _facts(job, prepared)
    facts["start_seconds"] = round(ready - started, 3)
    facts["train_seconds"] = round(time.monotonic() - ready, 3)
    is_main = trainer.is_world_process_zero()
    # TRL makes its output folder, and leaves it empty unless sft.save_strategy says otherwise.
    with contextlib.suppress(OSError):
        Path(trainer.args.output_dir).rmdir()
    # A process group that is left open would warn, or hang, at the end of the process.
    trainer.accelerator.end_training()
    # The check below loads the new weights a second time: the trainer's copy, its gradients and
    # optimizer states must be gone by then.
    del trainer, prepared
    saving.free_memory()
    if not is_main:
        return
    if rejection is None:
        check = saving.checked_against_start(job, temporary)
        # The check goes into the folder before it appears: a checkpoint is never seen without one.
        weight_sync.write(check, temporary / weight_sync.FILE_NAME)
        temporary.rename(job.output)
        # A trained checkpoint always has one that it was trained from.
        assert check.change is not None
        facts["weight_sync"] = asdict(check.change)
    else:
        # The round stands on what it started from, as one does that trained nothing.
        facts |= {"status": "rejected", "reason": rejection, "checkpoint": str(job.init)}
    facts["seconds"] = round(time.monotonic() - started, 3)
    # Last of all, and whole: resume takes train.json for "this round is trained".
    written = folder / "train.json.tmp"
    written.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    written.rename(folder / "train.json")


def _why_rejected(trainer: Any, folder: Path, init: Checkpoint) -> str | None:
    """Train and save to `folder`; None, or what was not a finite number, and nothing is saved."""
    try:
        trainer.train()
        heartbeat.beat()
        trainer.save_model(str(folder))
        heartbeat.beat()
        if trainer.is_world_process_zero():
            saving.complete_folder(folder, init)
            saving.store_like(folder, init)
    except NotFiniteError as error:
        shutil.rmtree(folder, ignore_errors=True)
        return str(error)
    return None


def _facts(job: TrainingJob, prepared: Prepared) -> dict[str, Any]:
    """What train.json says of a finished training, but for its times and its check."""
    trainer = prepared.trainer
    return {
        "status": "trained",
        "reason": None,
        "objective": job.objective,
        "num_examples": prepared.num_examples,
        "num_refused": prepared.num_refused,
        "num_tokens": prepared.num_tokens,
        "num_steps": trainer.state.global_step,
        "num_processes": trainer.accelerator.num_processes,
        "retries": [asdict(retry) for retry in job.retries],
        "loss": [
            {key: at.get(key) for key in CURVES} | {key: at[key] for key in MARGINS if key in at}
            for at in trainer.state.log_history
            if "loss" in at
        ],
        "checkpoint": "/".join(job.output.parts[-3:]),
        "init": str(job.init),
        "blend": job.blend,
        "by_origin": dict(prepared.by_origin),
        "compute": job.compute,
        "num_trained_parameters": sum(
            # DeepSpeed leaves an empty tensor where it holds a part.
            getattr(p, "ds_numel", p.numel())
            for p in trainer.model.parameters()
            if p.requires_grad
        ),
        "peak_memory_bytes": saving.peak_memory_bytes(),
        "sft_config": masked(json.loads(json.dumps(trainer.args.to_dict(), default=str))),
    }


if __name__ == "__main__":
    sys.exit(main())
