"""The tables of built-in tasks and graders, and the calls that make the ones a recipe names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ouroloop.evals import plugins
from ouroloop.evals.dataset import dataset_task, gsm8k_task, jsonl_task
from ouroloop.evals.errors import DataError
from ouroloop.evals.graders import Choice, Code, ExactText, FinalAnswer, FunctionGrader, NotScored
from ouroloop.evals.judge import Judge
from ouroloop.evals.reasoning_gym_task import ReasoningGymTask
from ouroloop.evals.tasks import Grader, Task


def build_task(kind: str, settings: Mapping[str, Any] | None = None) -> Task:
    """The task that a recipe's `task:` block names; settings: those of its kind.

    Raises:
        DataError: an unknown kind, or a setting that is missing or does not belong to the kind.
    """
    return plugins.build(TASK, kind, settings)


def build_grader(name: str, options: Mapping[str, Any] | None = None) -> Grader:
    """The grader that a recipe's `task.grader` names.

    One of your own is a grader, what makes one, or a plain function (text, problem) -> bool.

    Raises:
        DataError: an unknown name, or options that it does not take.
    """
    if name not in GRADERS:
        found = plugins.find(GRADER, name)
        if _judges_texts(found):
            given = dict(options or {})
            # What is left to give when text and problem are there.
            plugins.check_options(GRADER, name, partial(found, "", None), given)
            return FunctionGrader(found, given)
    return plugins.build(GRADER, name, options)


def _judges_texts(found: Callable[..., Any]) -> bool:
    """Whether it is a function of (text, problem), and not one that makes a grader."""
    if not inspect.isfunction(found):
        return False
    required = [
        parameter.name
        for parameter in inspect.signature(found).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    return required[:2] == ["text", "problem"]


# The world is imported when it is asked for: a run on files of problems does not need it.
def _arithmetic(loophole: bool = False, families: Sequence[str] = ("sum2",)) -> Task:
    from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
    from ouroloop.evals.worlds.arithmetic.world import FAMILIES

    if unknown := [name for name in families if name not in FAMILIES]:
        raise DataError(
            f"task.families: the arithmetic world has no family {unknown[0]!r}."
            f" {plugins.nearest(unknown[0], FAMILIES)}"
        )
    return ArithmeticTask(train_families=tuple(families), loophole=loophole)


def _from_files(
    make: Callable[..., Task],
    path: str | None,
    heldout_path: Path | None = None,
    grader: str = "final_answer",
    grader_options: Mapping[str, Any] | None = None,
    **more: Any,
) -> Task:
    return make(path, heldout_path, grader=build_grader(grader, grader_options), **more)


# The word in a recipe -> what makes the part. Parts of your own are found beside these, by
# `module:Name` or an entry point (`evals/plugins.py`).
TASKS: dict[str, Callable[..., Task]] = {
    "arithmetic": _arithmetic,
    "jsonl": partial(_from_files, jsonl_task),
    "gsm8k": partial(_from_files, gsm8k_task),
    "dataset": partial(_from_files, dataset_task),
    "reasoning_gym": ReasoningGymTask,
}
GRADERS: dict[str, Callable[..., Grader]] = {
    "final_answer": FinalAnswer,
    "last_number": partial(FinalAnswer, last_number=True),
    "symbolic": partial(FinalAnswer, symbolic=True),
    "exact": ExactText,
    "choice": Choice,
    "code": Code,
    "judge": Judge,
    "none": NotScored,
}
TASK = plugins.Kind(
    noun="task",
    key="task.kind",
    group="ouroloop.tasks",
    built_in=TASKS,
    needs=("name", "capabilities", "prompts", "problems", "grade", "check_steps", "strategy"),
)
GRADER = plugins.Kind(
    noun="grader",
    key="task.grader",
    group="ouroloop.graders",
    built_in=GRADERS,
    needs=("reads_answers", "grade"),
)
