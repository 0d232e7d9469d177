"""What the model learns from demonstrations before the loop begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from ouroloop.loop.config.base import Section


class WarmStartConfig(Section):
    """Supervised fine-tuning on demonstrations, once, before round 0.

    Round 0 then measures the model that comes of it, and every later round is compared with that.
    """

    path: Path | None = Field(
        None,
        description=(
            'JSONL of demonstrations, {"question": ..., "solution": ...} a line, several per'
            " question allowed; default: the solutions of the task's own training problems"
        ),
    )
    examples: int | None = Field(
        None, ge=1, description="at most so many demonstrations, drawn at random; default: all"
    )
    epochs: float = Field(1.0, gt=0, description="passes over the demonstrations")
    sft: dict[str, Any] = Field(
        default_factory=dict,
        description="settings of the trainer that differ from the recipe's `sft` section",
    )
