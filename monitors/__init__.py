"""Read-only watchers of a model's diversity and calibration.

Knows neither `loop` nor `evals`; numpy and scipy only.

`from ouroloop.monitors import read_traces, follow` judges traces of any loop; what is named here is
loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ouroloop.monitors.base import Pool, Reading, RoundView, Samples
    from ouroloop.monitors.decision.rule import Decision, DecisionRule
    from ouroloop.monitors.follower import Follower, follow
    from ouroloop.monitors.registry import MONITORS, measure_all
    from ouroloop.monitors.traces.reader import TraceError, TraceReader, read_traces

__all__ = [
    "MONITORS",
    "Decision",
    "DecisionRule",
    "Follower",
    "Pool",
    "Reading",
    "RoundView",
    "Samples",
    "TraceError",
    "TraceReader",
    "follow",
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
    "Decision": "decision.rule",
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
