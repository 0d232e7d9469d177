"""The headline numbers of a run, and the few tables derived from a round's rows."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ouroloop.loop.costs import TOTAL, WATCHED
from ouroloop.loop.views.lookup import MAIN
from ouroloop.loop.views.reader import NAN, RoundData, RunData
from ouroloop.loop.views.statistics import Unit, label, statistic_of, with_unit
from ouroloop.monitors.decision.reasons import is_blind
from ouroloop.monitors.estimators.estimand import GREEDY, Estimand
from ouroloop.monitors.names import FailureMode, mode_label


class Value(NamedTuple):
    """One number with its 95 % interval; NaN comes with a reason."""

    value: float
    low: float = NAN
    high: float = NAN
    reason: str = ""

    @property
    def defined(self) -> bool:
        """Whether there is a number."""
        return not math.isnan(self.value)

    @property
    def why(self) -> str:
        """`undefined: reason`, of what has no number."""
        return f"undefined: {self.reason or 'no value was recorded'}"


@dataclass(frozen=True)
class Measure:
    """A number that is followed over rounds, by its estimand.

    Of that the main family and the number in the statistic may be left open; a round fills them in.
    """

    key: str
    estimand: Estimand

    def of(self, round: RoundData | None) -> Estimand:
        """The estimand as this round has it, without anything left open if it has it."""
        found = None if round is None else round.find(self.estimand)
        if found is not None:
            return found.estimand
        if round is not None and self.estimand.family == MAIN:
            return replace(self.estimand, family=round.main_family)
        return self.estimand

    @property
    def title(self) -> str:
        """The label while the family and the number are open."""
        return label(self.estimand)

    @property
    def unit(self) -> Unit:
        """How its numbers are written; a share in per cent."""
        return statistic_of(self.estimand).unit

    @property
    def meaning(self) -> str:
        """One plain sentence."""
        return statistic_of(self.estimand).meaning

    def read(self, round: RoundData) -> Value:
        """The reading's value and interval, or why there is none."""
        found = round.find(self.estimand)
        if found is not None:
            return Value(found.value, found.low, found.high, found.reason)
        failed = round.find(Estimand(self.estimand.statistic.split("/")[0]))
        why = f"no monitor read {self.estimand.statistic} in this round"
        return Value(NAN, reason=failed.reason if failed else why)

    def text(self, value: Value, interval: bool = True) -> str:
        """`71.2 % [68.0, 74.1]`, or `undefined: reason`."""
        if not value.defined:
            return value.why
        return with_unit(value, self.unit, interval)


MEASURES: tuple[Measure, ...] = (
    Measure("pass@1", Estimand("accuracy/pass@1", MAIN)),
    Measure("greedy", Estimand("accuracy/pass@1", MAIN, samples=GREEDY)),
    Measure("maj@k", Estimand("accuracy/maj@k", MAIN)),
    Measure("pass@k", Estimand("accuracy/pass@k", MAIN)),
    Measure("dcp", Estimand("diversity/dcp", MAIN)),
    Measure("strategy_entropy", Estimand("diversity/strategy_entropy_all")),
    Measure("ways", Estimand("ways/several@n", MAIN)),
    Measure("mean_ways", Estimand("ways/mean@n", MAIN)),
    Measure("rare", Estimand("coverage/rare_retention")),
    Measure("apart", Estimand("clusters/apart")),
    Measure("trace_entropy", Estimand("entropy/token")),
    Measure("length", Estimand("length/tokens")),
    Measure("overconfidence", Estimand("calibration/overconfidence@n", MAIN)),
    Measure("critic", Estimand("critic/balanced_accuracy", samples="critiques")),
    Measure("let_in", Estimand("audit/false_acceptance", samples="audit")),
    Measure("text_entropy", Estimand("text/entropy", samples="texts")),
    Measure("text_nll", Estimand("text/cross_entropy", samples="texts")),
    Measure("retained", Estimand("traces/retained", samples="traces")),
    Measure("yield", Estimand("supply/yield", samples="pool")),
    Measure("copied", Estimand("revision/copied_critique", samples="pool")),
    Measure("sampled", TOTAL),
    Measure("watched", WATCHED),
)
# Names of the failure modes for headings.
MODES = {mode.value: mode_label(mode) for mode in FailureMode}

BY_KEY = {measure.key: measure for measure in MEASURES}


def title_of(measure: Measure, run: RunData) -> str:
    """The title with the run's own main family and number."""
    return label(measure.of(run.rounds[0] if run.rounds else None))


def meaning_of(measure: Measure, run: RunData) -> str:
    """The meaning with the run's own number."""
    return statistic_of(measure.of(run.rounds[0] if run.rounds else None)).meaning


def labels(runs: Sequence[RunData]) -> list[str]:
    """One name per run; runs of the same name are distinguished by their folders."""
    names = Counter(run.name for run in runs)
    return [run.name if names[run.name] == 1 else f"{run.name} ({run.path})" for run in runs]


def families(runs: Sequence[RunData]) -> list[str]:
    """Every family that some round was scored on, main families first."""
    main = dict.fromkeys(r.main_family for run in runs for r in run.rounds if r.main_family)
    found = (name for run in runs for r in run.rounds for name in r.families)
    return list(main | dict.fromkeys(found))


# A band as thin as this cannot be told from a line: where every text is a strategy of its own.
LEAST_SHARE = 0.02
# The label of the strategies that have no colour of their own.
ALL_OTHERS = "all others"


def ways_of(rows: Any) -> Any:
    """The strategy of each of these probe samples, else its response cluster, else None.

    Of what nobody scored the cluster comes first: it is what is guarded there.
    """
    names = ["strategy", "cluster"] if rows["correct"].notna().any() else ["cluster", "strategy"]
    columns = [rows[name] for name in names if name in rows]
    found = columns[0].where(columns[0].notna(), None)
    for column in columns[1:]:
        found = found.where(found.notna(), column)
    return found


def strategy_shares(round: RoundData, correct_only: bool = False) -> dict[str, float]:
    """Share of each strategy or response cluster among the main family's samples that have one.

    The most common is first.
    """
    rows = round.probe
    if not len(rows):
        return {}
    rows = rows[(rows["kind"] == "sample") & (rows["family"] == round.main_family)]
    rows = rows[rows["correct"] == 1] if correct_only else rows
    shares = ways_of(rows).dropna().value_counts(normalize=True)
    return {str(name): float(share) for name, share in shares.items()}


def common_strategies(rounds: Iterable[RoundData], most: int) -> list[str]:
    """At most `most` names to draw strategies by, the most common over these rounds first.

    Where there are more, the last name stands for all the others: real text has hundreds. None
    where no strategy ever has `LEAST_SHARE` of the samples: there is nothing to see.
    """
    total: dict[str, float] = defaultdict(float)
    largest = 0.0
    for round in rounds:
        for name, share in strategy_shares(round).items():
            total[name] += share
            largest = max(largest, share)
    if largest < LEAST_SHARE:
        return []
    ranked = sorted(total, key=lambda name: -total[name])
    if len(total) <= most:
        return ranked
    return [*ranked[: most - 1], ALL_OTHERS]


def grouped_shares(round: RoundData, names: Sequence[str]) -> dict[str, float]:
    """`strategy_shares` by these names; what has none of them counts as `ALL_OTHERS`."""
    shares = strategy_shares(round)
    out = {name: share for name, share in shares.items() if name in names}
    if rest := sum(share for name, share in shares.items() if name not in names):
        out[ALL_OTHERS] = rest
    return out


# Problems by the ways in which they are solved, as `monitors/metrics/ways.py` counts them.
WAYS_NAMES = ("unsolved", "one way", "two ways", "three or more")


def ways_shares(round: RoundData) -> dict[str, float]:
    """Share of the main family's problems that are solved in so many ways; empty where unknown."""
    found = round.find(BY_KEY["ways"].estimand)
    if found is None or "shares" not in found.details:
        return {}
    return dict(zip(WAYS_NAMES, found.details["shares"], strict=True))


def reliability(round: RoundData) -> list[tuple[float, float, float]]:
    """Points of the reliability diagram.

    (how many samples agree, how often the majority is right, problems behind it).
    """
    found = round.find(Estimand("calibration/overconfidence@n"))
    return (
        [(b["confidence"], b["accuracy"], b["count"]) for b in found.details.get("bins") or ()]
        if found
        else []
    )


def rejections(round: RoundData) -> dict[str, int]:
    """How many samples each reason speaks against, most common first.

    A sample may have several reasons.
    """
    if not len(round.verdicts):
        return {}
    return dict(
        Counter(
            str(reason)
            for reasons in round.verdicts["reasons"]
            if reasons is not None
            for reason in reasons
        ).most_common()
    )


def best_by(best: RoundData) -> str:
    """What the best round is best by: its pass@1, or what stands for it where nobody scores."""
    measure = BY_KEY["pass@1"]
    value = measure.read(best)
    if value.defined:
        return f"pass@1 {measure.text(value)}"
    if is_blind(best.decided):
        return "no answer was scored and nothing is guarded: merely the last round"
    return "no answer was scored: the last round after which nothing was called"
