"""Small helpers that turn estimates into Readings: undefined is NaN with a reason.

Details are JSON-able (NaN becomes null).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import Reading, Samples
from ouroloop.monitors.estimators.order import permuted
from ouroloop.monitors.estimators.scores import codes
from ouroloop.monitors.estimators.stats import Estimate

Better = Literal["up", "down", "none"]
Kind = tuple[str, Better]
"""Unit and healthy direction."""


def as_json(estimate: Estimate) -> dict[str, Any]:
    """{value, low, high, num_clusters}; null where undefined."""
    return {
        name: number(part) if name != "num_clusters" else part
        for name, part in estimate._asdict().items()
    }


def number(value: float) -> float | None:
    """The value, or None when it is NaN or infinite: JSON has neither."""
    return float(value) if np.isfinite(value) else None


def reading(
    name: str,
    estimate: Estimate,
    unit: str,
    better: Better,
    undefined: str,
    details: Mapping[str, Any] | None = None,
    note: str = "",
) -> Reading:
    """A Reading of the estimate; when its value is NaN.

    An undefined one with the reason `undefined`.
    """
    if not np.isfinite(estimate.value):
        return replace(missing({name: (unit, better)}, undefined)[0], details=dict(details or {}))
    return Reading(
        name,
        estimate.value,
        estimate.low,
        estimate.high,
        unit,
        estimate.num_clusters,
        better,
        "ok",
        note,
        dict(details or {}),
    )


def missing(kinds: Mapping[str, Kind], reason: str) -> list[Reading]:
    """Undefined readings, name -> (unit, better), with one common reason.

    Same unit and direction as when they are defined.
    """
    return [
        Reading(name, float("nan"), unit=unit, better=better, status="undefined", reason=reason)
        for name, (unit, better) in kinds.items()
    ]


def families(samples: Samples) -> list[str]:
    """Families present, sorted."""
    return sorted({str(f) for f in samples.family})


def of(samples: Samples, field: Literal["family", "slice"], value: str) -> Samples:
    """The rows of one family or slice."""
    mask: NDArray[np.bool_] = np.array([v == value for v in getattr(samples, field)], dtype=bool)
    return samples.where(mask)


def by_family(samples: Samples, estimate: Callable[[Samples], Estimate]) -> dict[str, Any]:
    """The estimate on each family's rows, as JSON."""
    return {
        family: as_json(estimate(of(samples, "family", family))) for family in families(samples)
    }


def some_samples(samples: Samples, num: int) -> Samples:
    """At most `num` rows of every problem, picked at random (see `monitors/estimators/order.py`).

    The same ones however the rows are ordered.

    Not the first ones of the file: rows that somebody sorted would be a biased choice.
    """
    if max(Counter(samples.problem).values(), default=0) <= num:
        return samples
    texts = (
        codes(getattr(samples, name))[1]
        for name in ("family", "slice", "strategy", "answer", "text")
    )
    numbers = (
        getattr(samples, name) for name in ("correct", "valid", "nll", "num_tokens", "truncated")
    )
    problem_N = codes(samples.problem)[1]
    order_N = permuted(problem_N, *texts, *numbers)
    size_P = np.bincount(problem_N)
    place_N = np.arange(len(samples)) - np.repeat(np.cumsum(size_P) - size_P, size_P)
    chosen_N = np.zeros(len(samples), dtype=bool)
    chosen_N[order_N[place_N < num]] = True
    return samples.where(chosen_N)
