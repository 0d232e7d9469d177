"""Every engine kind that a recipe can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ouroloop.loop.engines.base import Engine
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.engines.scripted import ScriptedEngine


def _scripted(config: Mapping[str, Any], log_path: Path) -> Engine:
    """The fake with its default script; tests replace this entry with one of their own."""
    return ScriptedEngine()


ENGINES: dict[str, Callable[[Mapping[str, Any], Path], Engine]] = {
    "vllm": ProcessEngine,
    "transformers": ProcessEngine,
    "scripted": _scripted,
}
"""kind -> builder(EngineConfig as a dict plus `lora`, the recipe's peft.

Path of the engine's log).
"""
