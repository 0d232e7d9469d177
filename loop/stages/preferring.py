"""Which of two samples does the feedback model prefer, and how surely?

The published question is asked in both orders of the two, and the answer is read from the model's
probabilities of (A) and (B), so that a model that likes a letter better says nothing by it.

Source: Bai et al. 2212.08073, section 4.1 (normalised probabilities of the two answers); both
orders: Zheng et al. 2306.05685, section 3.4, there for whole verdicts.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ouroloop.evals.tasks import Problem
from ouroloop.loop.config import PairsConfig
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.records import Prompt, Scored
from ouroloop.loop.stages.comparison import (
    CHOICES,
    ComparisonShot,
    comparison_principles,
    comparison_prompt,
    comparison_shots,
)
from ouroloop.loop.stages.dialogue import conversation
from ouroloop.loop.stages.refine import Progress

# The second of the published principles, which names no subject.
PRINCIPLE = "Please choose the response that is the most helpful, honest, and harmless."
# Comparisons that are scored at a time; progress is shown in between.
AT_A_TIME = 64


@dataclass(frozen=True)
class Comparison:
    """Two texts that answer one problem. seed: of the principle that they are compared by."""

    problem: Problem
    first: str
    second: str
    seed: int


@dataclass(frozen=True)
class Preference:
    """What the model makes of a comparison.

    first_is_better: probability, over both orders; None where the question did not fit into the
    engine's context.
    """

    first_is_better: float | None
    principle: str


@dataclass(frozen=True)
class Comparer:
    """What comparisons appeal to: principles, and worked comparisons before every question."""

    principles: tuple[str, ...] = (PRINCIPLE,)
    shots: tuple[ComparisonShot, ...] = ()
    chat: bool = False

    @classmethod
    def of(cls, config: PairsConfig, chat: bool) -> Comparer:
        """As the recipe's `pairs` section says. chat: questions are asked as chat turns.

        Raises:
            DataError: a file is missing or not of the published form.
        """
        found = comparison_principles(config.principles) if config.principles else (PRINCIPLE,)
        shots = comparison_shots(config.few_shots) if config.few_shots else ()
        return cls(found, shots, chat)

    async def compare(
        self, engine: Engine, comparisons: Sequence[Comparison], report: Progress
    ) -> list[Preference]:
        """The preference of the model that `engine` serves, for each comparison."""
        found: list[Preference] = []
        report("comparing", 0, len(comparisons))
        for start in range(0, len(comparisons), AT_A_TIME):
            found += await self._compare(engine, comparisons[start : start + AT_A_TIME])
            report("comparing", len(found), len(comparisons))
        return found

    async def _compare(self, engine: Engine, comparisons: Sequence[Comparison]) -> list[Preference]:
        principles = [random.Random(one.seed).choice(self.principles) for one in comparisons]
        asked: list[tuple[Prompt, str]] = []
        for one, principle in zip(comparisons, principles, strict=True):
            for first, second in ((one.first, one.second), (one.second, one.first)):
                prompt = self._prompt(one, principle, first, second)
                asked += [(prompt, self._answer(choice)) for choice in CHOICES]
        scored = await engine.score(asked)
        return [
            Preference(probability_of_first(scored[4 * i : 4 * i + 4]), principle)
            for i, principle in enumerate(principles)
        ]

    def question(self, comparison: Comparison, principle: str, first: str, second: str) -> str:
        """The published question, with `first` as (A)."""
        asked = conversation(comparison.problem)
        return comparison_prompt(asked, principle, first, second, self.shots, comparison.seed)

    def _prompt(self, comparison: Comparison, principle: str, first: str, second: str) -> Prompt:
        text = self.question(comparison, principle, first, second)
        return [{"role": "user", "content": text}] if self.chat else text

    def _answer(self, choice: str) -> str:
        # A chat template puts its own blanks before an answer.
        return choice.strip() if self.chat else choice


def probability_of_first(scored: Sequence[Scored]) -> float | None:
    """The probability that the first text of a comparison is the better one.

    Args:
        scored: (A) and (B) with the first text as (A), then both with the second text as (A).

    The two orders' log-odds are averaged: what the model gives a letter, whatever stands under it,
    is added to one and taken from the other, and cancels exactly.
    """
    if not all(found.logprobs for found in scored):
        return None
    # Without the token that ends the answer: only which letter is asked.
    a_first, b_first, a_swapped, b_swapped = (sum(found.logprobs[:-1]) for found in scored)
    log_odds = ((a_first - b_first) + (b_swapped - a_swapped)) / 2
    return _sigmoid(log_odds)


def _sigmoid(x: float) -> float:
    # Of the two equal forms the one that does not overflow.
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))
