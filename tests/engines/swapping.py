"""One checkpoint served after the other, in an engine that is broken on purpose afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.errors import StaleWeightsError

Served = tuple[Path, Path]
"""A checkpoint and its weight-sync check."""


def swap(
    folder: Path,
    config: Mapping[str, Any],
    old: Served,
    new: Served,
    broken: str = "",
    always: str = "",
) -> str:
    """Serve `old`, then `new`; then both again in the same engine, broken from `new` on.

    Whatever the first swap raises is raised.

    Args:
        folder: Has the engine's log and the switch that `stale_worker.py` reads; the environment
            variable OUROLOOP_TEST_BREAK names `folder`/broken.
        config: The engine's.
        old: What is served first.
        new: What is served then.
        broken: What the second swap leaves out; nothing: there is none.
        always: What both swaps leave out or do otherwise.

    Returns:
        What the StaleWeightsError says that the broken swap must end in.
    """
    switch = folder / "broken"
    switch.write_text(always)
    # One engine for both: starting it takes longer than all that is asked of it.
    engine = ProcessEngine(config, folder / "engine.log", worker="stale_worker")

    async def story() -> str:
        try:
            await engine.load(*old)
            await engine.load(*new)
            if not broken:
                return ""
            await engine.load(*old)
            switch.write_text(f"{always} {broken}")
            with pytest.raises(StaleWeightsError) as caught:
                await engine.load(*new)
            return str(caught.value)
        finally:
            await engine.close()

    return asyncio.run(story())
