"""Who samples, and with what memory."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ouroloop.loop.config.base import Section


class EngineConfig(Section):
    """Who samples, and with what memory."""

    kind: str = Field(
        "vllm",
        min_length=1,
        description=(
            "vllm, transformers (slower, runs wherever torch runs), ray (one of these in each actor"
            " of a Ray cluster), server (section `students` names it), an installed entry point,"
            " module:Name, or path/to/file.py:Name"
        ),
    )
    actor: Literal["vllm", "transformers"] = Field(
        "vllm", description="for kind ray: the engine in each actor; section `ray` says how many"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description=(
            "precision of the served weights; auto: bfloat16 where the device is fast in it and"
            " the model has more than 50 M parameters, else float32"
        ),
    )
    max_model_len: int = Field(
        512, ge=16, description="tokens of a prompt and its completion together, at most"
    )
    max_num_seqs: int = Field(256, ge=1, description="sequences sampled at the same time, at most")
    kv_cache_memory_bytes: int | None = Field(
        268_435_456,
        description=(
            "bytes for the key-value cache; null on a GPU: then gpu_memory_utilization decides"
        ),
    )
    gpu_memory_utilization: float = Field(
        0.85, gt=0, le=1, description="share of the GPU's memory that the engine may take"
    )
    swap: Literal["reload", "respawn"] = Field(
        "reload", description="how new weights get in; respawn starts a fresh engine"
    )
    serve_adapters: bool = Field(
        False,
        description=(
            "on a GPU vLLM applies LoRA adapters beside the model, for one too large to merge them"
            " into; in 16 bits small updates are lost so"
        ),
    )
    concurrency: int = Field(512, ge=1, description="requests in flight at most")
    weight_sync_check: bool = Field(
        True, description="off: run without proof that the right weights are served"
    )
    extra: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "further vLLM engine arguments, passed as they are, e.g. {tensor_parallel_size: 2,"
            " enforce_eager: false}; for an engine of your own: whatever it takes"
        ),
    )

    @property
    def computes(self) -> str:
        """The kind of engine that holds the model, wherever it runs."""
        return self.actor if self.kind == "ray" else self.kind
