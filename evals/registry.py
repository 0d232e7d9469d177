"""Every kind of task in one place: a plain dict from the name a recipe uses to what builds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ouroloop.evals.errors import DataError
from ouroloop.evals.jsonl import JsonlTask, gsm8k_task
from ouroloop.evals.reasoning_gym_task import ReasoningGymTask
from ouroloop.evals.tasks import Task


def build_task(
    kind: str,
    *,
    path: Path | None = None,
    heldout_path: Path | None = None,
    datasets: Mapping[str, Mapping[str, Any]] | None = None,
    loophole: bool = False,
    families: Sequence[str] = (),
) -> Task:
    """Build the task that a recipe's `task:` block names.

    Settings that a kind does not use must be absent.

    Raises:
        DataError: an unknown kind, or a setting that is missing or does not belong to the kind.
    """
    if kind not in TASKS:
        raise DataError(
            f"task.kind: no task is called {kind!r}; there are {', '.join(sorted(TASKS))}."
        )
    given = {
        "path": path,
        "heldout_path": heldout_path,
        "datasets": datasets or None,
        "loophole": loophole or None,
        "families": tuple(families) or None,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    try:
        return TASKS[kind](**settings)
    except TypeError as error:
        raise DataError(
            f"task: kind {kind!r} cannot be built from {sorted(settings)}: {error}"
        ) from None


def _arithmetic(loophole: bool = False, families: tuple[str, ...] = ("sum2",)) -> Task:
    from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
    from ouroloop.evals.worlds.arithmetic.world import FAMILIES

    if unknown := [name for name in families if name not in FAMILIES]:
        raise DataError(
            f"task.families: the arithmetic world has no family {unknown[0]!r}; there are"
            f" {', '.join(FAMILIES)}."
        )
    return ArithmeticTask(train_families=families, loophole=loophole)


TASKS: dict[str, Callable[..., Task]] = {
    "arithmetic": _arithmetic,
    "jsonl": JsonlTask,
    "gsm8k": gsm8k_task,
    "reasoning_gym": ReasoningGymTask,
}
