"""From samples to a training set: the rejection filters and what joins the kept samples."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ouroloop.loop.config.base import Extension, Section


class FilterConfig(Section):
    """The rejection filters. Each is switched here; every one sees every sample."""

    gold: bool = Field(
        True, description="final answer equals the gold answer (Magister et al. 2212.08410)"
    )
    steps: bool = Field(False, description="every calculation is right")
    critic: bool = Field(False, description="the last critique approves")
    agreement: float | None = Field(
        None,
        ge=0,
        le=1,
        description="vote share of the answer among the problem's samples, at least",
    )
    min_tokens: int = Field(1, ge=0, description="tokens of a kept sample, at least")
    max_tokens: int | None = Field(
        None, ge=1, description="tokens of a kept sample, at most; null: no limit"
    )
    format: bool = Field(
        True, description="a final answer can be read, and the sample was not cut by length"
    )
    copied_critique: float | None = Field(
        0.5,
        gt=0,
        le=1,
        description=(
            "where format is false: a revision is rejected that is so like the critique that it"
            " answers (shared runs of four characters, 1: the same text), as small models write;"
            " null: kept"
        ),
    )
    duplicates: Literal["none", "exact", "calculations"] = Field(
        "calculations",
        description=(
            "samples of a problem that count as copies: none, of the same text (exact), or of the"
            " same calculations (RFT's multiset, 2308.01825)"
        ),
    )
    per_problem: int | None = Field(4, ge=1, description="samples kept per problem at most")
    per_strategy: float | None = Field(
        None, gt=0, le=1, description="share of the kept samples per strategy at most"
    )
    per_cluster: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of the kept samples per response cluster at most",
    )
    per_answer: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share per answer, over all problems, at most of what the filters before keep",
    )
    extra: tuple[Extension, ...] = Field(
        (),
        description=(
            "rejection filters of your own (entry points: ouroloop.filters), after the filters on"
            " single samples and before duplicates and caps"
        ),
    )

    @model_validator(mode="after")
    def _leaves_lengths(self) -> Self:
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError(
                f"filters.min_tokens: {self.min_tokens} is more than filters.max_tokens:"
                f" {self.max_tokens}: no sample would be kept. Set it to {self.max_tokens} or less"
            )
        return self


class DatasetConfig(Section):
    """From kept samples to a training set."""

    policy: Literal["replace", "accumulate", "accumulate_subsample"] = Field(
        "replace",
        description=(
            "replace: this round's samples alone; accumulate: all rounds' so far;"
            " accumulate_subsample: a random part of those"
        ),
    )
    size: int | None = Field(
        None,
        ge=1,
        description=(
            "at most so many samples, drawn at random; accumulate_subsample: default what the round"
            " kept"
        ),
    )
    gold: bool = Field(
        False,
        description=(
            "the solutions that come with the round's problems join the training set (RFT, Yuan et"
            " al. 2308.01825)"
        ),
    )
    target: Literal["trace", "answer"] = Field(
        "trace",
        description="answer: learn the final answers without their traces (`task.prompts.answer`)",
    )
    learn_turns: Literal["last", "all"] = Field(
        "last",
        description=(
            "of a demonstration that is a conversation: learn its last assistant turn, or all of"
            " them; of what the model wrote itself only its own answer is learnt"
        ),
    )
    erase_systems: bool = Field(
        False,
        description=(
            "learn without the system prompts that drafts were asked under (Orca 2, Mitra et al."
            " 2311.11045)"
        ),
    )
    replay_fraction: float = Field(
        0.0, ge=0, lt=1, description="share of the training set that is replayed"
    )
    replay_source: Literal["demonstrations", "baseline"] = Field(
        "demonstrations",
        description=(
            "what is replayed evenly: the reserve's demonstrations, or samples that round 0's"
            " model drafted and that were kept; these also where there are no demonstrations"
        ),
    )
    max_copies: float = Field(
        0.05,
        ge=0,
        le=1,
        description=(
            "share of the training problems that are near copies of held-out questions, at most;"
            " with more the run does not start (those below are left out of every training set)"
        ),
    )
    min_examples: int = Field(
        16,
        ge=1,
        description="fewer examples of its own (samples, gold) than this: no training this round",
    )

    @property
    def min_kept(self) -> int:
        """Samples that a round must keep, or it cannot train.

        0 where gold traces or earlier rounds' samples may make up for them.
        """
        alone = self.policy == "replace" or (
            self.policy == "accumulate_subsample" and self.size is None
        )
        return self.min_examples if alone and not self.gold else 0
