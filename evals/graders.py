"""Graders: who reads a text's final answer and says whether it is the gold one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ouroloop.evals.grading import grade
from ouroloop.evals.sandbox import Sandbox
from ouroloop.evals.tasks import Grade, Problem


@dataclass(frozen=True)
class FinalAnswer:
    """Compares the final answer with the gold one, numbers exactly.

    last_number: without a final-answer marker the last number of a text is its answer. symbolic:
    compare expressions with math-verify in a sandbox (extra `verify`).
    """

    last_number: bool = False
    symbolic: bool = False
    reads_answers: bool = True

    def grade(self, problem: Problem, text: str) -> Grade:
        """`correct` is None for a problem without a gold answer."""
        return grade(problem.answer, text, last_number=self.last_number, symbolic=self._sandbox)

    @cached_property
    def _sandbox(self) -> Sandbox | None:
        # A process of its own: a comparison can run without end on a hostile expression.
        if not self.symbolic:
            return None
        return Sandbox("ouroloop.evals.symbolic:same_expression")


@dataclass(frozen=True)
class NotScored:
    """Scores nothing: free text, judged by a critic or by filters alone."""

    reads_answers: bool = False

    def grade(self, problem: Problem, text: str) -> Grade:
        """Unscored is not wrong."""
        return Grade(None, None, "not scored")
