"""Tables of results: a line per arm over its seeds; differences between arms seed by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ouroloop.loop.experiments.study import Results
from ouroloop.monitors.estimators.stats import UNDEFINED, Estimate, mean
from ouroloop.monitors.names import Action

Rows = Sequence[Mapping[str, Any]]

# Heading -> (one number from a run's rows, unit: "%", "" or a word).
#
# Shares are in [0, 1] and shown as per cent.
Columns = Mapping[str, tuple[Callable[[Rows], float], str]]

ALARMS = tuple(action for action in Action if action is not Action.CONTINUE)

# Columns beside arm and seeds; more become lines.
WIDEST = 10


def last(name: str) -> Callable[[Rows], float]:
    """The last row's value."""
    return lambda run: float(run[-1][name])


def first(name: str) -> Callable[[Rows], float]:
    """The first row's value."""
    return lambda run: float(run[0][name])


def change(name: str) -> Callable[[Rows], float]:
    """The last row's value less the first one's."""
    return lambda run: float(run[-1][name]) - float(run[0][name])


def kept(name: str) -> Callable[[Rows], float]:
    """The last row's value over the first one's."""
    return lambda run: float(run[-1][name]) / float(run[0][name])


def alarmed(run: Rows, *actions: str) -> float:
    """The first round with one of these decisions (none given: any that warns).

    The value is NaN if no round has one.
    """
    return next(
        (float(row["round"]) for row in run if row["action"] in (actions or ALARMS)), math.nan
    )


def arm_table(results: Results, columns: Columns) -> list[str]:
    """Markdown lines: an arm per line.

    Each column the mean over its seeds with the 95 % t interval, over three seeds or more; turned,
    where it would be too wide to read and that helps.
    """
    grid = [["arm", "seeds", *columns]]
    for arm, runs in results.items():
        grid.append(
            [
                arm,
                str(len(runs)),
                *(
                    _over_seeds([column(run) for run in runs.values()], unit)
                    for column, unit in columns.values()
                ),
            ]
        )
    # A wide table is turned: arms become columns. More arms than columns would be wider still.
    if len(columns) > WIDEST and len(results) < len(columns):
        grid = [list(row) for row in zip(*grid, strict=True)]
    return markdown(grid)


def round_table(results: Results, shown: Mapping[str, tuple[str, str]]) -> list[str]:
    """Markdown lines: each arm's values over the rounds, means over its seeds, and its decisions.

    shown: heading -> (column, unit).
    """
    num = max((len(run) for runs in results.values() for run in runs.values()), default=0)
    grid = [["arm", "", *map(str, range(num))]]
    for arm, runs in results.items():
        for heading, (name, unit) in shown.items():
            at = [
                [float(run[i][name]) for run in runs.values() if i < len(run)] for i in range(num)
            ]
            grid.append([arm, heading, *(cell(mean(each), unit).split(" [")[0] for each in at)])
        for seed, run in sorted(runs.items()):
            acted = [str(row["action"]) for row in run]
            grid.append([arm, f"decision, seed {seed}", *acted, *[""] * (num - len(run))])
    return markdown(grid)


def average(results: Results, arm: str, column: Callable[[Rows], float]) -> Estimate:
    """Mean over an arm's seeds; undefined without any."""
    return mean([column(run) for run in results.get(arm, {}).values()])


def gain(results: Results, arm: str, over: str, column: Callable[[Rows], float]) -> Estimate:
    """Mean over the seeds that both arms have of the difference between them, seed by seed."""
    return mean(
        [column(results[arm][s]) - column(results[over][s]) for s in _shared(results, arm, over)]
    )


def times(results: Results, arm: str, over: str, column: Callable[[Rows], float]) -> Estimate:
    """Mean over the seeds that both arms have of the ratio between them.

    On the scale of logarithms; undefined where one is 0.
    """
    pairs = [
        (column(results[arm][s]), column(results[over][s])) for s in _shared(results, arm, over)
    ]
    # Ratios multiply: their logarithms are what a t interval suits. NaN values are left out.
    found = mean([math.log(a / b) if a > 0 and b > 0 else math.nan for a, b in pairs])
    return Estimate(
        math.exp(found.value), math.exp(found.low), math.exp(found.high), found.num_clusters
    )


def over_problems(results: Results, arm: str, found: Callable[[Rows], Estimate]) -> Estimate:
    """Mean over an arm's seeds of an estimate that each run made over its own problems.

    Value and limits alike.

    The seeds share the problems, so that more of them do not make the interval narrower: it is that
    of one run, on average.
    """
    # The limits are averaged, samples are not pooled: all seeds have the same problems.
    each = [found(run) for _, run in sorted(results.get(arm, {}).items())]
    if not each:
        return UNDEFINED
    value, low, high = (sum(e[i] for e in each) / len(each) for i in range(3))
    return Estimate(value, low, high, min(e.num_clusters for e in each))


def changed(results: Results, arm: str, name: str) -> Estimate:
    """A change of the last round that a run measured problem by problem, over an arm's seeds.

    In the columns `<name>_change`, `<name>_low` and `<name>_high`.
    """

    def of(run: Rows) -> Estimate:
        value, low, high = (float(run[-1][f"{name}_{part}"]) for part in ("change", "low", "high"))
        return Estimate(value, low, high, 2)

    return over_problems(results, arm, of)


def change_table(
    results: Results, arms: Sequence[str], shown: Mapping[str, tuple[str, str]], suffix: str = ""
) -> list[str]:
    """Markdown lines: an arm per line with what `changed` finds of it.

    shown: heading -> (name, unit). suffix: of every name, such as the one of changes over an arm.
    """
    grid = [["arm", *shown]]
    for arm in arms:
        found = [(changed(results, arm, f"{name}{suffix}"), unit) for name, unit in shown.values()]
        grid.append([arm, *(cell(estimate, unit) for estimate, unit in found)])
    return markdown(grid)


def markdown(grid: Sequence[Sequence[str]]) -> list[str]:
    """Markdown lines of a table, its head first."""
    head, *body = (f"| {' | '.join(row)} |" for row in grid)
    return [head, "|---" * len(grid[0]) + "|", *body]


def cell(estimate: Estimate, unit: str = "") -> str:
    """`12.3 [11.0, 13.6]`; a dash where nothing is known."""
    if not math.isfinite(estimate.value):
        return "-"
    # Shares in per cent with one digit, other numbers with two.
    scale, digits = (100, 1) if unit == "%" else (1, 2)
    shown = f"{scale * estimate.value:.{digits}f}"
    if estimate.num_clusters > 1 and math.isfinite(estimate.low):
        shown += f" [{scale * estimate.low:.{digits}f}, {scale * estimate.high:.{digits}f}]"
    return f"{shown} {unit}".rstrip()


def _over_seeds(values: Sequence[float], unit: str) -> str:
    """The mean of what the seeds have; says of how many, where some of them have nothing."""
    found = mean(values)
    if found.num_clusters == 2:
        # Of two seeds the limits lie six of their distances to either side of the mean: those of a
        # share are below 0 and above 100 %, and say nothing.
        found = found._replace(low=math.nan, high=math.nan)
    shown = cell(found, unit)
    lacks = 0 < found.num_clusters < len(values)
    return f"{shown} ({found.num_clusters} of {len(values)} seeds)" if lacks else shown


def _shared(results: Results, one: str, other: str) -> list[int]:
    return sorted(set(results.get(one, {})) & set(results.get(other, {})))
