"""Which texts the critic is asked about: the filters that need no critic judge a text first.

Only filters on single samples can: agreement, duplicates and caps compare samples that are not
there yet. What is spared changes no other request, for seeds do not depend on what was asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from ouroloop.evals.tasks import Task
from ouroloop.loop.config import Recipe
from ouroloop.loop.config.sampling import Criticise
from ouroloop.loop.records import Completion, Problem, Sample
from ouroloop.loop.stages import filters
from ouroloop.loop.stages.case import examine


@dataclass(frozen=True)
class Triage:
    """Judges a text as the round's filters will, but for the critic.

    criticise: which texts (`refine.criticise`). tried: the filters.
    """

    criticise: Criticise
    task: Task
    tried: tuple[filters.Each, ...]

    @classmethod
    def of(cls, recipe: Recipe, task: Task) -> Triage:
        """As the recipe has it."""
        config = recipe.filters.model_copy(update={"critic": False})
        return cls(recipe.refine.criticise, task, tuple(filters.single_filters(config)))

    def is_asked(self, problem: Problem, text: Completion) -> bool:
        """Whether the critic is asked about the text."""
        if self.criticise == "all":
            return True
        return self.is_rejected(problem, text) == (self.criticise == "failing")

    def is_rejected(self, problem: Problem, text: Completion) -> bool:
        """Whether some filter that needs no critic rejects the text."""
        sample = Sample("triage", problem.id, 0, 0.0, text)
        # No strategy is named: single filters look at none.
        (case,) = examine([sample], {problem.id: problem}, self.task, lambda *_: None)
        return any(each.objects(case) for each in self.tried)
