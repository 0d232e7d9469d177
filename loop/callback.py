"""A collapse monitor for any trainer of transformers or TRL.

Measures a fixed panel while it trains, and stops it on HALT evidence.

`import loop` loads neither this nor transformers.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import Trainer, TrainerCallback

from ouroloop.loop.callback_generate import Generate
from ouroloop.loop.errors import DataError
from ouroloop.loop.views.monitor import HORIZON, judged_json, rule_of, sentence
from ouroloop.monitors.decision.rule import Decision, DecisionRule
from ouroloop.monitors.follower import Follower, Judged
from ouroloop.monitors.traces.files import read_file
from ouroloop.monitors.traces.reader import TraceReader, main_family
from ouroloop.monitors.traces.rows import TraceError

__all__ = ["CollapseMonitor", "Generate"]

Rows = Iterable[Mapping[str, Any]]
Sample = Callable[[Any, Any, int], Rows]
"""(model, tokenizer or processor, step) -> trace rows (docs/traces.md).

At step 0 best four times as many samples per problem.
"""

FOLDER = "collapse_monitor"
ACTIONS = {"continue": 0, "reinject": 1, "rollback": 2, "halt": 3}
NOT_MEASURED = "collapse/not_measured"
"""1 in the log of a step at which sampling or measuring failed."""
_log = logging.getLogger(__name__)


class CollapseMonitor(TrainerCallback):  # type: ignore[misc]
    """Measures at the start (the anchor), then every so often, and at the end.

    Judges with the panel; stops training on HALT evidence.

    Args: sample: gives the rows of a fixed panel under the current model; called in evaluation mode
        without gradients. `Generate` is a ready one. every_steps: measure after every so many
        optimizer steps. each_epoch: measure after every epoch; the default when neither of the
        others is asked for. on_evaluation: measure whenever the trainer evaluates; the readings
        join its metrics. on_halt: "stop" sets `control.should_training_stop`; "warn" only says so.
        tolerances: fields of `monitors.DecisionRule`, e.g. {"accuracy_loss": 0.02}. plan_rounds: how many
        times it will be measured in all. strategies: as `ouroloop monitor --strategies`. on_error:
        what an error in `sample`, in its rows or in the measurement does. "log": it is logged with
        its traceback, this measurement
            is marked "not measured", and training goes on; if it was the first, the next one that
            succeeds is the anchor. "raise": for tests.

    Readings stand in `state.log_history` as `collapse/<reading>`; after `attach(trainer)` they also
    go to the trainer's reporters. In `output_dir/collapse_monitor` lie the rows of each measurement
    (what `ouroloop monitor` reads) and decisions.jsonl. When training resumes from a checkpoint
    these are read back, those after its step forgotten. The trainer's random numbers are left as
    they were. In several processes the first one measures and tells the others; models sharded over
    processes (FSDP, ZeRO-3) are not supported.
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
        self.sample, self.every_steps, self.on_evaluation, self.on_halt = (
            sample,
            every_steps,
            on_evaluation,
            on_halt,
        )
        self.each_epoch = each_epoch or not (every_steps or on_evaluation)
        self.rule: DecisionRule = rule_of(
            [f"{name}={value}" for name, value in (tolerances or {}).items()], plan_rounds
        )
        self.strategies, self.on_error = strategies, on_error
        self.trainer: Trainer | None = None
        self.steps: list[int] = []
        self.judged: list[Judged] = []
        self._start_anew()

    def attach(self, trainer: Trainer) -> CollapseMonitor:
        """Add it to this trainer, and let the readings reach its reporters (W&B, MLflow.

        TensorBoard).
        """
        self.trainer = trainer
        if self not in trainer.callback_handler.callbacks:
            trainer.add_callback(self)
        return self

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Take up what was measured before this checkpoint, or measure the anchor."""
        self._start_anew()
        folder = _folder(args)
        if state.is_world_process_zero:
            with self._fence(f"reading back {folder}; it begins anew") as failed:
                if folder.is_dir():
                    self._take_up(folder, state.global_step)
            if failed:
                self._start_anew()
                with self._fence("putting the unreadable files aside"):
                    folder.replace(_free_name(folder))
        self.steps = _told_by_the_first(self.steps)
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
        """Measure with each evaluation while training (an evaluation before it has no anchor yet)."""
        if self.on_evaluation and self.steps:
            logs = self._measure(args, state, control, **more)
            if metrics is not None:
                metrics.update(logs)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Measure what came out."""
        self._measure(args, state, control, **more)

    def _start_anew(self) -> None:
        self.reader, self.follower, self.steps = (
            TraceReader(self.strategies),
            Follower(self.rule),
            [],
        )
        self.judged = []

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
        if self.steps and self.steps[-1] == step:
            return {}
        logs: dict[str, float] = {}
        halt = False
        if state.is_world_process_zero:
            judged = self._judged_or_not(_folder(args), step, model, processing_class)
            halt = judged is not None and judged.is_halt
            with self._fence(f"the decision of step {step} is not logged"):
                logs = {NOT_MEASURED: 1.0} if judged is None else _logs(judged)
                if judged is not None:
                    (_log.warning if halt else _log.info)(
                        "collapse monitor: %s", sentence(judged, f"step {step}")
                    )
                self._tell(state, control, logs)
        self.steps.append(step)
        if _told_by_the_first(halt) and self.on_halt == "stop":
            control.should_training_stop = True
        return logs

    def _judged_or_not(
        self, folder: Path, step: int, model: Any, processing_class: Any
    ) -> Judged | None:
        """Sample and judge; None, and all as it was before, where that fails."""
        follower = self.follower
        before = (
            copy.deepcopy(self.reader),
            replace(follower, history=[*follower.history], later_=[*follower.later_]),
        )
        judged = None
        with self._fence(f"step {step} is not measured") as failed:
            with _undisturbed(model):
                rows = [dict(row) for row in self.sample(model, processing_class, step)]
            judged = self._judge(folder, step, rows)
        if failed:
            self.reader, self.follower = before
            with self._fence(f"writing down that step {step} is not measured"):
                folder.mkdir(parents=True, exist_ok=True)
                _append(
                    folder,
                    {"step": step, "not_measured": f"{type(failed[0]).__name__}: {failed[0]}"},
                )
        return judged

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

    def _judge(self, folder: Path, step: int, rows: Sequence[Mapping[str, Any]]) -> Judged:
        """Judge the rows, then leave them and the decision behind."""
        lines = [json.dumps(row, default=_plain) for row in rows]
        try:
            view = self.reader.read(
                (f"sample() at step {step}, row {i}", json.loads(line))
                for i, line in enumerate(lines, start=1)
            )
            if not self.follower.rule.main_family:
                self.follower.rule = replace(self.rule, main_family=main_family(view))
            judged = self.follower.judge(view)
        except TraceError as error:
            raise DataError(str(error)) from error
        for note in self.reader.unreadable_notes():
            _log.warning("collapse monitor: %s", note)
        folder.mkdir(parents=True, exist_ok=True)
        file = _rows_file(folder, step)
        file.with_suffix(".tmp").write_text(
            "".join(line + "\n" for line in lines), encoding="utf-8"
        )
        file.with_suffix(".tmp").replace(file)
        _append(folder, {"step": step, **judged_json(judged)})
        self.judged.append(judged)
        return judged

    def _take_up(self, folder: Path, step: int) -> None:
        """Go on from the files of the interrupted run, up to this step.

        At step 0 a new run begins.
        """
        file = folder / "decisions.jsonl"
        known = [row for _, row in read_file(file)] if file.is_file() else []
        kept = [row for row in known if row["step"] <= step] if step else []
        measured = [row for row in kept if "not_measured" not in row]
        wanted = {_rows_file(folder, row["step"]) for row in measured}
        for old in folder.glob("step-*.jsonl"):
            if old not in wanted:
                old.unlink()
        file.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        self.steps = [row["step"] for row in kept]
        if not measured:
            return
        anchor = self.reader.read(read_file(_rows_file(folder, measured[0]["step"])))
        self.reader.rounds_ += [None] * (len(measured) - 1)
        self.follower.reference = anchor
        self.follower.rule = replace(
            self.rule, main_family=self.rule.main_family or main_family(anchor)
        )
        self.follower.history = [Decision.from_json(row) for row in measured]

    def _tell(self, state: Any, control: Any, logs: dict[str, float]) -> None:
        """Into the log history, through the trainer's reporters if there is a trainer.

        Its own averages and its next log line are left alone.
        """
        if self.trainer is not None:
            should_log = control.should_log
            Trainer.log(self.trainer, dict(logs))
            control.should_log = should_log  # logging anything takes the flag back
        else:
            state.log_history.append({**logs, "epoch": state.epoch, "step": state.global_step})


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """Evaluation mode, no gradients.

    Afterwards the mode and all random numbers are as they were.
    """
    is_training = bool(getattr(model, "training", False))
    states = random.getstate(), np.random.get_state()
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


def _told_by_the_first(value: Any) -> Any:
    """The first process's value, in all of them."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    told = [value]
    torch.distributed.broadcast_object_list(told, src=0)
    return told[0]


def _logs(judged: Judged) -> dict[str, float]:
    """Numbers for a trainer's log.

    Readings, the evidence of both tiers, the action as 0 to 3 (see `ACTIONS`).
    """
    out = {f"collapse/{r.name}": float(r.value) for r in judged.readings if math.isfinite(r.value)}
    found = judged.decision.evidence.items()
    evidence = {f"collapse/{tier}_log_e": tier_evidence.log_e for tier, tier_evidence in found}
    return {**out, **evidence, "collapse/action": float(ACTIONS[judged.decision.action])}


def _folder(args: Any) -> Path:
    return Path(args.output_dir) / FOLDER


def _rows_file(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.jsonl"


def _append(folder: Path, row: Mapping[str, Any]) -> None:
    """One line more in decisions.jsonl."""
    with (folder / "decisions.jsonl").open("a", encoding="utf-8") as decisions:
        decisions.write(json.dumps(row) + "\n")


def _free_name(folder: Path) -> Path:
    """A name beside it that nothing has yet."""
    numbers = itertools.count(1)
    return next(
        name
        for n in numbers
        if not (name := folder.with_name(f"{folder.name}-unread-{n}")).exists()
    )


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise DataError(
        f"sample(): a row holds a {type(value).__name__}; expected texts, numbers, truth values,"
        " lists or None, as in docs/traces.md."
    )
