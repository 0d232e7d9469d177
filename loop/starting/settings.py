"""The settings of a first recipe, chosen from what the survey saw. Every choice has its reason."""

from __future__ import annotations

from dataclasses import dataclass

from ouroloop.loop.checks.lengths import CHAT_TOKENS, rounded
from ouroloop.loop.starting.sizes import FEW, Lengths, Size, fitting
from ouroloop.loop.starting.survey import Survey

CRITIQUE_TOKENS = 128
PROMPT_TOKENS = 96
"""Of our longest template, without question and draft."""
FEWEST_TOKENS = 32
"""Of a draft: with less room than that the check says that the data does not fit the model."""
LARGE_BYTES = 100_000_000
"""Weights of more bytes than this are trained by LoRA."""
WEAK_BYTES = 1_000_000_000
"""A model of fewer bytes than this solves too little to learn from its own samples at once.

Nor does it judge: SmolLM2-135M ended none of 100 critiques in the verdict that it was asked for.
"""


@dataclass(frozen=True)
class Settings:
    """The numbers of a first recipe; names as in the recipe's sections."""

    size: Size
    max_tokens: int
    max_model_len: int
    min_examples: int
    # Gold answers filter, or the critic does, if the model can be one.
    is_graded: bool
    can_judge: bool
    learning_rate: str
    # Passes over the data's solutions before round 0; 0: none.
    warm_epochs: int


def choose(
    survey: Survey, weight_bytes: int, is_gpu: bool, positions: int | None = None
) -> Settings:
    """Settings that run on this data, and train at least one round of a model that is often wrong.

    Args:
        survey: What the data holds.
        weight_bytes: Size of the model's weights.
        is_gpu: Whether the machine has a GPU.
        positions: Tokens that a text of the model may have; None: not known.
    """
    is_graded = survey.grader != "none"
    # Twice a long demonstration, and no less than a short chain of thought: a model that has not
    # learnt from the demonstrations yet runs on. What ends earlier costs no more.
    max_tokens = min(max(rounded(2 * survey.solution_tokens), 256), 1024)
    # A longer context costs cache memory, so it is no longer than the longest prompt needs.
    prompt = survey.question_tokens + CHAT_TOKENS + PROMPT_TOKENS
    critique, texts = (0, 1) if is_graded else (CRITIQUE_TOKENS, 2)
    if positions is not None:
        # A small model's texts are shorter rather than cut: draft and revision share what is left.
        room = (positions - prompt - critique) // texts
        max_tokens = max(min(max_tokens, room), FEWEST_TOKENS)
    context = max(rounded(prompt + critique + texts * max_tokens), 256)
    warm_epochs = _warm_epochs(survey, weight_bytes)
    # After a warm start answers are as long as the demonstrations; before it they run on.
    answer = survey.solution_tokens if warm_epochs else max_tokens
    sample = answer if is_graded else 2 * (answer + CRITIQUE_TOKENS)
    asked = survey.question_tokens + CHAT_TOKENS
    warm_tokens = warm_epochs * survey.num_solutions * (asked + survey.solution_tokens)
    lengths = Lengths(asked, answer, sample)
    size = fitting(survey, lengths, warm_tokens, weight_bytes, is_gpu)
    return Settings(
        size=size,
        max_tokens=max_tokens,
        max_model_len=min(context, positions or context),
        # About one sample in eighty: a model that is right in 3 % of its samples still trains.
        min_examples=max(2, min(16, size.problems * size.samples // 80)),
        is_graded=is_graded,
        # The embedded models were taught to write verdicts.
        can_judge=not LARGE_BYTES < weight_bytes < WEAK_BYTES,
        learning_rate="2.0e-4" if weight_bytes > LARGE_BYTES else "5.0e-4",
        warm_epochs=warm_epochs,
    )


def _warm_epochs(survey: Survey, weight_bytes: int) -> int:
    """How often a weak model goes through the data's solutions before it begins."""
    # The embedded models know their world already, whatever the data.
    if not survey.num_solutions or not LARGE_BYTES < weight_bytes < WEAK_BYTES:
        return 0
    return 3 if survey.num_solutions < FEW else 1
