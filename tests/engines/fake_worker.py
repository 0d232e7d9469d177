"""A child process like the real one, whose backend needs no library.

It can print, dawdle, refuse and die on request.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ouroloop.loop.engines import worker
from ouroloop.loop.errors import CheckpointError, EngineError
from ouroloop.loop.records import Completion, Request, Scored


class BytesCodec:
    """UTF-8 bytes as token ids."""

    def prompt_ids(self, prompt: Any) -> list[int]:
        return list(prompt.encode())

    def completion_ids(self, prompt: Any, text: str) -> list[int]:
        return [*text.encode(), 256]


class FakeBackend:
    """Answers the newest request first, with the prompt's length.

    A prompt of one of the words below has another effect.
    """

    def __init__(self, config: Mapping[str, Any]):
        self.codec = BytesCodec()
        self.max_model_len = config["max_model_len"]
        self.waiting: list[tuple[int, Request, list[int]]] = []
        self.texts: list[tuple[int, list[int]]] = []
        self.most = 0

    def load(self, checkpoint_path: Path) -> dict[str, Any]:
        self.version = checkpoint_path.name
        if self.version == "refused":
            raise CheckpointError("this one is refused")
        print("a library's chatter on standard output")
        return {"weight_version": self.version, "block_size": None}

    def submit(self, key: int, request: Request, prompt_ids: list[int]) -> None:
        self.waiting.append((key, request, prompt_ids))
        self.most = max(self.most, len(self.waiting))

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.texts)

    def submit_text(self, key: int, prompt_ids: list[int], completion_ids: list[int]) -> None:
        self.texts.append((key, completion_ids))

    def step(self) -> list[tuple[int, Completion | Scored | EngineError]]:
        if self.texts:
            key, ids = self.texts.pop()
            return [
                (
                    key,
                    Scored(tuple(ids), (-0.5,) * len(ids), (0.25,) * len(ids), True, self.version),
                )
            ]
        key, request, prompt_ids = self.waiting.pop()
        if request.prompt == "crash beside a thread":
            threading.Thread(target=time.sleep, args=(600,)).start()
        if request.prompt.startswith("crash"):
            raise ValueError("a bug deep in a library")
        if request.prompt == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if request.prompt == "leave a child" and os.fork():
            os._exit(3)
        elif request.prompt == "leave a child":
            time.sleep(600)
        if request.prompt == "abort":
            return [(key, EngineError("this request was aborted"))]
        text = (
            str(self.most)
            if request.prompt == "most"
            else f"{request.prompt} has {len(prompt_ids)}"
        )
        ids = (*text.encode(), 256)
        answer = Completion(
            request.id, tuple(prompt_ids), ids, (0.0,) * len(ids), text, "stop", self.version
        )
        return [(key, answer)]

    def close(self) -> None:
        print("closed in good order", file=sys.stderr)


worker.BACKENDS["fake"] = FakeBackend  # type: ignore[assignment]

if __name__ == "__main__":
    worker.main()
