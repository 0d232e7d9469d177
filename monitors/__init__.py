"""Read-only watchers of a model's diversity and calibration. Knows neither `loop` nor `evals`; numpy and scipy only.

`from monitors import read_traces, follow` judges traces of any loop; what is named here is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monitors.base import Pool, Reading, RoundView, Samples
    from monitors.follower import Follower, follow
    from monitors.panel import Panel, PanelDecision
    from monitors.registry import MONITORS, measure_all
    from monitors.traces import TraceError, TraceReader, read_traces

__all__ = [
    "MONITORS", "Follower", "Panel", "PanelDecision", "Pool", "Reading", "RoundView", "Samples", "TraceError", "TraceReader", "follow",
    "measure_all", "read_traces",
]

_HOMES = {
    "Pool": "base", "Reading": "base", "RoundView": "base", "Samples": "base", "Follower": "follower", "follow": "follower", "Panel": "panel",
    "PanelDecision": "panel", "MONITORS": "registry", "measure_all": "registry", "TraceError": "traces", "TraceReader": "traces",
    "read_traces": "traces",
}


def __getattr__(name: str) -> Any:
    """Load a public name's module when the name is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'monitors' has no attribute {name!r}; it has {', '.join(__all__)}, and its modules")
    found = globals()[name] = getattr(import_module(f"monitors.{_HOMES[name]}"), name)
    return found
