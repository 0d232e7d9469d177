"""A stream of tables through the panel's own rule: both tiers' evidence, round by round.

Nothing is acted upon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ouroloop.monitors.bench.regimes import REGIMES
from ouroloop.monitors.bench.simulate import Stream
from ouroloop.monitors.bench.truth import Truth, fallen, losses, truth
from ouroloop.monitors.decision import evidence, guarded
from ouroloop.monitors.decision.evidence import Factors, Weight
from ouroloop.monitors.decision.guarded import Tables
from ouroloop.monitors.decision.guards import Baseline, Guard, Quantity
from ouroloop.monitors.decision.modes import name_mode, symptoms_of
from ouroloop.monitors.decision.rule import DecisionRule

SIZES = {
    "500x16": (500, 16, 256),
    "200x16": (200, 16, 64),
    "120x8": (120, 8, 32),
    "500x16-anchor-1024": (500, 16, 1024),
    "1000x32": (1000, 32, 512),
}
"""Name -> problems, samples of each, samples of each at the anchor."""
TAIL_SHARE = {"1000x32": 0.5}
"""Share of the panel that is of the tail slice; elsewhere a quarter."""
TIERS = ("watch", "halt")


@dataclass
class Watcher:
    """`DecisionRule` without views and actions.

    Alter: what to change in a quantity (its tolerance, say) before it is weighed.
    """

    panel: DecisionRule
    alter: Callable[[Quantity], Quantity] = lambda quantity: quantity
    baselines_: dict[str, Baseline] = field(default_factory=dict)
    rounds_: dict[str, list[Factors]] = field(default_factory=lambda: {tier: [] for tier in TIERS})

    @property
    def alpha(self) -> dict[str, float]:
        """Each tier's alpha before any action."""
        return {"watch": self.panel.watch_alpha, "halt": evidence.spent(self.panel.alpha, 1)}

    def weigh(self, tables: Tables) -> dict[str, Weight]:
        """Add a round, and say what all rounds so far amount to, by tier.

        The anchor's side is worked out once, but for the shortcut's.
        """
        guards = []
        for quantity in map(self.alter, guarded.quantities(tables, self.panel)):
            baseline = self.baselines_.get(quantity.name) or quantity.baseline()
            if quantity.name != guarded.SHORTCUT:
                self.baselines_[quantity.name] = baseline
            if isinstance(guard := quantity.guard(baseline), Guard):
                guards.append(guard)
        factors = self.panel.factors(guards, self.alpha)
        for tier in TIERS:
            self.rounds_[tier].append(factors[tier])
        return {
            tier: evidence.weigh(self.rounds_[tier], self.panel.rounds, 0, guarded.FIRST)
            for tier in TIERS
        }

    def alarms(self, weights: Mapping[str, Weight]) -> list[str]:
        """The tiers whose limit is reached."""
        return [
            tier for tier in TIERS if weights[tier].log_e >= evidence.log_limit(self.alpha[tier])
        ]


@dataclass(frozen=True)
class Run:
    """What a run came to: rounds, 0 for never.

    Violated: the first round in which a quantity was truly beyond a tier's tolerance.

    event: first round with pass@1 or the tail's pass@k truly 2 points below the anchor; from_best:
    below the best round so far.
    """

    regime: str
    seed: int
    onset: int
    event: int = 0
    from_best: int = 0
    violated_watch: int = 0
    violated_halt: int = 0
    watch: int = 0
    watch_driver: str = ""
    watch_mode: str = ""
    halt: int = 0
    halt_driver: str = ""
    halt_mode: str = ""


def run(name: str, seed: int, size: str, panel: DecisionRule) -> Run:
    """One simulated run under the rule, stopped when all that it can tell is known."""
    num_problems, num_samples, num_anchor = SIZES[size]
    stream = Stream(
        REGIMES[name],
        seed,
        num_problems,
        num_samples,
        num_anchor,
        panel.rounds,
        TAIL_SHARE.get(size, 0.25),
    )
    watcher = Watcher(panel)
    found: dict[str, Any] = {}
    truths: list[Truth] = []
    quantities: list[Quantity] = []
    for number, tables, now in told(stream, panel):
        truths.append(now)
        if number == 0:
            continue
        quantities = quantities or list(guarded.quantities(tables, panel))
        found = _crossed(number, truths, quantities, panel) | found
        if "watch" in found and "halt" in found and ("event" in found or not stream.regime.mode):
            continue
        for tier in watcher.alarms(weights := watcher.weigh(tables)):
            if tier not in found:
                anchor, main = tables.main
                mode = name_mode(
                    symptoms_of(main),
                    symptoms_of(anchor),
                    {anchor.problems[i] for i in tables.tail_P},
                )
                found |= {
                    tier: number,
                    f"{tier}_driver": weights[tier].driver,
                    f"{tier}_mode": mode or "",
                }
    return Run(name, seed, stream.onset, **found)


def told(stream: Stream, panel: DecisionRule) -> Iterator[tuple[int, Tables, Truth]]:
    """(number, tables, truth) of every round, the anchor first."""
    rare = None
    for a_round in stream.rounds():
        rare = guarded.rare_at_anchor(a_round.tables) if rare is None else rare
        yield (
            a_round.number,
            a_round.tables,
            truth(a_round.model, stream.world, stream.probe, rare, panel.pass_k),
        )


def _crossed(
    number: int, truths: list[Truth], quantities: list[Quantity], panel: DecisionRule
) -> dict[str, int]:
    """Which lines are crossed in this round."""
    now = truths[-1]
    loss = max(losses(truths[0], now, quantities).values())
    best = {n: max(t.score[n] for t in truths) for n in now.score}
    lines = {
        "event": fallen(truths[0].score, now.score, panel.pass_k),
        "from_best": fallen(best, now.score, panel.pass_k),
        "violated_watch": loss > panel.watch_share,
        "violated_halt": loss > 1,
    }
    return {name: number for name, is_crossed in lines.items() if is_crossed}
