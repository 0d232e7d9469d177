"""The built-in vLLM engine that also writes down what it is asked, so that others can be asked it.

As an engine of a recipe: `engine: {kind: "tools.bench.recording:engine"}`. The file is the
environment's OUROLOOP_BENCH_REQUESTS.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.engines.supervised import SupervisedEngine
from ouroloop.loop.records import Completion, Request

REQUESTS = "OUROLOOP_BENCH_REQUESTS"


class RecordingEngine(SupervisedEngine):
    """One line per request."""

    async def complete(self, request: Request) -> Completion:
        """Ask, and write the request down."""
        with open(os.environ[REQUESTS], "a", encoding="utf-8") as file:
            line = {"prompt": request.prompt, **asdict(request.sampling)}
            file.write(json.dumps(line) + "\n")
        return await super().complete(request)


def engine(config: Mapping[str, Any], log_path: Path) -> RecordingEngine:
    """As the registry makes engines."""
    return RecordingEngine(partial(ProcessEngine, {**config, "kind": "vllm"}, log_path))
