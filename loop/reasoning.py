"""Thoughts in a text: where they end, and what is read after them.

A reasoning model writes `<think> ... </think>` before its answer. Templates of some models put the
opening mark into the prompt, so that only the closing one appears in what is sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ouroloop.evals.tasks import Grade, Problem, Prompts, StepCheck, Task
from ouroloop.loop.config import Recipe
from ouroloop.loop.config.reasoning import ReasoningConfig
from ouroloop.loop.engines.template_local import rendered_question


@dataclass(frozen=True)
class Reasoning:
    """The recipe's marks. opened_by_prompt: the prompt already ends with the opening mark."""

    config: ReasoningConfig
    opened_by_prompt: bool = False

    def answer(self, text: str) -> str | None:
        """What stands after the last thought; None where a thought was not closed."""
        _, mark, after = text.rpartition(self.config.close)
        if self.config.open in (after if mark else text):
            return None
        # Nothing was closed that the prompt had opened.
        if not mark and self.opened_by_prompt:
            return None
        return after.strip() if mark else text

    def seen(self, text: str) -> str:
        """What the critic, the step checker and the strategy readers see of a text."""
        if self.config.critic_sees == "all":
            return text
        return self.answer(text) or ""

    def learnt(self, text: str) -> str:
        """The text that is trained on where thoughts are stripped.

        After a prompt that opens a thought an empty one is closed first: the template will open one
        again, and the model must learn to close it.
        """
        answer = self.answer(text) or ""
        if self.opened_by_prompt:
            return f"{self.config.close}\n\n{answer}"
        return answer


@dataclass(frozen=True)
class ThinkingTask:
    """A task whose texts hold thoughts: every reader gets what the recipe lets it see.

    Answers are read after the thought; one that is not closed is no answer.
    """

    task: Task
    reasoning: Reasoning

    def __getattr__(self, name: str) -> Any:
        # All that reads no text (name, capabilities, prompts, problems, corrupt) is the task's own.
        if name == "task":
            raise AttributeError(name)
        return getattr(self.task, name)

    def grade(self, problem: Problem, text: str) -> Grade:
        """The grade of what stands after the thought; nothing there is no answer."""
        answer = self.reasoning.answer(text)
        if not answer:
            correct = None if problem.answer is None else False
            method = "unclosed thought" if answer is None else "nothing after the thought"
            return Grade(correct, None, method, is_closed=False)
        return self.task.grade(problem, answer)

    def check_steps(self, problem: Problem, text: str) -> StepCheck:
        """The steps that the recipe lets it see."""
        return self.task.check_steps(problem, self.reasoning.seen(text))

    def strategy(self, problem: Problem, text: str) -> str | None:
        """The strategy of what the recipe lets it see."""
        return self.task.strategy(problem, self.reasoning.seen(text))


def opens_thought(folder: Path, prompts: Prompts, recipe: Recipe) -> bool:
    """Whether a prompt of this checkpoint ends inside a thought."""
    assert recipe.reasoning is not None
    mark = recipe.reasoning.open
    if not prompts.chat:
        return prompts.draft.rstrip().endswith(mark)
    return rendered_question(folder, recipe.chat_template_kwargs).rstrip().endswith(mark)
