"""How long a part of a run may be without progress, and what is tried then."""

from __future__ import annotations

from pydantic import Field

from ouroloop.loop.config.base import Section


class SupervisionConfig(Section):
    """How long a part of a run may be without progress, and what is tried then.

    None of it changes a result, so a run may be resumed with other values than it began with.
    """

    start_s: float = Field(
        1800.0,
        gt=0,
        description=(
            "seconds that an engine may take to load a checkpoint, or a trainer to its first step;"
            " then it is ended. Raise it for large models on slow disks"
        ),
    )
    engine_silence_s: float = Field(
        600.0,
        gt=0,
        description=(
            "seconds that an engine may be without a sign of progress (an answer, a step) while"
            " requests wait; then it is started again and only those are asked again. Raise it"
            " where one step of a large model on a CPU takes minutes"
        ),
    )
    trainer_silence_s: float = Field(
        1800.0,
        gt=0,
        description=(
            "seconds that a trainer may be without a sign of progress (a micro-batch, a step,"
            " saving); then it is started again. Raise it where one micro-batch takes minutes"
        ),
    )
    restarts: int = Field(
        3,
        ge=0,
        description=(
            "an engine is started again so many times for each checkpoint that it loads, and a"
            " trainer so many times for each round; then the run ends, and can be resumed. 0: never"
        ),
    )
    halve_batch: bool = Field(
        True,
        description=(
            "a trainer that ran out of memory is started again with half the batch per device and"
            " twice the gradient accumulation (the same effective batch), down to 1"
        ),
    )
    warm_trainer: bool = Field(
        True,
        description=(
            "the trainer imports its libraries while the engine samples, and keeps them from round"
            " to round; this takes 0.4 GB. false: a fresh process in every round. With `launcher:"
            " accelerate` every round starts fresh ones"
        ),
    )
