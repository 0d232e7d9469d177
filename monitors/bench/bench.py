"""A stream of tables through the decision rule: both tiers' evidence, round by round.

No action is carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ouroloop.monitors.bench.dynamics import PREJUDICED
from ouroloop.monitors.bench.regimes import REGIMES
from ouroloop.monitors.bench.simulate import Stream
from ouroloop.monitors.bench.truth import Truth, died, fallen, losses, truth
from ouroloop.monitors.decision import drawing, evidence, guarded, tiers
from ouroloop.monitors.decision.baseline_error import BaselineScores
from ouroloop.monitors.decision.drawing import Nearness
from ouroloop.monitors.decision.evidence import Weight
from ouroloop.monitors.decision.guards import Guard, Quantity
from ouroloop.monitors.decision.modes import name_mode, symptoms_of
from ouroloop.monitors.decision.records import Bets, StreamId
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.decision.tables import Tables
from ouroloop.monitors.names import FailureMode, Tier

# 500x16 is what the tables are read at, 120x8 the demo's size, 200x16 what a small budget allows;
# the last two show what more samples buy at the baseline and in every round.
SIZES = {
    "500x16": (500, 16, 256),
    "200x16": (200, 16, 64),
    "120x8": (120, 8, 32),
    "500x16-anchor-1024": (500, 16, 1024),  # as the result files call it: a larger baseline
    "1000x32": (1000, 32, 512),
    # About as many samples a round as 120x8 while nothing is the matter.
    "80x8-drawn-8": (80, 8, 256),
}
"""Name -> problems, samples of each, samples of each at the baseline."""
MOST_DRAWS = {"80x8-drawn-8": 8}
"""Draws of the probe set in a round at most; elsewhere one."""
TAIL_SHARE = {"1000x32": 0.5}
"""Share of the probe set that is of the tail slice; elsewhere a quarter."""


@dataclass
class Watcher:
    """`DecisionRule` without views and actions.

    Attributes:
        rule: the rule.
        alter: what to change in a quantity (its tolerance, say) before it is weighed.
        tiers: what is weighed.
        num_draws: of all rounds so far.
    """

    rule: DecisionRule
    alter: Callable[[Quantity], Quantity] = lambda quantity: quantity
    tiers: Sequence[Tier] = tuple(Tier)
    num_draws: int = 0
    baselines_: dict[StreamId, BaselineScores] = field(default_factory=dict)
    rounds_: dict[Tier, list[Bets]] = field(default_factory=dict)

    @property
    def alpha(self) -> dict[Tier, float]:
        """Each tier's alpha before any action."""
        return {Tier.WATCH: self.rule.watch_alpha, Tier.HALT: evidence.spent(self.rule.alpha, 1)}

    def weigh(
        self, tables: Tables, again: Callable[[], Tables] | None = None
    ) -> dict[Tier, Weight[StreamId]]:
        """Add a round, and give the evidence of all rounds so far, by tier.

        Args:
            tables: its first draw.
            again: one more draw of the same round, asked for while the evidence is near a limit.
        """
        for tier in self.tiers:
            self.rounds_.setdefault(tier, []).append({})
        weights = self._drawn(tables)
        for _ in range(1, self.rule.draws):
            if again is None or not self._is_near(weights):
                break
            weights = self._drawn(again())
        return weights

    def _is_near(self, weights: Mapping[Tier, Weight[StreamId]]) -> bool:
        halt = weights.get(Tier.HALT)
        halts = halt is not None and Tier.HALT in self.alarms({Tier.HALT: halt})
        num_rounds = len(self.rounds_[Tier.WATCH])
        found = drawing.begun(weights[Tier.WATCH], self.rule.rounds, num_rounds)
        return Nearness(found, halts).is_near

    def _drawn(self, tables: Tables) -> dict[Tier, Weight[StreamId]]:
        """Add a draw to the last round.

        The baseline's side is worked out once, but for quantities whose score is another one in
        every round.
        """
        self.num_draws += 1
        guards = []
        for quantity in map(self.alter, guarded.quantities(tables, self.rule)):
            # The same baseline in every round, and larger than any round.
            scores = self.baselines_.get(quantity.stream) or quantity.baseline_scores()
            if not quantity.repicked:
                self.baselines_[quantity.stream] = scores
            if isinstance(guard := quantity.guard(scores), Guard):
                guards.append(guard)
        first = guarded.first_shares(self.rule)
        weights = {}
        for tier in self.tiers:
            bets = self.rounds_[tier]
            lost = self.rule.lost(tier, guards)
            bets[-1] = drawing.added([bets[-1], lost]) if bets[-1] else lost
            weights[tier] = evidence.weigh(
                bets, self.rule.rounds, first=first, log_pay_C=tiers.pay(tier)
            )
        return weights

    def alarms(self, weights: Mapping[Tier, Weight[StreamId]]) -> list[Tier]:
        """The tiers whose limit is reached."""
        limits = {tier: tiers.limit(tier, alpha) for tier, alpha in self.alpha.items()}
        return [tier for tier, weight in weights.items() if weight.log_e >= limits[tier]]


@dataclass(frozen=True)
class Run:
    """What happened in a run: rounds, 0 for never.

    Attributes:
        regime: its name.
        seed: of the stream.
        onset: first round of the regime.
        event: first round with pass@1 or the tail's pass@k truly 2 points below the baseline, or
            DCP a quarter; where a strategy is to die, or three quarters of it gone.
        from_best: the same, below the best round so far.
        violated_watch: first round with a quantity truly beyond WATCH's share of its tolerance.
        violated_halt: the same for the whole tolerance.
        watch: first round of WATCH.
        watch_driver: the name of the quantity that drove it.
        watch_mode: the failure mode that was named.
        halt: first round of HALT; likewise.
        halt_driver: see `watch_driver`.
        halt_mode: see `watch_mode`.
        weighed: rounds that were weighed.
        draws: of the probe set in them.
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
    weighed: int = 0
    draws: int = 0


def run(
    name: str,
    seed: int,
    size: str,
    rule: DecisionRule,
) -> Run:
    """One simulated run under the rule, stopped when all that it can show is known."""
    num_problems, num_samples, num_baseline = SIZES[size]
    stream = Stream(
        REGIMES[name],
        seed,
        num_problems,
        num_samples,
        num_baseline,
        rule.rounds,
        TAIL_SHARE.get(size, 0.25),
    )
    watcher = Watcher(replace(rule, draws=MOST_DRAWS.get(size, 1)))
    dying = stream.regime.accept == PREJUDICED
    found: dict[str, Any] = {}
    truths: list[Truth] = []
    quantities: list[Quantity] = []
    for number, tables, now, again in with_truth(stream, rule):
        truths.append(now)
        if number == 0:
            continue
        # The same in every round but for their samples.
        quantities = quantities or list(guarded.quantities(tables, rule))
        found = _crossed(number, truths, quantities, rule, dying) | found
        # No table holds what a tier does later than a round after the event.
        if "event" in found and number > found["event"] + 1:
            break
        weights = watcher.weigh(tables, again)
        names = {q.stream: q.name for q in quantities}
        for tier in watcher.alarms(weights):
            if tier not in found:
                found |= {
                    str(tier): number,
                    f"{tier}_driver": names[weights[tier].driver],
                    f"{tier}_mode": str(_mode(tables) or ""),
                }
    weighed = len(watcher.rounds_.get(Tier.WATCH, []))
    return Run(name, seed, stream.onset, weighed=weighed, draws=watcher.num_draws, **found)


def _mode(tables: Tables) -> FailureMode | None:
    """What the round would be called."""
    baseline, now = tables.main
    tail = {baseline.problems[i] for i in tables.tail_P}
    return name_mode(symptoms_of(now), symptoms_of(baseline), tail)


def with_truth(
    stream: Stream, rule: DecisionRule
) -> Iterator[tuple[int, Tables, Truth, Callable[[], Tables]]]:
    """(number, tables, truth, one more draw) of every round, the baseline first."""
    rare = None
    for a_round in stream.rounds():
        # From the baseline alone, which comes first: what is rare stays what was rare then.
        if rare is None:
            rare = guarded.rare_at_baseline(a_round.tables)
        now = truth(a_round.model, stream.world, stream.probe, rare, rule.pass_k)
        yield a_round.number, a_round.tables, now, a_round.again


def _crossed(
    number: int,
    truths: list[Truth],
    quantities: list[Quantity],
    rule: DecisionRule,
    dying: bool,
) -> dict[str, int]:
    """Which lines are crossed in this round."""
    now = truths[-1]
    # In tolerances: one number for all quantities.
    loss = max(losses(truths[0], now, quantities).values())
    best = {n: max(t.score[n] for t in truths) for n in now.score}
    lines = {
        "event": fallen(truths[0].score, now.score) or (dying and died(truths[0], now)),
        "from_best": fallen(best, now.score),
        "violated_watch": loss > rule.watch_share,
        "violated_halt": loss > 1,
    }
    return {name: number for name, is_crossed in lines.items() if is_crossed}
