"""An engine's child with faults: `worker="faulty_worker"`, faults from the environment.

kind "fake" answers as `fake_worker`, kind "scripted" as the scripted model of the arithmetic world
(checkpoints are those of `faulty_trainer`); other kinds are the real backends.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fake_worker
from faults import EngineFaults, FaultyPipe

from ouroloop.loop.engines import worker
from ouroloop.loop.records import Completion, Request, Scored


class ScriptedBackend(fake_worker.FakeBackend):
    """The scripted world's model behind the pipe; its skill is 0.6 in every round."""

    def __init__(self, config: Mapping[str, Any]):
        # Not at the top: it takes a second, which the fake backend need not pay.
        from scripted_world import Model

        super().__init__(config)
        self.model = Model()

    def load(self, checkpoint_path: Path) -> dict[str, Any]:
        self.model.engine.loaded.append(checkpoint_path)
        return super().load(checkpoint_path)

    def step(self) -> list[tuple[int, Completion | Scored | Any]]:
        if self.texts:
            return super().step()
        key, request, prompt_ids = self.waiting.pop(0)
        return [(key, self.answer(request, prompt_ids))]

    def answer(self, request: Request, prompt_ids: list[int]) -> Completion:
        text = self.model.answer(request)
        ids, reason = (*text.encode(), 256), "stop"
        if len(ids) > request.sampling.max_tokens:
            ids, reason = ids[: request.sampling.max_tokens], "length"
            text = bytes(ids).decode(errors="ignore")
        logprobs = (-0.1,) * len(ids)
        return Completion(request.id, tuple(prompt_ids), ids, logprobs, text, reason, self.version)


class FaultyWorker(worker.Worker):
    def __init__(self, backend: worker.Backend, out: Any):
        super().__init__(backend, FaultyPipe(out, EngineFaults.here()))  # type: ignore[arg-type]


worker.BACKENDS["scripted"] = ScriptedBackend  # type: ignore[assignment]
worker.Worker = FaultyWorker  # type: ignore[misc]

if __name__ == "__main__":
    time.sleep(EngineFaults.here().slow_start_s)
    worker.main()
