"""What helps against a failure mode, and how much of it.

How much to replay follows two laws of populations under selection, both checked by the monitors'
simulations: sampling at temperature T keeps balanced strategies alive only while the fresh share is
above 1 - T, and a cluster whose share the filters multiply by R cannot take over while it is above
1 - 1/R. 3 / (n p) of n examples hold a strategy of share p with 95 % (the rule of three).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from typing import Any

from ouroloop.loop.config import InterventionConfig
from ouroloop.loop.round import Round
from ouroloop.loop.rows import ProbeRow, RoundPlan, Verdict
from ouroloop.loop.stages.preflight import cluster_ratios
from ouroloop.monitors.base import Pool, RoundView
from ouroloop.monitors.metrics import selection
from ouroloop.monitors.metrics.drift import fresh_share_at
from ouroloop.monitors.metrics.readings import of
from ouroloop.monitors.names import FailureMode

# The laws below say what is just enough; a tenth is replayed whatever they say, because what they
# are computed from was measured on samples.
LEAST_FRESH = 0.10
# Factor after a rollback: the share so far did not hold the loss back, and a round was lost.
AFTER_ROLLBACK = 2.0
# Factor when WATCH calls again while replay is at work. Small: WATCH may be wrong, and replay slows
# down what the loop learns.
AFTER_REPLAY = 1.25
# Below this share of round 0's right answers a strategy is not one to be kept alive: a probe of
# some hundred right answers sees it once or never.
RARE = 0.01

# From this share on nearly all texts go by one strategy's name, as of free text, which seldom
# calculates: then names tell nothing apart, and response clusters are what there is to go by.
ONE_NAME = 0.8

# A reader of "reinject" in ten rounds on end is to know that nine of them changed nothing.
EXHAUSTED = (
    "no remedy changes anything more: each is at the recipe's limit"
    " (interventions.replay_fraction_max, temperature, per_strategy, per_cluster; blend and"
    " teachers where they are in use)"
)
# What acts through replay alone, which rounds that learn from preference pairs do without.
REPLAY = ("replay_fraction", "demonstrations")

# Field of a plan -> what its change is called in `RoundPlan.why`.
SHOWN = {
    "replay_fraction": "replay fraction",
    "temperatures": "temperatures",
    "per_strategy": "cap per strategy",
    "per_answer": "cap per answer",
    "per_cluster": "cap per response cluster",
    "distinct": "distinct calculations only",
    "tail_weight": "weight of the tail's problems",
    "teachers": "earlier rounds that draft too",
    "demonstrations": "share of demonstrations in what is replayed",
    "blend": "weight of a baseline round's parameters in the start",
    "blend_with": "that round",
}


@dataclass(frozen=True)
class Stock:
    """What the amount of a remedy depends on; NaN where it is not known.

    Attributes:
        num_kept: samples kept in the last round.
        by_cluster: see `goes_by_cluster`; then the next two are of response clusters.
        rarest: smallest share of a strategy alive among round 0's right answers.
        selection: upper limit of the largest selection ratio in the last round's pool.
        top_answer: share of the most repeated answer at round 0.
        top_cluster: see `top_cluster`.
        top_strategy: see `top_strategy`.
        scored: whether it is known, and may be looked at, which samples are right.
    """

    num_kept: int = 0
    by_cluster: bool = False
    rarest: float = nan
    selection: float = nan
    top_answer: float = nan
    top_cluster: float = nan
    top_strategy: float = nan
    scored: bool = True


def stock_of(rounds: Sequence[Round], main: str, gold: bool = True) -> Stock:
    """What a remedy after these rounds has to work with.

    `gold`: whether it may depend on which answers are right.
    """
    first, drafted, pool = rounds[0], first_drafts(rounds), rounds[-1].view.pool
    by_cluster = goes_by_cluster(first, drafted, main, gold)
    shares = shares_to_keep(rounds, main, gold)
    return Stock(
        num_kept=0 if pool is None else int(pool.kept.sum()),
        by_cluster=by_cluster,
        rarest=rarest_cluster(drafted) if by_cluster else min(shares.values(), default=nan),
        selection=_largest_selection(pool, by_cluster),
        top_answer=top_answer(first.view, main),
        top_cluster=top_cluster(drafted),
        top_strategy=top_strategy(drafted),
        scored=_is_scored(first, main, gold),
    )


def first_drafts(rounds: Sequence[Round]) -> Sequence[Verdict]:
    """What round 0's model drafted to train on: round 1's samples before the filters."""
    return rounds[1].verdicts if len(rounds) > 1 else ()


def goes_by_cluster(first: Round, drafted: Sequence[Verdict], main: str, gold: bool) -> bool:
    """Whether only response clusters tell the texts apart: nobody scores them, nor do names.

    So it is of free text, nearly all of which goes by one strategy's name, or by none.
    """
    return not (_is_scored(first, main, gold) or top_strategy(drafted) <= ONE_NAME)


def shares_to_keep(rounds: Sequence[Round], main: str, gold: bool) -> dict[str, float]:
    """Round 0's shares of strategies, which a later round's replay brings back; {} of free text."""
    if goes_by_cluster(rounds[0], first_drafts(rounds), main, gold):
        return {}
    return strategy_shares(_asked(rounds[0], main), gold)


def _is_scored(first: Round, main: str, gold: bool) -> bool:
    return gold and any(row.correct is not None for row in _asked(first, main))


def _asked(first: Round, main: str) -> list[ProbeRow]:
    return [row for row in first.probe if row.family == main]


def _largest_selection(pool: Pool | None, by_cluster: bool) -> float:
    """Upper limit of the largest selection ratio of a strategy, or of a response cluster."""
    # Without a kept sample nothing was selected, and the ratio is undefined.
    if pool is None or not pool.kept.any():
        return nan
    ratios = cluster_ratios if by_cluster else selection.selection_ratios
    found = selection.largest_ratio(ratios(pool))
    return found[2] if found else nan


def top_answer(view: RoundView, main: str) -> float:
    """The share of the most repeated answer among a round's probe samples of the main family."""
    asked = of(view.probe, "family", main)
    answers = Counter(answer for answer in asked.answer if isinstance(answer, str))
    return max(answers.values(), default=0) / max(len(asked), 1)


def top_cluster(drafted: Sequence[Verdict]) -> float:
    """The share of the largest response cluster among what round 0's model drafted to train on.

    These are round 1's samples before the filters: an answer to a training problem lies in other
    clusters than one to the probe set, which its problem's baseline answers stand beside. NaN
    before round 1, and where there are no clusters.
    """
    return max(_shares(drafted, lambda verdict: verdict.cluster), default=nan)


def rarest_cluster(drafted: Sequence[Verdict]) -> float:
    """The share of the smallest response cluster among the same samples, from `RARE` on."""
    shares = _shares(drafted, lambda verdict: verdict.cluster)
    return min((share for share in shares if share >= RARE), default=nan)


def top_strategy(drafted: Sequence[Verdict]) -> float:
    """The share of the most common strategy among the same samples."""
    return max(_shares(drafted, lambda verdict: verdict.strategy), default=nan)


def _shares(drafted: Sequence[Verdict], group: Callable[[Verdict], str | None]) -> list[float]:
    sizes = Counter(name for name in map(group, drafted) if name is not None)
    return [size / len(drafted) for size in sizes.values()]


def strategy_shares(rows: Sequence[ProbeRow], gold: bool = True) -> dict[str, float]:
    """Share of each strategy among the right samples, those below `RARE` left out.

    Among all samples where none is scored, or without `gold`, where no score may be looked at.
    """
    named = [row for row in rows if row.kind == "sample" and row.strategy is not None]
    if gold and any(row.correct is not None for row in named):
        named = [row for row in named if row.correct == 1]
    count = Counter(row.strategy for row in named if row.strategy is not None)
    shares = {name: num / count.total() for name, num in sorted(count.items())}
    return {name: share for name, share in shares.items() if share >= RARE}


def fresh_share(temperatures: Sequence[float], stock: Stock) -> float:
    """The least share of fresh data: max(0.10, 1 - T, 1 - 1/R, 3 / (n p)), of what is known."""
    laws = [LEAST_FRESH, fresh_share_at(min(temperatures))]
    if isfinite(stock.selection):
        laws.append(selection.fresh_share(stock.selection))
    if stock.num_kept and isfinite(stock.rarest) and stock.rarest > 0:
        laws.append(3 / (stock.num_kept * stock.rarest))
    return max(laws)


def remedy(
    plan: RoundPlan,
    limits: InterventionConfig,
    mode: FailureMode | None,
    rolled_back: bool,
    stock: Stock,
    back: int,
    baseline: int | None = None,
    replays: bool = True,
    starved: bool = False,
) -> RoundPlan:
    """The plan with what helps against the named failure; what was begun before goes on.

    Where all of that changes nothing, this one training starts nearer to the weights of the round
    that the quantity is compared with: what has moved is the model itself, and interpolation keeps
    most of what it has learnt (WiSE-FT, Wortsman et al. 2109.01903; in every round: WARP, Rame et
    al. 2406.16768).

    Args:
        plan: the last round's.
        limits: the recipe's `interventions`.
        mode: the failure that the quantity which spoke calls for; None: of no known quantity.
        rolled_back: whether the last round was rejected; else more is replayed, no more.
        stock: what the last rounds left.
        back: the round to roll back to.
        baseline: the round that the quantity which spoke is compared with; None: none spoke.
        replays: whether the next round learns from anything that is replayed.
        starved: whether too little was kept, and nothing else called; a cap would keep less still.
    """
    new = plan if starved else _against(plan, limits, mode, stock, back)
    new = _replaying_more(new, limits, rolled_back, stock)
    changed = _changes(plan, new, SHOWN if replays else SHOWN.keys() - REPLAY)
    if baseline is not None and limits.blend and not changed:
        new = replace(new, blend=limits.blend, blend_with=baseline)
    why = [
        f"{SHOWN[name]}: {_shown(getattr(plan, name))} -> {_shown(getattr(new, name))}"
        for name in _changes(plan, new, SHOWN)
    ]
    return replace(new, why=tuple(why) or (EXHAUSTED,))


def _changes(old: RoundPlan, new: RoundPlan, names: Iterable[str]) -> list[str]:
    return [name for name in names if getattr(old, name) != getattr(new, name)]


def _against(
    plan: RoundPlan,
    limits: InterventionConfig,
    mode: FailureMode | None,
    stock: Stock,
    back: int,
) -> RoundPlan:
    """What a failure mode calls for beside replay."""
    changes: dict[str, Any] = {}
    # What is met with nothing of its own is met as sharpening is, the most frequent failure.
    if mode in (FailureMode.SHARPENING, None):
        # Heat and caps act on what is sampled and kept, distinct calculations on what is learnt.
        changes["temperatures"] = tuple(max(limits.temperature, t) for t in plan.temperatures)
        changes["per_strategy"] = _tighter(plan.per_strategy, _strategy_cap(limits, stock))
        # Free text with the same calculation in it may say something else in every other sentence.
        changes["distinct"] = plan.distinct or not stock.by_cluster
    if mode is FailureMode.CANNED:
        changes["temperatures"] = tuple(max(limits.temperature, t) for t in plan.temperatures)
        changes["per_cluster"] = _tighter(plan.per_cluster, _cluster_cap(limits, stock))
    if mode in (FailureMode.SHARPENING, None) and not stock.scored:
        # Nobody knows which of the texts are right, so a strategy may be a canned response too.
        changes["per_cluster"] = _tighter(plan.per_cluster, _cluster_cap(limits, stock))
    if mode is FailureMode.SHORTCUT:
        # An answer that was common from the start is no shortcut: it may have twice its share.
        twice = 2 * stock.top_answer if isfinite(stock.top_answer) else limits.per_answer
        changes["per_answer"] = max(twice, limits.per_answer)
    if mode is FailureMode.TAIL_NARROWING:
        changes["tail_weight"] = max(plan.tail_weight, limits.tail_weight)
    if mode in (FailureMode.DRIFT, FailureMode.SHARPENING, FailureMode.CANNED):
        # What has moved is the model itself: more data of its own kind would not bring it back.
        # Of free text nothing later than round 0 is known to be sound.
        first = (0, back) if stock.by_cluster else (back, 0)
        changes["teachers"] = tuple(dict.fromkeys(first))[: limits.teachers]
    return replace(plan, **changes)


def _cluster_cap(limits: InterventionConfig, stock: Stock) -> float:
    """No response cluster more common than the largest was at round 0: that one was no canned."""
    if isfinite(stock.top_cluster):
        return max(limits.per_cluster, stock.top_cluster)
    return limits.per_cluster


def _strategy_cap(limits: InterventionConfig, stock: Stock) -> float | None:
    """None where nobody scores and one name had more from the start, as it has of free text.

    Any cap on it leaves half of the texts out, and spreads nothing.
    """
    if not stock.scored and stock.top_strategy > (limits.per_strategy or 1.0):
        return None
    return limits.per_strategy


def _tighter(cap: float | None, limit: float | None) -> float | None:
    if cap is None:
        return limit
    return min(cap, limit or 1.0)


def _replaying_more(
    plan: RoundPlan, limits: InterventionConfig, rolled_back: bool, stock: Stock
) -> RoundPlan:
    """Every remedy replays more; the demonstrations there were stay, the rest comes on top."""
    factor = 1.0
    if rolled_back:
        factor = AFTER_ROLLBACK
    elif plan.archive:
        factor = AFTER_REPLAY
    share = max(
        limits.replay_fraction,
        fresh_share(plan.temperatures, stock),
        plan.replay_fraction * factor,
    )
    # Real data that was replayed before the call stays: it is all that holds what the probe set
    # does not ask. What brings back the lost comes on top.
    standing = plan.replay_fraction * plan.demonstrations
    share = min(
        max(share, standing + share * (1 - limits.demonstrations)),
        max(limits.replay_fraction_max, plan.replay_fraction),
    )
    demonstrations = max(limits.demonstrations, standing and standing / share)
    return replace(plan, archive=True, replay_fraction=share, demonstrations=demonstrations)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(f'{part:g}' for part in value)}]"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.3g}"
