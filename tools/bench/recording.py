"""The built-in vLLM engine that also writes down what it is asked, so that others can be asked it.

As an engine of a recipe: `engine: {kind: "tools.bench.recording:engine"}`. The file is the
environment's OUROLOOP_BENCH_REQUESTS.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, TextIO

from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.engines.supervised import SupervisedEngine
from ouroloop.loop.records import Completion, Prompt, Request, Scored

REQUESTS = "OUROLOOP_BENCH_REQUESTS"


class RecordingEngine(SupervisedEngine):
    """One line per request, and per text that is scored."""

    async def complete(self, request: Request) -> Completion:
        """Ask, and write the request down with the length of its answer."""
        answer = await super().complete(request)
        _note({"prompt": request.prompt, **vars(request.sampling)}, len(answer.token_ids))
        return answer

    async def score(self, pairs: Sequence[tuple[Prompt, str]]) -> list[Scored]:
        """Ask, and write the texts down."""
        found = await super().score(pairs)
        for (prompt, text), scored in zip(pairs, found, strict=True):
            _note({"prompt": prompt, "text": text}, len(scored.token_ids))
        return found


@cache
def _file() -> TextIO:
    """Opened once, and handed every line at once: this time is the benchmark's, not the loop's."""
    return open(os.environ[REQUESTS], "a", encoding="utf-8", buffering=1)


def _note(asked: dict[str, Any], num_tokens: int) -> None:
    _file().write(json.dumps({**asked, "num_tokens": num_tokens}) + "\n")


def engine(config: Mapping[str, Any], log_path: Path) -> RecordingEngine:
    """As the registry makes engines."""
    return RecordingEngine(partial(ProcessEngine, {**config, "kind": "vllm"}, log_path))
