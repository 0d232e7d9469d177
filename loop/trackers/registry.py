"""The trackers that a recipe asks for: built-in ones by name, everybody else's by `module:Name`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from ouroloop.evals import plugins
from ouroloop.loop.trackers.base import Tracker
from ouroloop.loop.trackers.command import CommandTracker
from ouroloop.loop.trackers.mlflow import MlflowTracker
from ouroloop.loop.trackers.trackio import TrackioTracker
from ouroloop.loop.trackers.wandb import WandbTracker

TRACKER: plugins.Kind[Tracker] = plugins.Kind(
    "tracker",
    "tracking.trackers",
    "ouroloop.trackers",
    built_in={
        "mlflow": MlflowTracker,
        "wandb": WandbTracker,
        "trackio": TrackioTracker,
        "command": CommandTracker,
    },
    needs=("sync",),
)


def has_trackers(tracking: Mapping[str, Any]) -> bool:
    """Whether a recipe's section `tracking` asks for any tracker."""
    return any(True for _ in trackers_of(tracking))


def trackers_of(tracking: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Tracker]]]:
    """Name and maker of every tracker in a recipe's section `tracking`.

    Makers, for one that cannot be made must not keep the others from being made.
    """
    # MLflow has its own switch in the section, and is on where a recipe does not say.
    if tracking.get("mlflow", True):
        own = {key: tracking[key] for key in MlflowTracker.OPTIONS if key in tracking}
        yield "mlflow", partial(MlflowTracker, **own)
    for entry in tracking.get("trackers", ()):
        options = entry.get("options") or {}
        yield entry["use"], partial(plugins.build, TRACKER, entry["use"], options)
