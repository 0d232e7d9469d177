"""Preference pairs, and objectives one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ouroloop.loop.config.base import Extension, Section


class PairsConfig(Section):
    """Preference pairs, which the objective dpo learns from: a chosen and a rejected text."""

    sources: tuple[Literal["revision", "compared", "gold"], ...] = Field(
        ("revision",),
        min_length=1,
        description=(
            "revision: a kept revision against its draft, unless all critiques approved;"
            " compared: two kept samples of a problem, of which a model chooses the better; gold: a"
            " kept right sample against a wrong one of the same problem"
        ),
    )
    per_problem: int | None = Field(
        4, ge=1, description="pairs per problem at most; null: no limit"
    )
    judge: Literal["student", "baseline"] = Field(
        "student",
        description=(
            "who chooses between two samples: the model that the round samples from, or round 0's,"
            " which never changes"
        ),
    )
    principles: Path | None = Field(
        None,
        description=(
            "JSON list of principles to choose by, one drawn per pair (RL-CAI, Bai et al."
            " 2212.08073); default: the more helpful, honest and harmless one"
        ),
    )
    few_shots: Path | None = Field(
        None,
        description=(
            "JSON list of worked comparisons, {prompt, corrects, incorrects} each, that stand"
            " before every question; default: none"
        ),
    )
    confidence: float = Field(
        0.6,
        ge=0.5,
        lt=1,
        description=(
            "probability that the chosen sample is the better one, over both orders of the two, at"
            " least"
        ),
    )


class StageConfig(Section):
    """Some rounds of one objective."""

    rounds: int = Field(ge=1, description="how many rounds the stage lasts")
    objective: Extension = Field(description="what its rounds train with: sft, dpo, or your own")
    sft: dict[str, Any] = Field(
        default_factory=dict, description="settings that differ from the recipe's `sft` section"
    )
    dpo: dict[str, Any] = Field(
        default_factory=dict, description="settings that differ from the recipe's `dpo` section"
    )
