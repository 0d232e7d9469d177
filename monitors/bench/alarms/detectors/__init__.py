"""The detectors that come with the benchmark: name -> what makes one, anew for every run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from ouroloop.monitors.bench.alarms.detectors.base import Detector
from ouroloop.monitors.bench.alarms.detectors.own import Evidence, Shipped
from ouroloop.monitors.bench.alarms.detectors.paired import (
    BonferroniZ,
    Cusum,
    Glr,
    MixtureSprt,
)
from ouroloop.monitors.bench.alarms.detectors.published import Mtr, PitMonitor
from ouroloop.monitors.bench.alarms.detectors.streams import Adwin, PageHinkley
from ouroloop.monitors.bench.alarms.detectors.thresholds import DcpOfBest, Entropy
from ouroloop.monitors.names import Tier

__all__ = ["DETECTORS", "Detector"]

DETECTORS: Mapping[str, Callable[[], Detector]] = {
    "watch": partial(Evidence, Tier.WATCH),
    "halt": partial(Evidence, Tier.HALT),
    "watch-shipped": partial(Shipped, Tier.WATCH),
    "halt-shipped": partial(Shipped, Tier.HALT),
    "bonferroni-z": BonferroniZ,
    "cusum": Cusum,
    "glr": Glr,
    "mixture-sprt": MixtureSprt,
    "dcp-of-best": DcpOfBest,
    "entropy": Entropy,
    "adwin": Adwin,
    "page-hinkley": PageHinkley,
    "pit-monitor": PitMonitor,
    "mtr": Mtr,
}
