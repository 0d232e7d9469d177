"""This project's decision rule: the evidence of each of its two tiers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ouroloop.monitors.bench.alarms.history import History
from ouroloop.monitors.bench.bench import Watcher
from ouroloop.monitors.decision import evidence, guarded
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.names import Tier

RULE = DecisionRule("main")
"""With every default, and every guarded quantity that needs no more than the traces hold."""


@dataclass
class Evidence:
    """The log e-value of a tier after each round, all rounds' evidence together.

    Attributes:
        tier: whose.
        name: of the table.
        watcher_: weighs the rounds, begun with the first one.
        weighed_: rounds weighed.
        log_e_: of the latest.
    """

    tier: Tier
    name: str
    watcher_: Watcher | None = None
    weighed_: int = 0
    log_e_: float = 0.0

    @property
    def limit(self) -> float:
        """From which on the tier acts, whatever the benchmark calibrates."""
        alpha = {Tier.WATCH: RULE.watch_alpha, Tier.HALT: evidence.spent(RULE.alpha, 1)}
        return evidence.log_limit(alpha[self.tier])

    def score(self, history: History) -> float:
        """See `Detector`."""
        if self.watcher_ is None:
            rule = replace(RULE, rounds=history.planned)
            self.watcher_ = Watcher(rule, quantities=guarded.quantities)
        for number in range(1 + self.weighed_, len(history.rounds)):
            weights = self.watcher_.weigh(history.until(number).tables())
            self.log_e_ = float(weights[self.tier].log_e)
            self.weighed_ = number
        return self.log_e_


@dataclass
class Watch(Evidence):
    """A quarter of every tolerance."""

    tier: Tier = Tier.WATCH
    name: str = "WATCH (evidence)"


@dataclass
class Halt(Evidence):
    """The whole of every tolerance."""

    tier: Tier = Tier.HALT
    name: str = "HALT (evidence)"
