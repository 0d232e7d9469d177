"""V1: runs in which every monitor lies exactly on a tier's tolerance.

How often that tier alarms is compared with the alpha that was promised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.bench import dynamics, simulate
from ouroloop.monitors.bench.bench import MOST_DRAWS, SIZES, Watcher
from ouroloop.monitors.bench.cells import Cell, Cells
from ouroloop.monitors.bench.dynamics import HEALTHY, Model, Regime
from ouroloop.monitors.bench.simulate import Stream
from ouroloop.monitors.bench.truth import losses, truth
from ouroloop.monitors.decision import blocks, drawing, evidence, guarded, tiers
from ouroloop.monitors.decision.baseline_error import BaselineScores
from ouroloop.monitors.decision.evidence import Weight
from ouroloop.monitors.decision.guards import Guard, Quantity
from ouroloop.monitors.decision.records import Bets, StreamId
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.decision.tables import Pair, Table, Tables
from ouroloop.monitors.names import Tier

NUM_ROUNDS, NUM_MONITORS = 20, 6
RULE = DecisionRule("main")
TIERS = {Tier.HALT: (1.0, RULE.alpha), Tier.WATCH: (RULE.watch_share, RULE.watch_alpha)}
"""Tier -> the share of every tolerance that it bets on, and its alpha."""
KINDS = ("spread", "extreme", "rare", "ragged")
GRID = (
    ("40x8", "spread", False),
    ("40x8", "extreme", False),
    ("120x8", "spread", False),
    ("120x8", "spread", True),
    ("120x8", "extreme", False),
    ("120x8", "extreme", True),
    ("120x8", "rare", False),
    ("120x8", "ragged", False),
    ("500x16", "spread", False),
    ("500x16", "spread", True),
    ("80x8-drawn-8", "spread", False),
    ("80x8-drawn-8", "extreme", False),
    ("80x8-drawn-8", "rare", False),
    ("80x8-drawn-8", "ragged", False),
)
"""Size, kind of problems, whether all monitors see the same numbers."""
OWN_SIZES = ("120x8", "80x8-drawn-8", "500x16")
"""Sizes at which the rule's own quantities are tried."""
ALL_SIZES = tuple(dict.fromkeys([*(line[0] for line in GRID), *OWN_SIZES]))
WATCHED = tuple(line for line in GRID if line[0] in ("120x8", *MOST_DRAWS) and not line[2])
"""The lines of the grid that WATCH is tried on as well."""


@dataclass(frozen=True)
class Verdict:
    """One run: the round of the first alarm (0: none) and the largest log e-value."""

    seed: int
    alarm: int
    log_e: float


def binomial(size: str, kind: str, together: bool, seed: int, tier: str = Tier.HALT) -> Verdict:
    """Six monitors of right-or-wrong samples, each exactly on the tier's share of its tolerance.

    Three with an absolute tolerance and three with a relative one, and a baseline of 4 k samples.

    Args:
        size: problems x samples, "120x8".
        kind: how unlike the problems are. `spread` Beta(2, 2); `extreme` Beta(0.3, 0.3), most of
            them near 0 or 1; `rare` about 2 % each; `ragged`: half of the problems have a quarter
            of the samples, and all of the loss lies with the others.
        together: all monitors see the same numbers.
        seed: of all that is random.
        tier: the tier that is tried.
    """
    # The size as the result files name it: what follows the two numbers says how often is drawn.
    num_problems, num_samples = (int(x) for x in size.split("-")[0].split("x"))
    rng = np.random.default_rng([seed, KINDS.index(kind), num_problems])
    share, alpha = TIERS[Tier(tier)]
    monitors = []
    for i in range(1 if together else NUM_MONITORS):
        quantity, now_P = _monitor(
            rng,
            kind,
            num_problems,
            num_samples,
            i % 2 == 1,
        )
        monitors.append((replace(quantity, tolerance=quantity.tolerance / share), now_P))
    # Copies of one stream are the strongest dependence there is: the bound must hold there too.
    copies = range(NUM_MONITORS if together else 1)
    most_draws = MOST_DRAWS.get(size, 1)
    baselines = [q.baseline_scores() for q, _ in monitors]
    # WATCH says whether a round is drawn again.
    weighed = tuple(TIERS) if most_draws > 1 else (Tier(tier),)
    run = _Binomial(monitors, baselines, copies, rng, {each: [] for each in weighed})
    highest = -np.inf
    for number in range(1, NUM_ROUNDS + 1):
        weights = run.round(most_draws)
        highest = max(highest, weights[Tier(tier)].log_e)
        if highest >= tiers.limit(Tier(tier), alpha):
            return Verdict(seed, number, highest)
    return Verdict(seed, 0, round(highest, 4))


@dataclass
class _Binomial:
    """The rounds of one run of right-or-wrong monitors.

    Attributes:
        monitors: quantities, and P(right) of every problem.
        baselines: their baselines.
        copies: every monitor counts as so many.
        rng: of the samples.
        rounds: the bets of the tiers that are weighed, round by round.
    """

    monitors: Sequence[tuple[Quantity, NDArray[np.float64]]]
    baselines: Sequence[BaselineScores]
    copies: range
    rng: np.random.Generator
    rounds: dict[Tier, list[Bets]]

    def round(self, most_draws: int) -> dict[Tier, Weight[StreamId]]:
        """One more round, drawn again while WATCH's evidence calls for it."""
        weights: dict[Tier, Weight[StreamId]] = {}
        for draw in range(most_draws):
            if draw and not self._is_near(weights[Tier.WATCH]):
                break
            bets = self._draw()
            for tier, past in self.rounds.items():
                if draw:
                    past[-1] = drawing.added([past[-1], bets[tier]])
                else:
                    past.append(bets[tier])
                pay = tiers.pay(tier)
                weights[tier] = evidence.weigh(past, NUM_ROUNDS, NUM_MONITORS, log_pay_C=pay)
        return weights

    def _is_near(self, weight: Weight[StreamId]) -> bool:
        found = drawing.begun(weight, NUM_ROUNDS, len(self.rounds[Tier.WATCH]))
        return drawing.Nearness(found, False).is_near

    def _draw(self) -> dict[Tier, Bets]:
        found: dict[Tier, dict[StreamId, tuple[float, ...]]] = {tier: {} for tier in self.rounds}
        each = zip(self.monitors, self.baselines, strict=True)
        for index, ((quantity, now_P), scores) in enumerate(each):
            there = quantity.pair.now.there_PK
            now = _table(self.rng.random(there.shape) < now_P[:, None], there)
            guard = replace(quantity, pair=Pair(quantity.pair.baseline, now)).guard(scores)
            if not isinstance(guard, Guard):
                continue
            for tier, of_tier in found.items():
                growth = tiers.flat(tiers.growth(guard.stream, tier, TIERS[tier][0]))
                of_tier |= {StreamId(f"{index} {copy}"): growth for copy in self.copies}
        return dict(found)


def _monitor(
    rng: np.random.Generator,
    kind: str,
    num_problems: int,
    num_samples: int,
    relative: bool,
) -> tuple[Quantity, NDArray[np.float64]]:
    """A quantity whose tolerance is what it has truly lost, and P(right) after the loss, (P,)."""
    # All three are drawn, so that a seed means the same problems whatever the kind.
    truth_P = {
        "extreme": rng.beta(0.3, 0.3, num_problems),
        "rare": rng.beta(2, 98, num_problems),
    }.get(kind, rng.beta(2, 2, num_problems))
    share_P = rng.random(num_problems)
    there = np.ones((num_problems, num_samples), dtype=bool)
    # All of the loss where the samples are: the hardest case for a mean over problems.
    if kind == "ragged":
        few_P = np.arange(num_problems) % 2 == 0
        # Every second problem, so that both kinds are of the same difficulty.
        there[few_P, max(num_samples // 4, 1) :] = False
        share_P[few_P] = 0.0
    loss_P = share_P * truth_P
    # At most a tenth, or two points: more would be no tolerance that anybody sets.
    most = 0.1 if relative else 0.02
    loss_P *= min(1.0, most * truth_P.mean() / loss_P.mean())
    tolerance = float(loss_P.mean())
    if relative:
        tolerance = float(loss_P.mean() / truth_P.mean())
    right = rng.random((num_problems, 4 * num_samples)) < truth_P[:, None]
    baseline = _table(right, np.ones(right.shape, dtype=bool))
    pair = Pair(baseline, _table(there, there))
    quantity = Quantity(
        StreamId("x"),
        "x",
        1,
        blocks.right,
        pair,
        tolerance=tolerance,
        relative=relative,
    )
    return quantity, truth_P - loss_P


def _table(right: NDArray[np.bool_], there: NDArray[np.bool_]) -> Table:
    none = np.full(right.shape, -1, dtype=np.int64)
    return Table(
        tuple(f"p{i:05d}" for i in range(len(right))),
        there,
        right & there,
        none,
        none,
    )


def all_quantities(size: str, seed: int, tier: str = Tier.HALT) -> Verdict:
    """The rule's own quantities, each having truly lost exactly what the tier tolerates."""
    num_problems, num_samples, num_baseline = SIZES[size]
    stream = Stream(
        HEALTHY,
        seed,
        num_problems,
        num_samples,
        num_baseline,
    )
    rng = np.random.default_rng([seed, 3])
    before = dynamics.settled(stream.world, HEALTHY)
    # One worse model for all rounds: a loss that stays exactly on the line.
    after = worsened(before, stream)
    first = simulate.draw(before, stream.world, stream.probe, num_baseline, rng)
    # Filled in the first round: the rare strategies are known only then.
    limits: dict[StreamId, float] = {}
    share = TIERS[Tier(tier)][0]
    watcher = Watcher(
        replace(RULE, rounds=NUM_ROUNDS),
        lambda q: replace(q, tolerance=limits[q.stream] / share, ceiling=None),
        tuple(Tier) if size in MOST_DRAWS else (Tier(tier),),
        MOST_DRAWS.get(size, 1),
    )
    highest = -np.inf
    for number in range(1, NUM_ROUNDS + 1):
        tables = stream.again(first, after, rng)
        limits = limits or true_losses(before, after, stream, tables)
        again = partial(stream.again, first, after, rng)
        highest = max(highest, watcher.weigh(tables, again)[Tier(tier)].log_e)
        if highest >= tiers.limit(Tier(tier), watcher.alpha[Tier(tier)]):
            return Verdict(seed, number, round(highest, 4))
    return Verdict(seed, 0, round(highest, 4))


def worsened(model: Model, stream: Stream) -> Model:
    """A little of everything.

    Slips, a lower temperature, a shortcut in one sample of a hundred, another that no grader can
    score, and a twentieth of all other skills lost.
    """
    regime = Regime("worse", slips=0.012, temperature=0.93)
    # Two steps, without chance, so that the truth of the loss is known exactly.
    for _ in range(2):
        model = dynamics.step(model, stream.world, regime, None)
    share_TS = 0.99 * model.share_TS
    share_TS[:, dynamics.SHORTCUT] += 0.01
    return replace(model, share_TS=share_TS, general=0.95, scored=0.99)


def true_losses(
    before: Model,
    after: Model,
    stream: Stream,
    tables: Tables,
) -> dict[StreamId, float]:
    """What each quantity has truly lost, in the unit of its tolerance."""
    rare = guarded.rare_at_baseline(tables)
    then, now = (truth(m, stream.world, stream.probe, rare, RULE.pass_k) for m in (before, after))
    quantities = [replace(q, ceiling=None) for q in guarded.quantities(tables, RULE)]
    lost = losses(then, now, quantities)
    return {q.stream: lost[q.stream.quantity] * q.tolerance for q in quantities}


def name_of(
    size: str,
    kind: str,
    together: bool,
    tier: str,
) -> str:
    """The cell of a line of the grid."""
    return f"{prefix(tier)}{size}-{kind}-{'same' if together else 'independent'}"


def prefix(tier: str) -> str:
    """What the names of a tier's cells begin with."""
    return "" if tier == Tier.HALT else f"{tier}-"


def cells(out: Path, runs: int, sizes: Sequence[str] = ALL_SIZES) -> Cells:
    """A cell for each line of the grid, and the rule's own quantities at three sizes.

    WATCH is tried on some of them.
    """
    lines = [(*line, Tier.HALT) for line in GRID] + [(*line, Tier.WATCH) for line in WATCHED]
    grid: Cells = {
        Cell(out / "v1.csv", name_of(size, kind, together, tier)): (
            binomial,
            [(size, kind, together, s, tier) for s in range(runs)],
        )
        for size, kind, together, tier in lines
        if size in sizes
    }
    for size in OWN_SIZES:
        # Ten times as many samples take ten times as long.
        num = max(runs // 10, 1) if size == "500x16" else runs
        for tier in TIERS:
            if size in sizes:
                grid[Cell(out / "v1.csv", f"{prefix(tier)}panel-{size}")] = (
                    all_quantities,
                    [(size, seed, tier) for seed in range(num)],
                )
    return grid
