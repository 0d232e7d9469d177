"""A collapse monitor for any trainer of transformers or TRL."""

from ouroloop.loop.callback.generate import Generate
from ouroloop.loop.callback.monitor import CollapseMonitor

__all__ = ["CollapseMonitor", "Generate"]
