"""What an objective is: the one thing that differs between ways of training on a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from ouroloop.loop.engines.checkpoint import Checkpoint
from ouroloop.loop.objectives.job import TrainingJob


class LearnsFrom(StrEnum):
    """What the loop makes of a round's samples for an objective; an own one says it too."""

    EXAMPLES = "examples"
    """examples.parquet: kept samples, replay, gold traces."""
    PAIRS = "pairs"
    """pairs.parquet: of a prompt a preferred text and one that is not."""


@dataclass(frozen=True)
class Prepared:
    """A trainer that is ready to run, and what it is about to learn from.

    trainer: a `transformers.Trainer`; TRL's are. num_refused: examples left out, for being too
    long for instance. num_tokens: of the examples, prompts included. by_origin: examples per
    origin.
    """

    trainer: Any
    num_examples: int
    num_tokens: int
    num_refused: int = 0
    by_origin: Mapping[str, int] = field(default_factory=dict)


class Objective(Protocol):
    """Turns a round's tables into a trainer; `training.py` does everything else.

    Made from the recipe's `objective`, with its options as keyword arguments. One that learns from
    preference pairs says so in a class attribute, `learns_from = "pairs"`; without it an objective
    learns from examples.
    """

    def check(self, settings: Mapping[str, Any], peft: Mapping[str, Any] | None) -> None:
        """Refuse settings of the recipe before anything is made; imports nothing heavy.

        settings: the section `dpo` for the objective dpo, `sft` for every other.

        Raises:
            RecipeError: one line per wrong name or value.
        """
        ...

    def prepare(self, job: TrainingJob, checkpoint: Checkpoint) -> Prepared:
        """The trainer of one round, in the training process.

        `job.examples` is the table that the objective learns from. Its folder is the round's:
        verdicts.parquet and samples.jsonl hold all drafts, critiques and revisions with their
        verdicts.

        Raises:
            DataError: the tables cannot be trained on.
            RecipeError: the trainer refuses a setting.
        """
        ...
