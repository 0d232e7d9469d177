"""What a recipe says of a model that thinks before it answers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ouroloop.loop.config.base import Section


class ReasoningConfig(Section):
    """Thoughts: a block before the answer, between two marks."""

    open: str = Field("<think>", min_length=1, description="the mark that begins a thought")
    close: str = Field("</think>", min_length=1, description="the mark that ends a thought")
    train: Literal["keep", "strip"] = Field(
        "keep",
        description=(
            "keep: kept samples are trained on as sampled; strip: their answers alone, in token"
            " ids made anew"
        ),
    )
    critic_sees: Literal["answer", "all"] = Field(
        "answer",
        description="what the critic, the step checker and the strategy readers see of a text",
    )
