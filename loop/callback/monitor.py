"""A collapse monitor for any trainer of transformers or TRL.

Measures a fixed probe set while it trains, and stops the training on HALT evidence.

`import ouroloop.loop` loads neither this nor transformers.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import Trainer, TrainerCallback

from ouroloop.loop.callback.generate import Generate
from ouroloop.loop.callback.progress import DEFAULT_MEASUREMENTS, Progress, measurements_left
from ouroloop.loop.callback.record import Record, free_name
from ouroloop.loop.errors import DataError
from ouroloop.loop.views.monitor import HORIZON, rule_of, sentence
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.follower import Judged
from ouroloop.monitors.names import Action

__all__ = ["CollapseMonitor", "Generate"]

Rows = Iterable[Mapping[str, Any]]
# (model, tokenizer or processor, step) -> trace rows (docs/traces.md). At step 0 best four times
# as many samples per problem.
Sample = Callable[[Any, Any, int], Rows]

FOLDER = "collapse_monitor"
# A trainer's log holds numbers only: the actions by severity, which is the order of the enum.
ACTIONS = {action: severity for severity, action in enumerate(Action)}
# 1 in the log of a step at which sampling or measuring failed.
NOT_MEASURED = "collapse/not_measured"

_log = logging.getLogger(__name__)


class CollapseMonitor(TrainerCallback):  # type: ignore[misc]
    """Measures at the start (the baseline), then every so often, and at the end.

    Judges with the decision rule; stops training on HALT evidence.

    Args:
        sample: Gives the rows of a fixed probe set under the current model; called in evaluation
            mode without gradients. `Generate` is a ready one.
        every_steps: Measure after every so many optimizer steps.
        each_epoch: Measure after every epoch.
        on_evaluation: Measure whenever the trainer evaluates; the readings join its metrics.
            When none of the three is asked for: ten times, evenly spread over the training.
        on_halt: "stop" sets `control.should_training_stop`; "warn" only logs a warning.
        tolerances: Fields of `DecisionRule`, e.g. {"accuracy_loss": 0.02}.
        plan_rounds: How many times it will be measured in all.
        strategies: As `ouroloop monitor --strategies`.
        on_error: What an error in `sample`, in its rows or in the measurement does. "log": it is
            logged with its traceback, this measurement is marked "not measured", and training goes
            on; if it was the first, the next one that succeeds is the baseline. "raise": for tests.
        quiet: Say nothing on the terminal but warnings: not what it measures, what came of it, how
            long that took and what is still to come.

    Readings stand in `state.log_history` as `collapse/<reading>`; after `attach(trainer)` they also
    go to the trainer's reporters. In `output_dir/collapse_monitor` lie the rows of each measurement
    (what `ouroloop monitor` reads) and decisions.jsonl. When training resumes from a checkpoint
    these are read back, those after its step removed. The trainer's random numbers are left as
    they were. In several processes the first one measures and sends the others its decision; models
    sharded over processes (FSDP, ZeRO-3) are not supported.
    """

    def __init__(
        self,
        sample: Sample,
        *,
        every_steps: int | None = None,
        each_epoch: bool = False,
        on_evaluation: bool = False,
        on_halt: Literal["stop", "warn"] = "stop",
        tolerances: Mapping[str, float | str] | None = None,
        plan_rounds: int = HORIZON,
        strategies: str | None = None,
        on_error: Literal["log", "raise"] = "log",
        quiet: bool = False,
    ) -> None:
        if on_error not in ("log", "raise"):
            raise DataError(
                f"CollapseMonitor: on_error is {on_error!r}; expected 'log' or 'raise'."
            )
        if on_halt not in ("stop", "warn"):
            raise DataError(f"CollapseMonitor: on_halt is {on_halt!r}; expected 'stop' or 'warn'.")
        if every_steps is not None and every_steps < 1:
            raise DataError(
                f"CollapseMonitor: every_steps is {every_steps}; expected at least 1, or None."
            )
        self.sample, self.strategies = sample, strategies
        self.every_steps, self.on_evaluation = every_steps, on_evaluation
        self.each_epoch, self.quiet = each_epoch, quiet
        self.on_halt, self.on_error = on_halt, on_error
        settings = [f"{name}={value}" for name, value in (tolerances or {}).items()]
        self.rule: DecisionRule = rule_of(settings, plan_rounds)
        self.trainer: Trainer | None = None
        self.steps: list[int] = []
        self.judged: list[Judged] = []
        self._start_anew()

    def attach(self, trainer: Trainer) -> CollapseMonitor:
        """Add it to this trainer, and let the readings reach its reporters.

        Those are W&B, MLflow, TensorBoard and whatever else `report_to` names.
        """
        self.trainer = trainer
        # A second `attach` would measure everything twice.
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        return self

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Read back what was measured before this checkpoint, or measure the baseline."""
        self._start_anew()
        self._choose_steps(state)
        folder = _folder(args)
        if state.is_world_process_zero:
            with self._fence(f"reading back {folder}; it begins anew") as failed:
                if folder.is_dir():
                    self.steps = self.record.read_back(folder, state.global_step)
            if failed:
                self._start_anew()
                with self._fence("putting the unreadable files aside"):
                    folder.replace(free_name(folder))
        # Only the first process read the files, and all have to agree on whether to measure now.
        self.steps = _from_first_process(self.steps)
        if not self.steps:
            self._measure(args, state, control, **more)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Measure every `every_steps`."""
        if self.every_steps and state.global_step % self.every_steps == 0:
            self._measure(args, state, control, **more)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Measure each epoch."""
        if self.each_epoch:
            self._measure(args, state, control, **more)

    def on_evaluate(
        self,
        args: Any,
        state: Any,
        control: Any,
        metrics: dict[str, float] | None = None,
        **more: Any,
    ) -> None:
        """Measure with each evaluation while training.

        An evaluation before the training has no baseline yet.
        """
        # The callback sees `metrics` after the trainer logged them, hence the reporters get the
        # readings from `_log_numbers`; here they join what `evaluate` returns.
        if self.on_evaluation and self.steps:
            logs = self._measure(args, state, control, **more)
            if metrics is not None:
                metrics.update(logs)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Measure what came out."""
        self._measure(args, state, control, **more)
        if state.is_world_process_zero:
            self.progress.over()

    def _choose_steps(self, state: Any) -> None:
        """When to measure, where nothing was asked for."""
        if self.every_steps or self.each_epoch or self.on_evaluation:
            return
        # Not every epoch: a training of one epoch would be measured when it is too late.
        max_steps = int(getattr(state, "max_steps", 0) or 0)
        self.every_steps = math.ceil(max_steps / DEFAULT_MEASUREMENTS) or None
        self.each_epoch = self.every_steps is None

    def _start_anew(self) -> None:
        self.progress = Progress(tell=_silent) if self.quiet else Progress()
        self.record = Record(self.rule, self.strategies)
        self.steps, self.judged = [], []

    def _measure(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        processing_class: Any = None,
        **more: Any,
    ) -> dict[str, float]:
        """Measure once per step; returns what was logged."""
        step = int(state.global_step)
        # The last epoch, the last evaluation and the end of training may all be one step.
        if self.steps and self.steps[-1] == step:
            return {}
        logs: dict[str, float] = {}
        halt = False
        if state.is_world_process_zero:
            began = self.progress.clock()
            judged = self._judged_or_not(_folder(args), step, model, processing_class)
            halt = judged is not None and judged.is_halt
            self._tell(judged, state, self.progress.clock() - began)
            with self._fence(f"the decision of step {step} is not logged"):
                logs = _logs(judged)
                if judged is not None and halt:
                    _log.warning("collapse monitor: %s", sentence(judged, f"step {step}"))
                self._log_numbers(state, control, logs)
        self.steps.append(step)
        # Every process has to stop in the same step, or the others wait for it for ever.
        if _from_first_process(halt) and self.on_halt == "stop":
            control.should_training_stop = True
        return logs

    def _judged_or_not(
        self, folder: Path, step: int, model: Any, processing_class: Any
    ) -> Judged | None:
        """Sample and judge; None, and all as it was before, where that fails."""
        before = self.record.copy()
        with self._fence(f"step {step} is not measured") as failed:
            with _undisturbed(model):
                # `Generate` knows how many there will be; a function of the user's need not.
                num_rows = getattr(self.sample, "num_rows", None)
                total = num_rows(step) if num_rows else None
                sampled = self.sample(model, processing_class, step)
                rows = list(self.progress.watched(sampled, step, total))
            judged = self.record.judge(folder, step, rows)
            self.judged.append(judged)
            return judged
        self.record = before
        with self._fence(f"writing down that step {step} is not measured"):
            self.record.skip(folder, step, failed[0])
        return None

    def _tell(self, judged: Judged | None, state: Any, seconds: float) -> None:
        """Say what came of a measurement, and after the first one how long the others will take."""
        step = int(state.global_step)
        outcome = "not measured"
        if judged is not None:
            reason = (judged.decision.reasons or ["no reason"])[0]
            outcome = f"{judged.decision.action}: {reason}"
        self.progress.measured(step, seconds, outcome)
        left = measurements_left(self.every_steps, step, int(getattr(state, "max_steps", 0) or 0))
        if judged is None or left is None or judged.decision.round:
            return
        share = None
        if num_rows := getattr(self.sample, "num_rows", None):
            share = num_rows(step + 1) / max(1, num_rows(step))
        self.progress.forecast(left, share, seconds)

    @contextmanager
    def _fence(self, what: str) -> Iterator[list[Exception]]:
        """Let no error of the block through, unless `on_error` says so.

        It is logged, and the list that is given holds it.
        """
        failed: list[Exception] = []
        try:
            yield failed
        except Exception as error:
            if self.on_error == "raise":
                raise
            _log.warning(
                "collapse monitor: %s (%s: %s)", what, type(error).__name__, error, exc_info=True
            )
            failed.append(error)

    def _log_numbers(self, state: Any, control: Any, logs: dict[str, float]) -> None:
        """Into the log history, through the trainer's reporters if there is a trainer.

        `Trainer.log` of the base class, not the trainer's own: TRL's trainers add averages of the
        steps since their last line there, and begin them anew.
        """
        if self.trainer is not None:
            should_log = control.should_log
            Trainer.log(self.trainer, dict(logs))
            # Logging anything takes the flag back, and with it the trainer's own line of this step.
            control.should_log = should_log
        else:
            state.log_history.append({**logs, "epoch": state.epoch, "step": state.global_step})


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """Evaluation mode, no gradients.

    Afterwards the mode and all random numbers are as they were.
    """
    # A model may be fine-tuned in evaluation mode (no dropout): the mode is put back, not set.
    is_training = bool(getattr(model, "training", False))
    states = random.getstate(), np.random.get_state()
    # Of the GPUs only the current one: fork_rng would copy the state of every visible one.
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            if is_training:
                model.eval()
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if is_training:
            model.train()


def _from_first_process(value: Any) -> Any:
    """The first process's value, in all of them."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    shared = [value]
    torch.distributed.broadcast_object_list(shared, src=0)
    return shared[0]


def _logs(judged: Judged | None) -> dict[str, float]:
    """Numbers for a trainer's log.

    Readings, the evidence of both tiers, the action as 0 to 3 (see `ACTIONS`); of a measurement
    that failed only that it did.
    """
    if judged is None:
        return {NOT_MEASURED: 1.0}
    logs = {}
    for reading in judged.readings:
        # An undefined reading is NaN, which some reporters refuse.
        if math.isfinite(reading.value):
            logs[f"collapse/{reading.name}"] = float(reading.value)
    for tier, evidence in judged.decision.evidence.items():
        logs[f"collapse/{tier}_log_e"] = evidence.log_e
    logs["collapse/action"] = float(ACTIONS[judged.decision.action])
    return logs


def _silent(line: str) -> None:
    """Where a person asked for quiet."""


def _folder(args: Any) -> Path:
    return Path(args.output_dir) / FOLDER
