"""Every built-in engine, and how the recipe's one is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ouroloop.evals import plugins
from ouroloop.evals.errors import DataError
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.engines.scripted import ScriptedEngine
from ouroloop.loop.engines.students import server_engine
from ouroloop.loop.engines.supervised import SupervisedEngine
from ouroloop.loop.errors import RecipeError


def _scripted(config: Mapping[str, Any], log_path: Path) -> Engine:
    """The fake with its default script; tests replace this entry with one of their own."""
    return ScriptedEngine()


def _ray(config: Mapping[str, Any], log_path: Path) -> Engine:
    """Actors of a Ray cluster, which need the extra `ray`."""
    from ouroloop.loop.engines.ray_cluster import ray_engine

    return ray_engine(config, log_path)


# name -> what makes one of (config, log_path). config: EngineConfig as a dict, plus `lora`, the
# recipe's peft. log_path: the engine's log.
ENGINES: dict[str, Callable[[Mapping[str, Any], Path], Engine]] = {
    "vllm": SupervisedEngine.of,
    "transformers": SupervisedEngine.of,
    "ray": _ray,
    "server": server_engine,
    "scripted": _scripted,
}
KIND = plugins.Kind(
    noun="engine",
    key="engine.kind",
    group="ouroloop.engines",
    built_in=ENGINES,
    needs=("load", "complete", "encode", "score", "close"),
)


def engine_maker(name: str) -> Callable[[Mapping[str, Any], Path], Engine]:
    """What makes the engine that a recipe names; nothing is made or started yet.

    Raises:
        RecipeError: there is none of this name, or it cannot be made of (config, log_path).
    """
    try:
        make = plugins.find(KIND, name)
        if name not in ENGINES:
            inspect.signature(make).bind({}, Path())
            # Of a function it is known only when the engine is made.
            if isinstance(make, type):
                plugins.check_needs(KIND, name, make)
    except DataError as error:
        raise RecipeError(str(error)) from error
    except TypeError as error:
        raise RecipeError(
            f"engine.kind: {name} cannot be called with (config, log_path), as an engine is made:"
            f" {error}. Give it these two arguments."
        ) from None
    return make


def make_engine(name: str, config: Mapping[str, Any], log_path: Path) -> Engine:
    """The engine that a recipe names, not started yet.

    Raises:
        RecipeError: see `engine_maker`; or what was made is no engine.
    """
    engine = engine_maker(name)(config, log_path)
    try:
        plugins.check_needs(KIND, name, engine)
    except DataError as error:
        raise RecipeError(str(error)) from error
    return engine
