"""Read-only watchers of a model's diversity and calibration.

Knows neither `loop` nor `evals`; numpy, scipy and scikit-learn only.

`from ouroloop.monitors import read_traces, follow` judges traces of any loop from files,
`from_frame` and `from_arrays` from tables and arrays; what is named here is loaded when it is first
asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ouroloop.monitors.base import Pool, Reading, RoundView, Samples
    from ouroloop.monitors.decision.guarded import GuardedQuantity
    from ouroloop.monitors.decision.records import Decision
    from ouroloop.monitors.decision.rule import DecisionRule
    from ouroloop.monitors.follower import Follower, follow
    from ouroloop.monitors.frames import TraceMonitor, from_arrays, from_frame
    from ouroloop.monitors.registry import MONITORS, measure_all
    from ouroloop.monitors.traces.reader import TraceError, TraceReader, read_traces

__all__ = [
    "MONITORS",
    "Decision",
    "DecisionRule",
    "Follower",
    "GuardedQuantity",
    "Pool",
    "Reading",
    "RoundView",
    "Samples",
    "TraceError",
    "TraceMonitor",
    "TraceReader",
    "follow",
    "from_arrays",
    "from_frame",
    "measure_all",
    "read_traces",
]

_HOMES = {
    "Pool": "base",
    "Reading": "base",
    "RoundView": "base",
    "Samples": "base",
    "Follower": "follower",
    "follow": "follower",
    "DecisionRule": "decision.rule",
    "Decision": "decision.records",
    "GuardedQuantity": "decision.guarded",
    "TraceMonitor": "frames",
    "from_arrays": "frames",
    "from_frame": "frames",
    "MONITORS": "registry",
    "measure_all": "registry",
    "TraceError": "traces.rows",
    "TraceReader": "traces.reader",
    "read_traces": "traces.reader",
}


def __getattr__(name: str) -> Any:
    """Load a public name's module when the name is first used."""
    if name not in _HOMES:
        raise AttributeError(
            f"module 'ouroloop.monitors' has no attribute {name!r}; it has {', '.join(__all__)},"
            " and its modules"
        )
    found = globals()[name] = getattr(import_module(f"ouroloop.monitors.{_HOMES[name]}"), name)
    return found
