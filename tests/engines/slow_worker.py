"""The fake worker, which takes 10 ms for each answer: time to end something in mid-batch."""

from __future__ import annotations

import time
from typing import Any

import fake_worker

from ouroloop.loop.engines import worker

SECONDS_EACH = 0.01


class SlowBackend(fake_worker.FakeBackend):
    def step(self) -> list[Any]:
        time.sleep(SECONDS_EACH)
        return super().step()


worker.BACKENDS["fake"] = SlowBackend  # type: ignore[assignment]

if __name__ == "__main__":
    worker.main()
