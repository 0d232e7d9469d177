"""Which checkpoints outlive their rounds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ouroloop.loop.config.base import Section


class KeepConfig(Section):
    """Which rounds' checkpoints are kept; the others are pruned once a later round is committed.

    What the run itself may still need is always kept, whatever stands here.
    """

    best: int = Field(1, ge=0, description="rounds of the highest pass@1 that were not rejected")
    last: Annotated[int, Field(ge=0)] | Literal["auto", "all"] = Field(
        "auto",
        description=(
            "the newest rounds; all: nothing is pruned; auto: 2, and every checkpoint below 1 GB"
        ),
    )
    baseline: bool = Field(True, description="the rounds in monitors.baselines, also unguarded")
