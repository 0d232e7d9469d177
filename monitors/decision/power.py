"""What the decision rule can see: how large a loss must be before it is noticed.

This is found by simulation through the rule's own evidence. A population of samples (a baseline's
own, or a typical model's) is drawn from anew for the baseline and for every round, one quantity is
harmed, and `guarded.quantities` and `tiers.growth` do what they do in a run. Each quantity
must reach the limit alone (the others are taken to bring nothing), with the loss there from the
first round on. The bets' growth over a round is a sum over problems: its mean and its spreads
(within and between baselines) are measured on `NUM_BASELINES` x `NUM_ROUNDS` rounds, and runs are
drawn from the normal law with these.

Suffixes as in `blocks.py`; `_B` bets, `_N` runs, `_R` rounds of a run, `_A` baselines.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

import numpy as np

from ouroloop.monitors.base import Floats
from ouroloop.monitors.decision import evidence, guarded, tiers
from ouroloop.monitors.decision.baseline_error import BaselineScores
from ouroloop.monitors.decision.blocks import block_scores
from ouroloop.monitors.decision.growth import NUM_ROUNDS, WITHIN, Growth, noticed, spreads
from ouroloop.monitors.decision.guarded import GuardedQuantity
from ouroloop.monitors.decision.guards import Guard, Missing, Quantity, Why
from ouroloop.monitors.decision.harms import harmed
from ouroloop.monitors.decision.populations import SEED, Design, Population, drawn
from ouroloop.monitors.decision.records import StreamId
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.decision.tables import Tables
from ouroloop.monitors.names import Tier

# The usual power of a study, and nearly sure.
CHANCES = (0.80, 0.95)
NUM_BASELINES = 20
# Harm from one sample in 200 to all of them, by a factor of 1.18 a step.
HARM_L = np.geomspace(0.005, 1.0, 33)
"""Levels of harm; those between two at which everything is equally (un)likely are left out."""
COARSE = 8
# Between levels whose chances differ by less, the curve is taken to be straight.
CLOSE = 0.1
# The population itself is measured with so many samples of each problem.
MANY = 128

Chances = Mapping[tuple[Tier, int], float]
"""(tier, rounds) -> chance that the loss is noticed within so many rounds."""


@dataclass(frozen=True)
class Power:
    """What can be seen of one quantity.

    Attributes:
        quantity: its id.
        name: how it is called in sentences.
        base: its value at the baseline.
        tolerance: in the unit shown, a share of `base` if `relative`; like all losses here.
        relative: see `tolerance`.
        most: the largest loss that there is.
        smallest: (tier, rounds, chance) -> the least loss noticed with that chance within so many
            rounds; None: not even `most`.
        why: why nothing can be said.
    """

    quantity: str
    name: str
    base: float = float("nan")
    tolerance: float = float("nan")
    relative: bool = False
    most: float = float("nan")
    smallest: Mapping[tuple[Tier, int, float], float | None] = field(default_factory=dict)
    why: str = ""


def power(
    rule: DecisionRule, population: Population, design: Design, only: Collection[str] | None = None
) -> list[Power]:
    """What each guarded quantity can show under this design; deterministic.

    only: ids of quantities; the others are planned with, and not simulated.
    """
    # The same draws for every quantity and level of harm: differences between them are then not
    # noise.
    runs = [
        drawn(
            population,
            design,
            np.random.default_rng((SEED, a)),
            [np.random.default_rng((SEED, a, r)) for r in range(NUM_ROUNDS)],
        )
        for a in range(NUM_BASELINES)
    ]
    rounds = [list(guarded.quantities(tables, rule)) for tables in chain(*runs)]
    everywhere = set.intersection(*({q.stream for q in quantities} for quantities in rounds))
    found = [quantity.guard() for quantity in rounds[0]]
    streams = [guard.id for guard in found if isinstance(guard, Guard)]
    share = {
        tier: evidence.shares(streams, rule.planned(streams, tier), guarded.first_shares(rule))
        for tier in Tier
    }
    out = []
    for entry in found:
        if only is not None and entry.id.quantity not in only:
            continue
        if isinstance(entry, Missing):
            out.append(_unknown(entry))
        elif entry.id not in everywhere:
            why = "too few problems: by chance a probe set of this size has none that show it"
            out.append(Power(entry.id.quantity, entry.quantity.name, why=why))
        else:
            simulation = _Simulation(
                declared=guarded.declared_of(rule.guarded, entry.id.quantity)[0],
                stream=entry.id,
                rule=rule,
                population=population,
                runs=runs,
                design=design,
                share={tier: share[tier][entry.id] for tier in Tier},
            )
            out.append(simulation.power())
    return out


def _unknown(missing: Missing) -> Power:
    """Nothing can be said of a quantity that is not measured."""
    why = "too few samples per problem in a round"
    if missing.why is Why.ABSENT:
        why = missing.reason
    return Power(missing.id.quantity, missing.quantity.name, why=why)


@dataclass(frozen=True)
class _Simulation:
    """One quantity at many levels of harm.

    Attributes:
        declared: the quantity.
        stream: its stream, one of several where a judge has several criteria.
        rule: the rule whose bets are used.
        population: what is drawn from.
        runs: baselines, and rounds of each.
        design: how much is sampled.
        share: of each tier's evidence that the quantity gets.
        baselines_: the baseline's side of each run: harm is done to rounds alone.
    """

    declared: GuardedQuantity
    stream: StreamId
    rule: DecisionRule
    population: Population
    runs: Sequence[Sequence[Tables]]
    design: Design
    share: Mapping[Tier, float]
    baselines_: dict[int, BaselineScores] = field(default_factory=dict)

    def power(self) -> Power:
        """Try levels of harm, close together where the chances of being noticed change."""
        unharmed = self._find(self._large)
        # A share of nothing cannot be lost.
        if unharmed.relative and not self._loss(0.0)[0]:
            why = "there is hardly any at the baseline"
            return Power(self.stream.quantity, unharmed.name, why=why)
        chances: dict[int, Chances] = {}
        # Every eighth level first: the largest harm is not always seen best (nothing may be left).
        for low in range(0, len(HARM_L) - 1, COARSE):
            self._refine(chances, low, low + COARSE)
        levels = sorted(chances)
        found = [self._loss(float(HARM_L[level])) for level in levels]
        losses = [loss for _, loss in found]
        smallest = {
            (*key, chance): _reach(losses, [chances[i][key] for i in levels], chance)
            for key in chances[0]
            for chance in CHANCES
        }
        # The name in a round of the design: a vote's blocks are as large as its samples allow.
        name = self._find(self.runs[0][0]).name
        return Power(
            self.stream.quantity,
            name,
            found[0][0],
            unharmed.tolerance,
            unharmed.relative,
            max(losses),
            smallest,
        )

    def _refine(self, chances: dict[int, Chances], low: int, high: int) -> None:
        """Fill in the levels from `low` to `high` that an answer needs, by halving."""
        for level in (low, high):
            if level not in chances:
                chances[level] = self._chances(float(HARM_L[level]))
        if high - low > 1 and _is_wide(chances[low], chances[high]):
            # Only where an answer lies in between: simulation is what costs time.
            self._refine(chances, low, (low + high) // 2)
            self._refine(chances, (low + high) // 2, high)

    @property
    def _alpha(self) -> dict[Tier, float]:
        """Each tier's alpha before any action."""
        return {
            Tier.WATCH: self.rule.watch_alpha,
            Tier.HALT: evidence.spent(self.rule.alpha, 1),
        }

    def _find(self, tables: Tables) -> Quantity:
        found = guarded.quantities(tables, self.rule, only=self.declared)
        return next(quantity for quantity in found if quantity.stream == self.stream)

    def _harmed(self, tables: Tables, harm: float, seed: tuple[int, ...]) -> Tables:
        rng = np.random.default_rng(seed)
        column = self.stream.quantity
        return harmed(tables, self.population, self.declared, harm, rng, column)

    def _chances(self, harm: float) -> Chances:
        out: dict[tuple[Tier, int], float] = {}
        for tier, growth in self._growth(harm).items():
            # The quantity must reach the limit alone, so its share of the mean is in the way.
            limit = tiers.limit(tier, self._alpha[tier]) - float(np.log(self.share[tier]))
            chance_R = noticed(growth, limit, self.rule.rounds, tiers.pay(tier))
            for within in WITHIN:
                out[tier, within] = float(chance_R[min(within, self.rule.rounds) - 1])
        return out

    @cached_property
    def _large(self) -> Tables:
        """Every problem of the population with many samples: harm to it is known well."""
        others, free = self.population.others, self.population.free
        many = replace(
            self.design,
            num_problems=len(self.population.main.problems),
            num_samples=MANY,
            num_baseline=MANY,
            num_others=0 if others is None else len(others.problems),
            num_free=0 if free is None else len(free.problems),
        )
        # Seeds of its own: this table is no round of the runs.
        rngs = [np.random.default_rng(SEED), np.random.default_rng((SEED, 1))]
        return drawn(self.population, many, rngs[0], rngs[1:])[0]

    def _loss(self, harm: float) -> tuple[float, float]:
        """(value at the baseline as shown, loss as shown) in the population itself."""
        # The same samples with and without the harm: their own noise cancels.
        whole = self._find(self._large)
        hurt = self._find(self._harmed(self._large, harm, (SEED,)))
        # A block is as large as both rounds allow, not as the large table does.
        size = min(hurt.size, max(min(self.design.num_samples, self.design.num_baseline), 2))
        before, after = (
            float(np.nanmean(block_scores(q.pair.now, size, hurt.score))) for q in (whole, hurt)
        )
        start = before
        if hurt.ceiling is not None:
            start = min(before, hurt.ceiling)
        if hurt.relative:
            return hurt.as_shown(start), (start - after) / max(start, 1e-12)
        return hurt.as_shown(start), (start - after) * abs(hurt.shown[1])

    def _growth(self, harm: float) -> dict[Tier, Growth]:
        """Harm the rounds of several baselines and pass them through the rule's own bets."""
        found: dict[Tier, list[Floats]] = {tier: [] for tier in Tier}
        for a, rounds in enumerate(self.runs):
            entries = [
                self._guard(a, self._find(self._harmed(tables, harm, (SEED, a, r, 2))))
                for r, tables in enumerate(rounds)
            ]
            streams = [entry.stream for entry in entries if isinstance(entry, Guard)]
            for tier in Tier:
                share = self.rule.watch_share
                logs = [tiers.growth(stream, tier, share).ravel() for stream in streams]
                found[tier].append(np.array(logs))
        return {
            tier: spreads([logs_RB for logs_RB in logs if len(logs_RB) > 1])
            for tier, logs in found.items()
        }

    def _guard(self, run: int, quantity: Quantity) -> Guard | Missing:
        known = self.baselines_.get(run) or quantity.baseline_scores()
        if not quantity.repicked:
            self.baselines_[run] = known
        return quantity.guard(known)


def _is_wide(before: Chances, after: Chances) -> bool:
    """Whether one of `CHANCES` is passed between two levels that are not close."""
    return any(
        abs(after[key] - before[key]) > CLOSE
        and any(before[key] < chance <= after[key] for chance in CHANCES)
        for key in after
    )


def _reach(losses: list[float], chances: list[float], wanted: float) -> float | None:
    """The least loss with this chance, between simulated ones by their logarithm.

    None where not even the last one reaches it.
    """
    # More harm is never seen less surely: what falls is noise of the simulation.
    rising = np.maximum.accumulate(chances)
    if rising[-1] < wanted:
        return None
    i = int(np.argmax(rising >= wanted))
    if i == 0 or losses[i - 1] <= 0 or losses[i] <= losses[i - 1]:
        return losses[i]
    part = (wanted - rising[i - 1]) / (rising[i] - rising[i - 1])
    below, above = np.log(losses[i - 1]), np.log(losses[i])
    return float(np.exp(below + part * (above - below)))
