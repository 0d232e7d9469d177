"""This project's decision rule: the evidence of each of its two tiers.

Calibrated like every other detector, and as it is shipped, with the limits that its promise sets.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

from ouroloop.monitors.bench.alarms.detectors.base import odds_of_change
from ouroloop.monitors.bench.alarms.history import History, Round
from ouroloop.monitors.bench.bench import Watcher
from ouroloop.monitors.decision import evidence, tiers
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.names import Tier

RULE = DecisionRule("main")
"""With every default, and every guarded quantity that needs no more than the traces hold."""


@dataclass
class _Weighed:
    """The log e-values of both tiers after each round of a run, as far as they are known."""

    watcher: Watcher
    log_e: list[dict[Tier, float]] = field(default_factory=list)


# By the run's baseline: four detectors read the same evidence, and it is the dearest of all.
_KNOWN: MutableMapping[Round, _Weighed] = WeakKeyDictionary()


def log_e_of(history: History, tier: Tier) -> float:
    """The tier's log e-value after the latest round, all rounds' evidence together."""
    known = _KNOWN.get(history.baseline)
    if known is None:
        rule = replace(RULE, rounds=history.planned)
        known = _KNOWN[history.baseline] = _Weighed(Watcher(rule))
    for number in range(1 + len(known.log_e), len(history.rounds)):
        weights = known.watcher.weigh(history.until(number).tables())
        known.log_e.append({each: float(weights[each].log_e) for each in Tier})
    return known.log_e[len(history.rounds) - 2][tier]


@dataclass(frozen=True)
class Evidence:
    """A tier's evidence as a score: the odds that its loss has begun."""

    tier: Tier

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.tier.upper()} evidence"

    def score(self, history: History) -> float:
        """See `Detector`."""
        return odds_of_change(log_e_of(history, self.tier), history)


@dataclass(frozen=True)
class Shipped:
    """A tier as it is: its log e-value, and the limit from which on it acts."""

    tier: Tier

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.tier.upper()} as shipped"

    @property
    def limit(self) -> float:
        """Of the log e-value."""
        alpha = {Tier.WATCH: RULE.watch_alpha, Tier.HALT: evidence.spent(RULE.alpha, 1)}
        return tiers.limit(self.tier, alpha[self.tier])

    def score(self, history: History) -> float:
        """See `Detector`."""
        return log_e_of(history, self.tier)
