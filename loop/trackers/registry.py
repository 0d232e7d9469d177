"""The trackers that a recipe asks for: built-in ones by name, everybody else's by `module:Name`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pkgutil import resolve_name
from typing import Any

from ouroloop.loop.trackers.base import Tracker
from ouroloop.loop.trackers.mlflow import MlflowTracker

# Name -> what makes one, from keyword options.
TRACKERS: dict[str, Callable[..., Tracker]] = {"mlflow": MlflowTracker}


def trackers_of(tracking: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Tracker]]]:
    """Name and maker of every tracker in a recipe's section `tracking`.

    Makers, for one that cannot be made must not keep the others from being made.
    """
    # MLflow has its own switch in the section, and is on where a recipe does not say.
    if tracking.get("mlflow", True):
        own = {key: tracking[key] for key in MlflowTracker.OPTIONS if key in tracking}
        yield "mlflow", lambda: MlflowTracker(**own)
    for entry in tracking.get("trackers", ()):
        yield entry["use"], _maker(entry["use"], entry.get("options") or {})


def _maker(use: str, options: Mapping[str, Any]) -> Callable[[], Tracker]:
    def make() -> Tracker:
        found: Callable[..., Tracker] = TRACKERS.get(use) or resolve_name(use)
        return found(**options)

    return make
