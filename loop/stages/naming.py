"""What names a text's strategy in this run.

The task's truth, a canonicaliser, or clusters that are learned on round 0 and then frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ouroloop.evals.tasks import Capability, Task
from ouroloop.loop.errors import RunStateError
from ouroloop.loop.folder.storage import write_text
from ouroloop.loop.records import Problem
from ouroloop.loop.stages.judging import Strategy
from ouroloop.monitors.strategies.strategy import CANONICALISERS, Canonicaliser
from ouroloop.monitors.strategies.templates import Templates


@dataclass(frozen=True)
class Canonical:
    """A canonicaliser of `monitors` as a strategy reader."""

    reader: Canonicaliser
    seen: Callable[[str], str] = str

    @property
    def name(self) -> str:
        """The canonicaliser's name: counts of texts that it cannot read show it."""
        return self.reader.name

    def __call__(self, problem: Problem, text: str) -> str | None:
        """The strategy of `text`, an answer to `problem`."""
        return self.reader(problem.question, self.seen(text))


@dataclass
class Learned:
    """Step templates (`ouroloop.monitors.strategies.templates`).

    Fitted on round 0's texts of the main family and kept in the run folder for later rounds.
    """

    path: Path | None = None
    learner_: Templates = field(default_factory=Templates)
    name: str = "templates"
    seen: Callable[[str], str] = str

    def __call__(self, problem: Problem, text: str) -> str | None:
        """The text's cluster, or "new" where none is near.

        Raises:
            RunStateError: nothing was learned yet.
        """
        if not self.learner_.is_fitted_:
            raise RunStateError(
                "monitors.canonicaliser templates: nothing was learned from round 0 yet"
            )
        return self.learner_(problem.question, self.seen(text))

    def keep_in(self, path: Path) -> None:
        """Where what is learned is kept; read back when it is there already."""
        self.path = path
        if path.exists():
            self.learner_ = Templates.from_json(path.read_text(encoding="utf-8"))

    def learn(self, pairs: Sequence[tuple[Problem, str]]) -> None:
        """Fit once, on round 0's texts, right and wrong ones alike.

        A second call changes nothing.
        """
        # Frozen after round 0: names that move would read as strategies that die.
        if self.learner_.is_fitted_:
            return
        texts = [self.seen(text) for _, text in pairs]
        self.learner_.fit([problem.question for problem, _ in pairs], texts)
        # Atomically: a resumed run must name strategies as the run before it did, or learn anew.
        if self.path is not None:
            write_text(self.path, self.learner_.to_json())


def strategist(task: Task, kind: str) -> Strategy | Learned:
    """The recipe's choice; "task" is the best that the task can offer.

    Its own truth, or else the dataflow of its calculations, or else (free text) step templates.
    """
    if kind == "task" and Capability.STRATEGIES in task.capabilities:
        return task.strategy
    if kind == "task":
        kind = "dataflow" if Capability.NUMBERS in task.capabilities else "templates"
    if kind == "templates":
        return Learned()
    return Canonical(CANONICALISERS[kind])


def seeing(strategy: Strategy | Learned, seen: Callable[[str], str]) -> Strategy | Learned:
    """The same reader, which sees of a text what `seen` leaves: thoughts may be hidden from it."""
    if isinstance(strategy, Canonical | Learned):
        return replace(strategy, seen=seen)
    return lambda problem, text: strategy(problem, seen(text))
