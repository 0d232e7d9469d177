"""How the engine's actors lie on a Ray cluster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ouroloop.loop.config.base import Section

Count = Annotated[int, Field(ge=1)]


class RayConfig(Section):
    """How the actors of `engine: {kind: ray}` lie on the cluster.

    None of it changes a result, so a run may be resumed on another cluster.
    """

    address: str | None = Field(
        None,
        pattern=r"^(auto|[\w.:\[\]-]+:\d+)$",
        description=(
            "host:port of the cluster's head, or auto; null: $RAY_ADDRESS, else a cluster that"
            " runs on this machine, else a new one on it"
        ),
    )
    actors: Count | Literal["auto"] = Field(
        "auto", description="engines, each in an actor of its own; auto: as many as there is room"
    )
    gpus_per_actor: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto",
        description=(
            "GPUs of one actor, all in one node; auto: the tensor-parallel group's"
            " (engine.extra.tensor_parallel_size) where the cluster has GPUs, else 0"
        ),
    )
    cpus_per_actor: int = Field(1, ge=1, description="CPUs of one actor")
