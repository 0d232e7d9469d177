"""How drafts are sampled, criticised and revised."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ouroloop.evals.tasks import Form
from ouroloop.loop.config.base import Section

Criticise = Literal["all", "failing", "undecided"]


class SamplingConfig(Section):
    """How drafts are sampled. Everything is pinned.

    A checkpoint's generation_config changes nothing.
    """

    problems_per_round: int = Field(
        300, ge=1, description="training problems drawn each round, at most all there are"
    )
    samples_per_problem: int = Field(4, ge=1, description="drafts per problem and source")
    temperatures: tuple[float, ...] = Field((1.0,), description="cycled over a problem's samples")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling; 1 is off")
    top_k: int = Field(0, ge=0, description="most likely tokens to choose from; 0 is off")
    min_p: float = Field(
        0.0, ge=0, le=1, description="least probability, relative to the likeliest token; 0 is off"
    )
    repetition_penalty: float = Field(
        1.0, gt=0, le=2, description="on tokens seen in prompt or completion; 1 is off"
    )
    max_tokens: int = Field(
        128, ge=1, description="tokens of a draft or a revision, at most; longer ones are cut"
    )
    systems: tuple[str, ...] = Field(
        (),
        description=(
            "system prompts, cycled over a problem's samples from another one on in each problem"
            " (Orca's explanation traces)"
        ),
    )
    student: bool = Field(
        True,
        description=(
            "whether the student drafts; false: only the teachers do (distillation, Magister et al."
            " 2212.08410)"
        ),
    )

    @field_validator("temperatures")
    @classmethod
    def _in_range(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 <= t <= 2 for t in value):
            raise ValueError("temperatures must be a non-empty list of numbers in [0, 2]")
        if any(0 < t < 0.01 for t in value):
            raise ValueError(
                "vLLM raises temperatures in (0, 0.01) to 0.01: use 0 for greedy or at least 0.01"
            )
        return value


class RefineConfig(Section):
    """Critique and revision (Bai et al. 2212.08073, supervised stage)."""

    critique: bool = Field(True, description="whether drafts are criticised")
    criticise: Criticise = Field(
        "all",
        description=(
            "texts that are: all; failing: those that a filter rejects which needs no critic, so"
            " that what passes stays as drafted; undecided: those that no such filter rejects, so"
            " that none is spent on what is lost. Filters that compare samples have no say here"
        ),
    )
    revisions: int = Field(1, ge=0, le=8, description="critique-revise turns at most per sample")
    revise_when: Literal["rejected", "always"] = Field(
        "rejected", description="revise what the critique rejects, or every draft"
    )
    critique_temperature: float = Field(
        0.0, ge=0, le=2, description="of the critiques; 0 is greedy"
    )
    revise_temperature: float = Field(0.7, ge=0, le=2, description="of the revisions; 0 is greedy")
    max_critique_tokens: int = Field(96, ge=1, description="tokens of a critique, at most")
    constitution: Path | None = Field(
        None,
        description="principles, {name: {prompt: [...], edit_request: ...}}; one drawn per turn",
    )
    form: Form = Field(
        Form.PROMPTS,
        description=(
            "how critiques and revisions are asked for: prompts (by the templates), turns (further"
            " turns of the conversation, in the chat template; without one as paper), paper (one"
            " text with CritiqueRequest: and RevisionRequest:, Bai et al. 2212.08073). In turns and"
            " paper a verdict is asked for only where revise_when: rejected or filters.critic needs"
            " it"
        ),
    )
    shots: Path | None = Field(
        None,
        description=(
            "worked dialogues that are put before critique and revision requests in the forms turns"
            " and paper, as in CritiqueRevisionFewShotPrompts.json"
        ),
    )
    families: tuple[str, ...] = Field(
        (),
        description=(
            "refine drafts of these families alone, the others' stay as drafted; default: all"
        ),
    )

    @model_validator(mode="after")
    def _critique_first(self) -> RefineConfig:
        if self.revisions and not self.critique and self.revise_when != "always":
            raise ValueError(
                "refine.revisions > 0 needs refine.critique: true, or refine.revise_when: always"
                " (direct revision, without a critique)"
            )
        if self.criticise != "all" and not self.critique:
            raise ValueError(
                f"refine.criticise: {self.criticise} needs refine.critique: true; nothing is"
                " criticised without"
            )
        if self.criticise == "failing" and not self.revisions:
            raise ValueError(
                "refine.criticise: failing needs refine.revisions > 0: a critique saves no text"
                " that a filter rejects. Set criticise: undecided, or revisions: 1"
            )
        if self.shots and self.form is Form.PROMPTS:
            raise ValueError(
                "refine.shots are put before requests in the forms turns and paper: set"
                " refine.form: paper, or put worked examples into task.prompts"
            )
        return self
