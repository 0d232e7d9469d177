"""The servers that sample as the student."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ouroloop.loop.config.base import Section


class StudentsConfig(Section):
    """The servers of `engine: {kind: server}`, which all serve the round's weights.

    None of it changes a result, so a run may be resumed with other servers.
    """

    addresses: tuple[str, ...] = Field(
        (),
        description=(
            "URL#model of each server, e.g. http://127.0.0.1:8000/v1#student. A server belongs to"
            " one run: the weights in it are that run's"
        ),
    )
    reload: Literal["rpc", "lora"] | tuple[str, ...] = Field(
        "rpc",
        description=(
            "how a server gets new weights. rpc: vLLM's /collective_rpc (start it with"
            " VLLM_SERVER_DEV_MODE=1); lora: vLLM's /v1/load_lora_adapter, for `peft`"
            " (VLLM_ALLOW_RUNTIME_LORA_UPDATING=1); or a command of your own, as a list, in which"
            " {checkpoint} and {url} are filled in"
        ),
    )
