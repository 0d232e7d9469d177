"""What a run is shown by: title, unit and meaning of each statistic, and the headline numbers.

The report, the terminal tables, `compare`, `monitor` and the trackers all take a number from the
round's readings by its estimand, and its label from here; so a label means one number everywhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from ouroloop.loop.views.reader import MAIN, NAN, RoundData, RunData
from ouroloop.monitors.base import Reading
from ouroloop.monitors.estimators.estimand import EVERY, GREEDY, OTHERS, Estimand
from ouroloop.monitors.estimators.halves import SECOND_HALF

Unit = Literal["share", "nats", "count", "ratio"]
SHOWN: Mapping[Unit, tuple[float, int, str]] = {
    "share": (100, 1, " %"),
    "nats": (1, 2, ""),
    "ratio": (1, 2, ""),
    "count": (1, 0, ""),
}
"""Unit -> factor, digits and sign with which a number is written."""


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


class Statistic(NamedTuple):
    """How a statistic is shown: in a table's head, as a title, in which unit, and in one sentence.

    `{n}` stands for the number that the statistic names.
    """

    short: str
    title: str
    unit: Unit
    meaning: str


STATISTICS: Mapping[str, Statistic] = {
    "accuracy/pass@1": Statistic(
        "pass@1",
        "Right answers (pass@1)",
        "share",
        "Share of held-out samples whose final answer is right.",
    ),
    "accuracy/maj@n": Statistic(
        "maj@{n}",
        "Right by majority (maj@{n})",
        "share",
        "Share of held-out problems where the most common of {n} answers is right.",
    ),
    "accuracy/pass@n": Statistic(
        "pass@{n}",
        "Right at least once (pass@{n})",
        "share",
        "Chance that at least one of {n} samples is right: what is still within reach.",
    ),
    "diversity/dcp": Statistic(
        "DCP",
        "Two right, two ways (DCP)",
        "share",
        "Distinct-correct-pair probability: two samples of a problem are both right and use"
        " different strategies. The first to fall when a model narrows.",
    ),
    "diversity/strategy_entropy_all": Statistic(
        "strategy entropy",
        "Strategy entropy",
        "nats",
        "How evenly the strategies are used; 0 means that only one is left.",
    ),
    "coverage/alive@n": Statistic(
        "alive",
        "Strategies alive",
        "count",
        "Number of strategies behind at least one in a hundred of the right held-out samples, of"
        " {n} per problem.",
    ),
    "coverage/rare_retention": Statistic(
        "rare kept",
        "Rare strategies kept",
        "ratio",
        "Right answers by strategies that were rare in round 0, against then: 1 is kept, 0 is"
        " lost.",
    ),
    "coverage/rare_mass": Statistic(
        "rare mass",
        "Rare-strategy mass",
        "share",
        "Chance that a sample is right by a strategy that was rare in round 0.",
    ),
    "entropy/token": Statistic(
        "entropy",
        "Trace entropy",
        "nats",
        "Surprise per token of the model's own samples; falls as the model repeats itself.",
    ),
    "calibration/overconfidence@n": Statistic(
        "over-conf.",
        "Over-confidence",
        "share",
        "How far agreement among {n} samples overstates being right; 0 is calibrated, above 0 is"
        " too sure.",
    ),
    "shortcut/share": Statistic(
        "shortcut",
        "Most repeated wrong answer",
        "share",
        "Share of samples that give the wrong answer that grew most since round 0.",
    ),
    "validity/unscored": Statistic(
        "unscored",
        "Unscored samples",
        "share",
        "Share of held-out samples whose answer could not be judged.",
    ),
    "critic/balanced_accuracy": Statistic(
        "critic",
        "Critic is right",
        "share",
        "Balanced accuracy of the model's verdicts on its own drafts; 50 % is guessing.",
    ),
    "audit/false_acceptance": Statistic(
        "let in",
        "Wrong items let in",
        "share",
        "Share of planted wrong solutions that the rejection filter accepts; what passes is"
        " trained on.",
    ),
    "text/entropy": Statistic(
        "text entropy",
        "Entropy on real text",
        "nats",
        "How open the model's next token is along fixed demonstrations that training never sees;"
        " falls as the model narrows.",
    ),
    "text/cross_entropy": Statistic(
        "text surprise",
        "Surprise on real text",
        "nats",
        "Negative log-probability per token of those demonstrations; rises as the model forgets"
        " what it did not write itself.",
    ),
    "length/tokens": Statistic(
        "tokens", "Length", "count", "Mean number of tokens of a held-out sample."
    ),
    "supply/yield": Statistic(
        "yield",
        "Yield of the filter",
        "share",
        "Share of the round's training samples that passed every filter.",
    ),
}
"""Statistic (a number in it written as n) -> how it is shown."""

QUALIFIERS = {GREEDY: "greedy", SECOND_HALF: "second half"}
"""Samples that a label has to name: the statistic is also taken on others."""


def statistic_of(estimand: Estimand) -> Statistic:
    """How an estimand's statistic is shown; one without an entry by its own name."""
    name = estimand.statistic
    if name in STATISTICS:
        return STATISTICS[name]
    head, _, number = name.rpartition("@")
    short, title, unit, meaning = STATISTICS.get(f"{head}@n", Statistic(name, name, "ratio", ""))
    texts = (text.replace("{n}", number) for text in (short, title, meaning))
    return Statistic(next(texts), next(texts), unit, next(texts))


def label(estimand: Estimand) -> str:
    """`Right at least once (pass@4), sum2, tail`: different for different estimands."""
    family = {EVERY: "", OTHERS: "other families", MAIN: "main family"}
    parts = [
        statistic_of(estimand).title,
        family.get(estimand.family, estimand.family),
        "" if estimand.slice == EVERY else estimand.slice,
        QUALIFIERS.get(estimand.samples, ""),
    ]
    return ", ".join(part for part in parts if part)


def column(estimand: Estimand) -> str:
    """The head of its column in a table of the main family's numbers: `pass@1 %`."""
    shown = statistic_of(estimand)
    short = "greedy" if estimand.samples == GREEDY else shown.short
    return f"{short}{SHOWN[shown.unit][2]}"


def written(value: Value | Reading, unit: Unit, interval: bool = True) -> str:
    """`71.2 [68.0, 74.1]`, in per cent where the unit is a share."""
    scale, digits, _ = SHOWN[unit]
    text = f"{value.value * scale:.{digits}f}"
    if interval and not (math.isnan(value.low) or math.isnan(value.high)):
        text += f" [{value.low * scale:.{digits}f}, {value.high * scale:.{digits}f}]"
    return text


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
            return f"undefined: {value.reason or 'no value was recorded'}"
        number, bracket, ends = written(value, self.unit, interval).partition(" [")
        return f"{number}{SHOWN[self.unit][2]}{bracket}{ends}"


MEASURES: tuple[Measure, ...] = (
    Measure("pass@1", Estimand("accuracy/pass@1", MAIN)),
    Measure("greedy", Estimand("accuracy/pass@1", MAIN, samples=GREEDY)),
    Measure("maj@k", Estimand("accuracy/maj@k", MAIN)),
    Measure("pass@k", Estimand("accuracy/pass@k", MAIN)),
    Measure("dcp", Estimand("diversity/dcp", MAIN)),
    Measure("strategy_entropy", Estimand("diversity/strategy_entropy_all")),
    Measure("alive", Estimand("coverage/alive@n")),
    Measure("rare", Estimand("coverage/rare_retention")),
    Measure("trace_entropy", Estimand("entropy/token")),
    Measure("overconfidence", Estimand("calibration/overconfidence@n", MAIN)),
    Measure("critic", Estimand("critic/balanced_accuracy", samples="critiques")),
    Measure("let_in", Estimand("audit/false_acceptance", samples="audit")),
    Measure("text_entropy", Estimand("text/entropy", samples="texts")),
    Measure("text_nll", Estimand("text/cross_entropy", samples="texts")),
    Measure("yield", Estimand("supply/yield", samples="pool")),
)
MODES = {"A": "drift", "B": "sharpening", "C": "shortcut takeover", "D": "tail narrowing"}
"""Names of the decision rule's failure modes."""

BY_KEY = {measure.key: measure for measure in MEASURES}


def title_of(measure: Measure, run: RunData) -> str:
    """The title with the run's own main family and number."""
    return label(measure.of(run.rounds[0] if run.rounds else None))


def meaning_of(measure: Measure, run: RunData) -> str:
    """The meaning with the run's own number."""
    return statistic_of(measure.of(run.rounds[0] if run.rounds else None)).meaning


def labels(runs: Sequence[RunData]) -> list[str]:
    """One name per run; runs of the same name are told apart by their folders."""
    names = Counter(run.name for run in runs)
    return [run.name if names[run.name] == 1 else f"{run.name} ({run.path})" for run in runs]


def families(runs: Sequence[RunData]) -> list[str]:
    """Every family that some round was scored on, main families first."""
    main = dict.fromkeys(r.main_family for run in runs for r in run.rounds if r.main_family)
    found = (name for run in runs for r in run.rounds for name in r.families)
    return list(main | dict.fromkeys(found))


def strategy_shares(round: RoundData, correct_only: bool = False) -> dict[str, float]:
    """Share of each strategy among the main family's panel samples that have one.

    Most common first.
    """
    rows = round.probe
    if not len(rows):
        return {}
    rows = rows[(rows["kind"] == "sample") & (rows["family"] == round.main_family)]
    rows = rows[rows["correct"] == 1] if correct_only else rows
    shares = rows["strategy"].dropna().value_counts(normalize=True)
    return {str(name): float(share) for name, share in shares.items()}


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
