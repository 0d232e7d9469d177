"""A trainer that ran out of memory or fell silent is started again. Imports nothing heavy."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ouroloop.loop.errors import OutOfMemoryError, TrainerSilentError
from ouroloop.loop.objectives.job import Retry, TrainingJob

# transformers' own, where a recipe does not say.
BATCH, ACCUMULATION = 8, 1
# What libraries say in a RuntimeError of their own; MemoryError and torch's class need no words.
_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "Cannot allocate memory")


def memory_error(error: BaseException) -> OutOfMemoryError | None:
    """The same error as one of ours where it is one of memory, else None."""
    # By its name: torch's class cannot be asked for without importing torch.
    is_own_kind = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    in_words = isinstance(error, RuntimeError | OSError) and any(w in str(error) for w in _WORDS)
    if is_own_kind or in_words:
        said = " ".join(str(error).split())[:500]
        return OutOfMemoryError(f"training ran out of memory: {said or type(error).__name__}")
    return None


def retries_in(facts: Mapping[str, Any]) -> tuple[Retry, ...]:
    """What a train.json says was tried before the training that it is of."""
    return tuple(Retry(**retry) for retry in facts.get("retries", ()))


def retries_of(folder: Path) -> tuple[Retry, ...]:
    """The same of a round's folder."""
    return retries_in(json.loads((folder / "train.json").read_text(encoding="utf-8")))


def batch_of(job: TrainingJob) -> tuple[int, int]:
    """(rows per device, steps of gradient accumulation)."""
    batch = job.settings.get("per_device_train_batch_size", BATCH)
    return int(batch), int(job.settings.get("gradient_accumulation_steps", ACCUMULATION))


def halved(job: TrainingJob) -> TrainingJob | None:
    """The job at half the batch per device, or less, and the same effective batch.

    None where there is none smaller.
    """
    batch, accumulation = batch_of(job)
    effective = batch * accumulation
    smaller = batch // 2
    # A batch of 6 becomes 3, one of 5 becomes 1: the product must stay what it is.
    while smaller > 1 and effective % smaller:
        smaller -= 1
    if smaller < 1:
        return None
    changes = {
        "per_device_train_batch_size": smaller,
        "gradient_accumulation_steps": effective // smaller,
    }
    return replace(job, settings={**job.settings, **changes})


@dataclass
class Attempts:
    """How often a training may be tried: `run` until it ends well or nothing is left to try."""

    job: TrainingJob
    num_silent: int = 0

    def carry_out(self, run: Callable[[TrainingJob], None]) -> None:
        """Run the job.

        Raises:
            OutOfMemoryError: also at the smallest batch.
            TrainerSilentError: also at the last start.
            OuroloopError: what else `run` raises, at once.
        """
        while True:
            try:
                return run(self.job)
            except OutOfMemoryError as error:
                # Not counted, unlike silences: halving ends by itself, at one row per device.
                smaller = halved(self.job) if self.job.supervision.halve_batch else None
                if smaller is None:
                    raise OutOfMemoryError(f"{error}\n{self._remedy()}") from error
                self._again("memory", smaller, error)
            except TrainerSilentError as error:
                self.num_silent += 1
                if self.num_silent > self.job.supervision.restarts:
                    raise
                self._again("silence", self.job, error)

    def _again(
        self, cause: Literal["memory", "silence"], job: TrainingJob, error: Exception
    ) -> None:
        batch, accumulation = batch_of(self.job)
        retry = Retry(cause, batch, accumulation, *batch_of(job))
        logging.getLogger(__name__).warning("%s: %s. %s", job.output, retry, error)
        self.job = replace(job, retries=(*job.retries, retry))

    def _remedy(self) -> str:
        batch, accumulation = batch_of(self.job)
        if not self.job.supervision.halve_batch:
            return "supervision.halve_batch: true would try half the batch per device."
        return (
            f"It was tried down to {batch} rows per device with {accumulation} steps of"
            " accumulation. Set gradient_checkpointing: true, train an adapter (peft: auto), lower"
            " engine.max_model_len, or stop the engine while training (engine.swap: respawn)."
        )
