"""The settings of a first recipe, chosen from what the survey saw. Every choice has its reason."""

from __future__ import annotations

from dataclasses import dataclass

from ouroloop.loop.checks.lengths import CHAT_TOKENS, rounded
from ouroloop.loop.starting.survey import Survey

SMALL = 100
"""Fewer training problems than this get more samples each."""
CRITIQUE_TOKENS = 128
PROMPT_TOKENS = 96
"""Of our longest template, without question and draft."""
LARGE_BYTES = 100_000_000
"""Weights of more bytes than this are trained by LoRA."""
WEAK_BYTES = 1_000_000_000
"""A model of fewer bytes than this solves too little to learn from its own samples at once."""


@dataclass(frozen=True)
class Settings:
    """The numbers of a first recipe; names as in the recipe's sections."""

    # What a round draws.
    problems_per_round: int
    samples_per_problem: int
    max_tokens: int
    max_model_len: int
    min_examples: int
    probe_problems: int
    baseline_samples: int
    # Gold answers filter, or the critic does.
    is_graded: bool
    learning_rate: str
    # Passes over the data's solutions before round 0; 0: none.
    warm_epochs: int


def choose(survey: Survey, weight_bytes: int) -> Settings:
    """Settings that run on this data, and train at least one round of a model that is often wrong.

    Args:
        survey: What the data holds.
        weight_bytes: Size of the model's weights.
    """
    is_graded = survey.grader != "none"
    # 200 problems x 4 samples are a few minutes of a small model on two cores.
    problems = min(survey.num_train, 200)
    samples = 8 if survey.num_train < SMALL else 4
    # Twice a long demonstration, and no less than a short chain of thought: a model that has not
    # learnt from the demonstrations yet runs on. What ends earlier costs no more.
    max_tokens = min(max(rounded(2 * survey.solution_tokens), 256), 1024)
    # A longer context costs cache memory, so it is no longer than the longest prompt needs.
    prompt = survey.question_tokens + CHAT_TOKENS + PROMPT_TOKENS
    refined = 0 if is_graded else CRITIQUE_TOKENS + max_tokens
    return Settings(
        problems_per_round=problems,
        samples_per_problem=samples,
        max_tokens=max_tokens,
        max_model_len=max(rounded(prompt + max_tokens + refined), 256),
        # About one sample in eighty: a model that is right in 3 % of its samples still trains.
        min_examples=max(2, min(16, problems * samples // 80)),
        probe_problems=max(2, min(survey.num_heldout, 100)),
        # A small probe set is measured more often instead.
        baseline_samples=32 if survey.num_heldout < SMALL else 16,
        is_graded=is_graded,
        learning_rate="2.0e-4" if weight_bytes > LARGE_BYTES else "5.0e-4",
        warm_epochs=_warm_epochs(survey, weight_bytes),
    )


def _warm_epochs(survey: Survey, weight_bytes: int) -> int:
    """How often a weak model goes through the data's solutions before it begins."""
    # The embedded models know their world already, whatever the data.
    if not survey.num_solutions or not LARGE_BYTES < weight_bytes < WEAK_BYTES:
        return 0
    return 3 if survey.num_solutions < SMALL else 1
