"""Any data sets of reasoning-gym as one task (extra `verify`).

Generated problems, scored by the data set's own rule, strictly.

Two traps are closed here. Item i of a data set is drawn with seed + i, so neighbouring seeds give
the same problems: the splits' seeds lie 10**8 apart and questions are compared besides. And
`score_answer` gives partial credit to wrong answers, takes the first number it sees and loses minus
signs: numbers are compared exactly first, the final answer is extracted before it is scored, and
only a full score counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ouroloop.evals.corrupt import corrupt
from ouroloop.evals.errors import DataError, SandboxError
from ouroloop.evals.grading import grade
from ouroloop.evals.problem_files import text_digest
from ouroloop.evals.questions import normalised
from ouroloop.evals.sandbox import Sandbox
from ouroloop.evals.steps import check
from ouroloop.evals.tasks import (
    WORKED_SOLUTIONS,
    Capability,
    Grade,
    Problem,
    Prompts,
    Split,
    StepCheck,
)
from ouroloop.monitors.arith.answers import canonical, extract_answer

# First seed of each split. Splits of fewer than 10**7 problems cannot overlap by seed.
SEEDS: dict[Split, int] = {"train": 0, "heldout": 10**8, "reserve": 2 * 10**8}
MAX_SIZE = 10**7

_PLAIN = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


@dataclass(frozen=True)
class ReasoningGymTask:
    """Problems of one or more data sets, one family each.

    `datasets` maps a data set's name to its settings; sizes are per data set, before questions that
    occur twice are dropped (held-out questions are kept, training gives way). The reserve's
    problems have no `solution`: reasoning-gym knows answers, not demonstrations.
    """

    datasets: Mapping[str, Mapping[str, Any]]
    train_size: int = 1000
    heldout_size: int = 200
    reserve_size: int = 200
    name: str = "reasoning_gym"
    prompts: Prompts | None = None
    capabilities: frozenset[Capability] = WORKED_SOLUTIONS
    _sandbox: Sandbox = field(
        default_factory=lambda: Sandbox("ouroloop.evals.reasoning_gym_score:score"),
        init=False,
        repr=False,
        compare=False,
    )

    def __post_init__(self) -> None:
        sizes = (self.train_size, self.heldout_size, self.reserve_size)
        if not self.datasets or min(sizes) < 1 or max(sizes) > MAX_SIZE:
            raise DataError(
                f"reasoning_gym: expected at least one data set and sizes from 1 to {MAX_SIZE}, got"
                f" {list(self.datasets)} and sizes {sizes}."
            )
        for name, config in self.datasets.items():
            if taken := sorted({"seed", "size"} & set(config)):
                raise DataError(
                    f"reasoning_gym: {name} sets {taken}; seeds and sizes keep the splits apart and"
                    " are set by the task."
                )

    def problems(self, split: Split) -> list[Problem]:
        """All problems of a split, data set by data set; no question occurs in two splits.

        Raises:
            DataError: an unknown data set, a setting it refuses, or the extra is not installed.
        """
        return list(self._splits[split])

    def grade(self, problem: Problem, text: str) -> Grade:
        """Judge the final answer in `text`.

        Numbers exactly, anything else by the data set's scorer in a sandbox, full score only.
        """
        # score_answer takes the first number of a text and drops its sign: numbers are ours.
        if _PLAIN.fullmatch(problem.answer or ""):
            return grade(problem.answer, text)
        stated = extract_answer(text)
        read = None
        if stated is not None:
            read = canonical(stated)
        if stated is None or read is None:
            return Grade(False, None, "no answer" if stated is None else "unreadable")
        config = dict(self.datasets[problem.family])
        entry = {
            "question": problem.question,
            "answer": problem.answer,
            "metadata": problem.metadata,
        }
        try:
            return Grade(
                self._sandbox.call(problem.family, config, stated, entry) >= 1.0,
                read,
                "reasoning_gym",
            )
        except SandboxError:
            return Grade(False, read, "reasoning_gym error")

    def check_steps(self, problem: Problem, text: str) -> StepCheck:
        """Check every calculation in `text`."""
        return check(text)

    def strategy(self, problem: Problem, text: str) -> str | None:
        """None: reasoning-gym does not know strategies."""
        return None

    def corrupt(
        self, problem: Problem, text: str, seed: int, keep_answer: bool = False
    ) -> str | None:
        """One number changed."""
        return corrupt(self, problem, text, seed, keep_answer)

    @cached_property
    def _splits(self) -> dict[Split, list[Problem]]:
        seen: set[str] = set()
        # Held-out first: of a question that occurs twice, it is the training copy that goes.
        sizes: dict[Split, int] = {
            "heldout": self.heldout_size,
            "reserve": self.reserve_size,
            "train": self.train_size,
        }
        splits: dict[Split, list[Problem]] = {split: [] for split in sizes}
        for split, size in sizes.items():
            for name, config in self.datasets.items():
                for problem in _generate(name, config, SEEDS[split], size):
                    if (key := normalised(problem.question)) not in seen:
                        seen.add(key)
                        splits[split].append(problem)
            if not splits[split]:
                raise DataError(
                    f"reasoning_gym: no {split} problem is left after removing repeated questions; "
                    "use settings with more variety."
                )
        return splits


def _generate(name: str, config: Mapping[str, Any], seed: int, size: int) -> list[Problem]:
    try:
        import reasoning_gym
    except ImportError as error:
        raise DataError(
            f"reasoning_gym: the library cannot be imported ({error}). Install it: pip install"
            " 'ouroloop[verify]'"
        ) from None
    from reasoning_gym.factory import DATASETS

    if name not in DATASETS:
        raise DataError(
            f"reasoning_gym: no data set is called {name!r}; there are"
            f" {', '.join(sorted(DATASETS))}."
        )
    try:
        items = list(reasoning_gym.create_dataset(name, size=size, seed=seed, **config))
    except (TypeError, ValueError, AssertionError) as error:
        raise DataError(
            f"reasoning_gym: {name} refuses its settings {dict(config)}: {error}"
        ) from None
    return [
        Problem(
            id=f"{name}-{text_digest(item['question'])[:16]}",
            question=item["question"],
            answer=None if item["answer"] is None else str(item["answer"]),
            family=name,
            metadata=item["metadata"],
        )
        for item in items
    ]
