"""Response clusters: which answers of the probe set count as alike."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ouroloop.loop.config.base import Section


class ClusterConfig(Section):
    """Response clusters, fitted on round 0's probe samples of all families and then frozen."""

    when: Literal["unscored", "always", "never"] = Field(
        "unscored",
        description="unscored: where some problem of the probe set has no right answer",
    )
    samples: int = Field(
        16,
        ge=12,
        description=(
            "samples per problem that round 0 draws beside the probe's for the fit alone: fitted on"
            " what is measured, clusters would make round 0 look more diverse than it is"
        ),
    )
    encoder: str = Field(
        "lexical",
        min_length=1,
        description=(
            "texts to vectors: lexical (built in, no model), all-minilm-l6-v2 (fetched once), or"
            " the folder of a sentence encoder"
        ),
    )
