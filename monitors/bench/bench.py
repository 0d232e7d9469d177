"""A stream of tables through the decision rule: both tiers' evidence, round by round.

No action is carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ouroloop.monitors.bench.regimes import REGIMES
from ouroloop.monitors.bench.simulate import Stream
from ouroloop.monitors.bench.truth import Truth, fallen, losses, truth
from ouroloop.monitors.decision import evidence, guarded
from ouroloop.monitors.decision.evidence import Weight
from ouroloop.monitors.decision.guarded import QuantityId
from ouroloop.monitors.decision.guards import BaselineScores, Guard, Quantity
from ouroloop.monitors.decision.modes import name_mode, symptoms_of
from ouroloop.monitors.decision.records import RoundBets, StreamId
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
}
"""Name -> problems, samples of each, samples of each at the baseline."""
TAIL_SHARE = {"1000x32": 0.5}
"""Share of the probe set that is of the tail slice; elsewhere a quarter."""


LATER = (QuantityId.SOLVED, QuantityId.ALIVE)
"""Quantities that came after the runs of V1 to V7, which go on showing what they showed."""


def first_nine(tables: Tables, rule: DecisionRule) -> list[Quantity]:
    """The quantities that V1 to V7 are about."""
    found = guarded.quantities(tables, rule)
    return [quantity for quantity in found if quantity.stream.quantity not in LATER]


@dataclass
class Watcher:
    """`DecisionRule` without views and actions.

    Attributes:
        rule: the rule.
        alter: what to change in a quantity (its tolerance, say) before it is weighed.
        quantities: what is guarded.
    """

    rule: DecisionRule
    alter: Callable[[Quantity], Quantity] = lambda quantity: quantity
    quantities: Callable[[Tables, DecisionRule], Iterable[Quantity]] = first_nine
    baselines_: dict[StreamId, BaselineScores] = field(default_factory=dict)
    rounds_: list[RoundBets] = field(default_factory=list)

    @property
    def alpha(self) -> dict[Tier, float]:
        """Each tier's alpha before any action."""
        return {Tier.WATCH: self.rule.watch_alpha, Tier.HALT: evidence.spent(self.rule.alpha, 1)}

    def weigh(self, tables: Tables) -> dict[Tier, Weight[StreamId]]:
        """Add a round, and give the evidence of all rounds so far, by tier.

        The baseline's side is worked out once, but for quantities whose score is another one in
        every round.
        """
        guards = []
        for quantity in map(self.alter, self.quantities(tables, self.rule)):
            # The same baseline in every round, and larger than any round.
            scores = self.baselines_.get(quantity.stream) or quantity.baseline_scores()
            if quantity.stream.quantity != QuantityId.SHORTCUT and quantity.num_picks == 1:
                self.baselines_[quantity.stream] = scores
            if isinstance(guard := quantity.guard(scores), Guard):
                guards.append(guard)
        self.rounds_.append(self.rule.bets(guards, self.alpha))
        first = guarded.first_shares(self.rule)
        weights = {}
        for tier in Tier:
            bets = [of_round.of(tier) for of_round in self.rounds_]
            weights[tier] = evidence.weigh(bets, self.rule.rounds, first=first)
        return weights

    def alarms(self, weights: Mapping[Tier, Weight[StreamId]]) -> list[Tier]:
        """The tiers whose limit is reached."""
        limits = {tier: evidence.log_limit(alpha) for tier, alpha in self.alpha.items()}
        return [tier for tier in Tier if weights[tier].log_e >= limits[tier]]


@dataclass(frozen=True)
class Run:
    """What happened in a run: rounds, 0 for never.

    Attributes:
        regime: its name.
        seed: of the stream.
        onset: first round of the regime.
        event: first round with pass@1 or the tail's pass@k truly 2 points below the baseline.
        from_best: the same, below the best round so far.
        violated_watch: first round with a quantity truly beyond WATCH's share of its tolerance.
        violated_halt: the same for the whole tolerance.
        watch: first round of WATCH.
        watch_driver: the name of the quantity that drove it.
        watch_mode: the failure mode that was named.
        halt: first round of HALT; likewise.
        halt_driver: see `watch_driver`.
        halt_mode: see `watch_mode`.
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
    watcher = Watcher(rule)
    found: dict[str, Any] = {}
    truths: list[Truth] = []
    quantities: list[Quantity] = []
    for number, tables, now in with_truth(stream, rule):
        truths.append(now)
        if number == 0:
            continue
        # The same in every round but for their samples.
        quantities = quantities or first_nine(tables, rule)
        found = _crossed(number, truths, quantities, rule) | found
        # All that is left to find is known: the rest of the run is only simulated, not weighed.
        if "watch" in found and "halt" in found and ("event" in found or not stream.regime.mode):
            continue
        weights = watcher.weigh(tables)
        names = {q.stream: q.name for q in quantities}
        for tier in watcher.alarms(weights):
            if tier not in found:
                found |= {
                    str(tier): number,
                    f"{tier}_driver": names[weights[tier].driver],
                    f"{tier}_mode": str(_mode(tables) or ""),
                }
    return Run(name, seed, stream.onset, **found)


def _mode(tables: Tables) -> FailureMode | None:
    """What the round would be called."""
    baseline, now = tables.main
    tail = {baseline.problems[i] for i in tables.tail_P}
    return name_mode(symptoms_of(now), symptoms_of(baseline), tail)


def with_truth(stream: Stream, rule: DecisionRule) -> Iterator[tuple[int, Tables, Truth]]:
    """(number, tables, truth) of every round, the baseline first."""
    rare = None
    for a_round in stream.rounds():
        # From the baseline alone, which comes first: what is rare stays what was rare then.
        if rare is None:
            rare = guarded.rare_at_baseline(a_round.tables)
        now = truth(a_round.model, stream.world, stream.probe, rare, rule.pass_k)
        yield a_round.number, a_round.tables, now


def _crossed(
    number: int,
    truths: list[Truth],
    quantities: list[Quantity],
    rule: DecisionRule,
) -> dict[str, int]:
    """Which lines are crossed in this round."""
    now = truths[-1]
    # In tolerances: one number for all quantities.
    loss = max(losses(truths[0], now, quantities).values())
    best = {n: max(t.score[n] for t in truths) for n in now.score}
    lines = {
        "event": fallen(truths[0].score, now.score),
        "from_best": fallen(best, now.score),
        "violated_watch": loss > rule.watch_share,
        "violated_halt": loss > 1,
    }
    return {name: number for name, is_crossed in lines.items() if is_crossed}
