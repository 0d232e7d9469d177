"""Runs that differ in nothing but their seed are one arm: its mean, and its spread."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from ouroloop.loop.views.measures import Measure, Value, labels
from ouroloop.loop.views.reader import RunData
from ouroloop.monitors.estimators.stats import mean

# What seeds of one arm may differ in.
OF_A_SEED = ("name", "seed")


@dataclass(frozen=True)
class Arm:
    """One recipe's runs, by any number of seeds; the first stands for what only one run can show.

    Attributes:
        name: what the runs' names have in common.
        runs: one for each seed.
    """

    name: str
    runs: tuple[RunData, ...]

    @property
    def first(self) -> RunData:
        """The run that is shown where only one can be."""
        return self.runs[0]

    def points(self, measure: Measure) -> list[tuple[int, Value]]:
        """(round, value) of the measure.

        Of one run its readings; of several the mean over the seeds, with the 95 % t-interval of
        that mean, over the seeds where it is defined.
        """
        if len(self.runs) == 1:
            return [(round.number, measure.read(round)) for round in self.first.rounds]
        by_round: dict[int, list[Value]] = {}
        for run in self.runs:
            for round in run.rounds:
                by_round.setdefault(round.number, []).append(measure.read(round))
        return [(number, _mean(by_round[number])) for number in sorted(by_round)]


def arms(runs: Sequence[RunData]) -> list[Arm]:
    """The runs by arm, in the order of their first runs."""
    named: dict[str, list[tuple[str, RunData]]] = {}
    for name, run in zip(labels(runs), runs, strict=True):
        recipe = {key: value for key, value in run.recipe.items() if key not in OF_A_SEED}
        # One seed given twice is two runs to compare, not a spread.
        key = json.dumps(recipe, sort_keys=True)
        if any(
            other.recipe.get("seed") == run.recipe.get("seed") for _, other in named.get(key, [])
        ):
            key = str(run.path)
        named.setdefault(key, []).append((name, run))
    return [_arm(*zip(*pairs, strict=True)) for pairs in named.values()]


def _arm(names: Sequence[str], runs: Sequence[RunData]) -> Arm:
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    # Digits go too: `guarded-s1` and `guarded-s12` have `guarded-s1` in common, which is a seed's.
    shared = "".join(letters[0] for letters in same).rstrip("-_ .0123456789")
    return Arm(names[0] if len(names) == 1 else shared or names[0], tuple(runs))


def _mean(values: Sequence[Value]) -> Value:
    defined = [value.value for value in values if value.defined]
    # One of the undefined values itself, for it knows why it is undefined.
    if not defined:
        return values[0]
    found = mean(defined)
    return Value(found.value, found.low, found.high)
