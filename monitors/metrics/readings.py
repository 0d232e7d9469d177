"""Small helpers that turn estimates into Readings: undefined is NaN with a reason.

Details are JSON-able: NaN becomes null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ouroloop.monitors.base import Reading, RoundView, Samples
from ouroloop.monitors.columns import codes, counts, is_among
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.order import permuted
from ouroloop.monitors.estimators.stats import Estimate

Better = Literal["up", "down", "none"]
Kind = tuple[str, Better]
"""Unit and healthy direction."""
NOT_SCORED = "no sample was scored"


def as_json(estimate: Estimate) -> dict[str, Any]:
    """{value, low, high, num_clusters}; null where undefined."""
    value, low, high, num = estimate
    return {
        "value": number(value),
        "low": number(low),
        "high": number(high),
        "num_clusters": num,
    }


def number(value: float) -> float | None:
    """The value, or None when it is NaN or infinite: JSON has neither."""
    return float(value) if np.isfinite(value) else None


def reading(
    estimand: Estimand,
    estimate: Estimate,
    unit: str,
    better: Better,
    undefined: str,
    details: Mapping[str, Any] | None = None,
    note: str = "",
) -> Reading:
    """A Reading of the estimate; where its value is NaN, an undefined one.

    Args:
        estimand: what it is a number of.
        estimate: value, interval and clusters.
        unit: of the value.
        better: the healthy direction.
        undefined: the reason where it is undefined.
        details: JSON-able.
        note: the remark where it is defined.
    """
    if not np.isfinite(estimate.value):
        # Details stay: they often show why there is no number.
        found = missing({estimand: (unit, better)}, undefined)[0]
        return replace(found, details=dict(details or {}))
    return Reading(
        estimand=estimand,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        unit=unit,
        num_clusters=estimate.num_clusters,
        better=better,
        status="ok",
        reason=note,
        details=dict(details or {}),
    )


def no_right(rows: Samples) -> str:
    """Why nothing can be said of right samples alone; empty where there are some."""
    if not np.isfinite(rows.correct).any():
        return NOT_SCORED
    return "" if (rows.correct == 1).any() else "no sample was right"


def missing(kinds: Mapping[Estimand, Kind], reason: str) -> list[Reading]:
    """Undefined readings with one common reason, unit and direction as when they are defined."""
    return [
        Reading(estimand, float("nan"), unit=unit, better=better, status="undefined", reason=reason)
        for estimand, (unit, better) in kinds.items()
    ]


def families(samples: Samples) -> list[str]:
    """Families present, sorted."""
    return codes(samples.family)[0]


def of(
    samples: Samples,
    field: Literal["family", "slice"],
    value: str,
) -> Samples:
    """The rows of one family or slice."""
    return samples.where(is_among(getattr(samples, field), [value]))


def by_family(samples: Samples, estimate: Callable[[Samples], Estimate]) -> dict[str, Any]:
    """The estimate on each family's rows, as JSON."""
    return {
        family: as_json(estimate(of(samples, "family", family))) for family in families(samples)
    }


def largest_family(samples: Samples) -> str:
    """The family with the most problems, the first by name among equals; empty without any."""
    sizes = {
        family: len(codes(of(samples, "family", family).problem)[0]) for family in families(samples)
    }
    return max(sizes, key=lambda family: sizes[family], default="")


def main_family_of(
    chosen: str | None,
    view: RoundView,
    reference: RoundView | None,
) -> str:
    """The family that the loop trains: the one that was chosen, else the reference's largest."""
    return largest_family((reference or view).probe) if chosen is None else chosen


def most_samples(samples: Samples) -> int:
    """Samples of the problem that has most; 0 without samples."""
    return max(counts(samples.problem).values(), default=0)


def equal_sizes(
    view: RoundView,
    reference: RoundView | None,
    most: int,
) -> tuple[int, Samples, Samples | None]:
    """Both probes with equally many samples of a problem, and how many those are at most.

    For statistics whose expectation depends on that number, which their estimands name: `most`, or
    what the smaller of the two probes has.
    """
    probes = [view.probe] if reference is None else [view.probe, reference.probe]
    # An empty probe has no say: what is measured on it will be undefined anyway.
    size = min([most, *(num for p in probes if (num := most_samples(p)))])
    now = some_samples(view.probe, size)
    return size, now, None if reference is None else some_samples(reference.probe, size)


def at(kinds: Mapping[Estimand, Kind], size: int) -> dict[Estimand, Kind]:
    """The same table with every statistic named after the number of samples: `alive@8`."""
    return {
        replace(estimand, statistic=f"{estimand.statistic}@{size}"): kind
        for estimand, kind in kinds.items()
    }


def some_samples(samples: Samples, num: int) -> Samples:
    """At most `num` rows of every problem, picked at random (see `monitors/estimators/order.py`).

    The same ones however the rows are ordered.
    """
    if most_samples(samples) <= num:
        return samples
    # Not the first ones of the file: rows that somebody sorted would be a biased choice.
    texts = (
        codes(getattr(samples, name))[1]
        for name in ("family", "slice", "strategy", "answer", "text")
    )
    numbers = (
        getattr(samples, name) for name in ("correct", "valid", "nll", "num_tokens", "truncated")
    )
    problem_N = codes(samples.problem)[1]
    order_N = permuted(problem_N, *texts, *numbers)
    # A row's place within its problem, in the random order.
    size_P = np.bincount(problem_N)
    place_N = np.arange(len(samples)) - np.repeat(np.cumsum(size_P) - size_P, size_P)
    chosen_N = np.zeros(len(samples), dtype=bool)
    chosen_N[order_N[place_N < num]] = True
    return samples.where(chosen_N)
