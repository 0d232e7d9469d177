"""How each statistic is shown: its title, unit and meaning, and the labels made of them.

Every view takes a number from the round's readings by its estimand, and its label from here; so a
label means one number everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

from ouroloop.loop.views.lookup import MAIN
from ouroloop.monitors.estimators.estimand import EVERY, GREEDY, OTHERS, SECOND_HALF, Estimand

Unit = Literal["share", "nats", "count", "ratio"]
DASH = "–"
"""In the place of a number that is not defined."""
# Unit -> factor, digits and sign with which a number is written.
SHOWN: Mapping[Unit, tuple[float, int, str]] = {
    "share": (100, 1, " %"),
    "nats": (1, 2, ""),
    "ratio": (1, 2, ""),
    "count": (1, 0, ""),
}


class Statistic(NamedTuple):
    """How a statistic is shown: in a table's head, as a title, in which unit, and in one sentence.

    `{n}` stands for the number that the statistic names.
    """

    short: str
    title: str
    unit: Unit
    meaning: str


# Statistic (a number in it written as n) -> how it is shown.
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
        " different strategies. Falls when a model narrows.",
    ),
    "diversity/strategy_entropy_all": Statistic(
        "strategy entropy",
        "Strategy entropy",
        "nats",
        "How evenly the strategies are used; 0 means that only one is left.",
    ),
    "ways/several@n": Statistic(
        "two ways",
        "Solved in two ways or more",
        "share",
        "Share of held-out problems whose right answers, among {n} samples, come by two strategies"
        " or more.",
    ),
    "ways/mean@n": Statistic(
        "ways",
        "Ways among {n} samples",
        "ratio",
        "Different strategies among the right ones of {n} samples of a held-out problem, in the"
        " mean. The first to fall when a model narrows.",
    ),
    "coverage/rare_retention": Statistic(
        "rare kept",
        "Rare strategies kept",
        "ratio",
        "Right answers by strategies that were rare in round 0, divided by round 0's: 1 is kept,"
        " 0 is lost.",
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
        "Negative log-likelihood per token of the model's own samples; falls as the model repeats"
        " itself.",
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
        "Critic's balanced accuracy",
        "share",
        "Of the model's verdicts on its own drafts; 50 % is guessing.",
    ),
    "audit/false_acceptance": Statistic(
        "false acceptance",
        "False acceptance",
        "share",
        "Share of planted wrong solutions that the rejection filter accepts; what passes is"
        " trained on.",
    ),
    "judge/balanced_accuracy": Statistic(
        "judge",
        "Frozen judge's balanced accuracy",
        "share",
        "Of its verdicts on planted items; 50 % is guessing.",
    ),
    "judge/unreadable": Statistic(
        "unread",
        "Judge's unreadable verdicts",
        "share",
        "Share of the frozen judge's verdicts that could not be read.",
    ),
    "judge/tokens": Statistic(
        "judge tokens",
        "Tokens of the frozen judge",
        "count",
        "Tokens of all its prompts and verdicts in a round: what it costs.",
    ),
    "text/entropy": Statistic(
        "text entropy",
        "Entropy on real text",
        "nats",
        "Entropy of the model's next token along fixed demonstrations that training never sees;"
        " falls as the model narrows.",
    ),
    "text/cross_entropy": Statistic(
        "text NLL",
        "NLL on real text",
        "nats",
        "Negative log-likelihood per token of those demonstrations; rises as the model forgets"
        " what it did not write itself.",
    ),
    "traces/retained": Statistic(
        "retained",
        "Retained probability",
        "share",
        "What round 0's answers kept of their probability, each strategy of a problem alike; falls"
        " as strategies die. Scored token by token: no sampling noise.",
    ),
    "traces/retained_token": Statistic(
        "retained/token",
        "Retained probability per token",
        "share",
        "The same per token: for answers of any length.",
    ),
    "traces/dcp": Statistic(
        "scored DCP",
        "Two right, two ways (scored)",
        "share",
        "Distinct-correct-pair probability, from round 0's answers and their probability now.",
    ),
    "clusters/apart": Statistic(
        "apart",
        "Answers apart",
        "share",
        "Share of pairs of a problem's answers in different response clusters, whoever scores them;"
        " falls as answers become alike.",
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
    "revision/copied_critique": Statistic(
        "copied",
        "Revisions that repeat their critique",
        "share",
        "Share of the round's revised texts that say the critique again instead of answering; near"
        " 0 where the model can revise.",
    ),
    "revision/unchanged": Statistic(
        "unchanged",
        "Revisions that change nothing",
        "share",
        "Share of the round's revised texts that are the text before them.",
    ),
    "cost/sampled": Statistic(
        "sampled", "Tokens sampled", "count", "All that the round's models wrote, in tokens."
    ),
    "cost/watched": Statistic(
        "watched",
        "Tokens only for measuring",
        "share",
        "Share of the sampled tokens that measure and are never trained on: probe, audit, judge.",
    ),
}

# Statistics that end in a name of the recipe's own, written as {n}.
NAMED: Mapping[str, Statistic] = {
    "responses/approved_": Statistic(
        "approved: {n}",
        "Approved: {n}",
        "share",
        "Share of judged answers of which the frozen judge approves by {n}.",
    ),
    "principle/": Statistic(
        "principle {n}",
        "Kept: principle {n}",
        "share",
        "Share of judged answers in which the frozen judge finds the principle {n} kept; the rest"
        " violate it.",
    ),
}

# A greedy answer is one per problem, and another number than that of the samples.
GREEDY_MEANINGS = {
    "accuracy/pass@1": "Share of held-out problems whose greedy answer (temperature 0) is right.",
}

# Samples that a label has to name: the statistic is also taken on others.
QUALIFIERS = {GREEDY: "greedy", SECOND_HALF: "second half"}


def statistic_of(estimand: Estimand) -> Statistic:
    """How an estimand's statistic is shown; one without an entry by its own name."""
    name = estimand.statistic
    if estimand.samples == GREEDY and name in GREEDY_MEANINGS:
        return STATISTICS[name]._replace(meaning=GREEDY_MEANINGS[name])
    if name in STATISTICS:
        return STATISTICS[name]
    head, _, number = name.rpartition("@")
    found = STATISTICS.get(f"{head}@n", Statistic(name, name, "ratio", ""))
    for beginning, statistic in NAMED.items():
        if name.startswith(beginning):
            found, number = statistic, name.removeprefix(beginning)
    short, title, unit, meaning = found
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


class Interval(Protocol):
    """A value with its interval; NaN where there is none."""

    @property
    def value(self) -> float: ...  # noqa: D102
    @property
    def low(self) -> float: ...  # noqa: D102
    @property
    def high(self) -> float: ...  # noqa: D102


def written(value: Interval, unit: Unit, interval: bool = True) -> str:
    """`71.2 [68.0, 74.1]`, in per cent where the unit is a share."""
    scale, digits, _ = SHOWN[unit]
    text = f"{value.value * scale:.{digits}f}"
    if interval and not (math.isnan(value.low) or math.isnan(value.high)):
        text += f" [{value.low * scale:.{digits}f}, {value.high * scale:.{digits}f}]"
    return text


def with_unit(value: Interval, unit: Unit, interval: bool = True) -> str:
    """`71.2 % [68.0, 74.1]`: as `written`, for a place without a head that names the unit."""
    number, bracket, ends = written(value, unit, interval).partition(" [")
    return f"{number}{SHOWN[unit][2]}{bracket}{ends}"
