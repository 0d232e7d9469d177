"""The frozen judge: a model, or scorers, that watch the run and never train in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from ouroloop.loop.config.base import Extension, ModelName, Section

BASELINE = "baseline"
"""`judge.model` that stands for round 0's model."""


class JudgeConfig(Section):
    """A frozen model approves or rejects the probe set's answers, by principle, in every round.

    It asks in the critic's words (`task.prompts.critique`), greedily and with the same seeds in
    every round; so a change of its approvals is the judged model's own.
    """

    model: ModelName = Field(
        BASELINE,
        min_length=1,
        description=(
            "baseline: round 0's model; or another checkpoint, named as in `model`, or a server"
            " (URL#model, or a list of servers of one model)"
        ),
    )
    principles: Path | None = Field(
        None, description="constitution that it judges by; default: refine.constitution"
    )
    criteria: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description=(
            "criterion -> the principles that it stands for, one of which is drawn for each"
            " answer; default: every principle is a criterion of its own"
        ),
    )
    scorers: dict[str, Extension] = Field(
        default_factory=dict,
        description=(
            "criterion -> a part of your own that scores an answer from 0 to 1 (a moderation"
            " classifier, a reward model); no model is asked then"
        ),
    )
    families: tuple[str, ...] = Field(
        (), description="answers to problems of these families are judged; default: all"
    )
    samples: int = Field(
        2,
        ge=1,
        description=(
            "answers of a problem that are judged; in a baseline round as many times more as the"
            " probe has"
        ),
    )
    max_tokens: int = Field(96, ge=1, description="tokens of a verdict with its reasons, at most")
    items: Path | None = Field(
        None,
        description=(
            'JSONL of texts of known truth, {"question": ..., "text": ..., "principle": ...,'
            ' "approve": true} a line: in round 0 the judge itself is audited with them'
        ),
    )

    @field_validator("criteria", "scorers")
    @classmethod
    def _named(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, judges in value.items():
            # A criterion's name is a part of a reading's id, whose parts are joined by colons.
            if not name or ":" in name or not judges:
                raise ValueError(
                    f"{name!r} needs a name without a colon and what judges by it, e.g. criteria:"
                    " {harmless: [privacy, selling]} or scorers: {harmless: my_scorer.py:Harmless}"
                )
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.scorers and (self.model != BASELINE or self.principles or self.criteria):
            raise ValueError(
                "scorers judge in the place of a model, which model, principles and criteria are"
                " for. Leave these out, or the scorers"
            )
        return self
