"""Sentences that explain a decision, written last and from its records alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from ouroloop.monitors.decision.records import (
    Audit,
    Decision,
    GuardReading,
    OfStream,
    StreamId,
    TierEvidence,
    Unmeasured,
    plain,
)
from ouroloop.monitors.names import FailureMode, Tier

if TYPE_CHECKING:  # it brings scipy, which views of a run do without
    from ouroloop.monitors.decision.evidence import Weight

COARSE = 0.15
"""Where more than this share of a quantity's samples, and more than is tolerated, can be lost in a
round before WATCH speaks, a reader of "continue" is to know it: 100 prompts x 8 samples see a
tenth, ten prompts a third."""
NOTHING_GUARDED = (
    "no guarded quantity could be measured at the baseline: whether one got worse is not known"
)
Entry = TypeVar("Entry", bound=OfStream)
ROUND_0 = "round 0 is the baseline: nothing to compare with yet"


def change(guard: GuardReading) -> str:
    """Name, both values, the change with its interval, and the tolerance."""
    # With the sign of a change for the worse.
    limit = -guard.tolerance if guard.up_is_better else guard.tolerance
    numbers = (guard.change, guard.low, guard.high, limit)
    if guard.relative:
        value, low, high, tolerated = (f"{100 * x:+.0f} %" for x in numbers)
    else:
        value, low, high, tolerated = (f"{x:+.3f}" for x in numbers)
    text = (
        f"{guard.name} {guard.before:.3f} -> {guard.after:.3f} ({value}, {low} to {high};"
        f" tolerated {tolerated})"
    )
    return f"{text} [{guard.note}]" if guard.note else text


def head(
    tier: Tier,
    found: TierEvidence,
    watch_share: float,
) -> str:
    """Which tier acts, and on how much evidence."""
    beyond = "its tolerance"
    if tier is Tier.WATCH:
        beyond = f"{watch_share:.0%} of its tolerance"
    return (
        f"{tier.upper()}: evidence e = {plain(found.log_e)} (limit {plain(found.log_limit)}) of a"
        f" loss beyond {beyond}"
    )


def losses(
    weight: Weight[StreamId],
    found: TierEvidence,
    guards: Sequence[GuardReading],
    names: Mapping[StreamId, str],
) -> list[str]:
    """A sentence for the driver, then one per quantity that has evidence enough on its own.

    Enough: e-Bonferroni over the streams.
    """
    guard = {g.stream: g for g in guards}
    out = []
    for stream in sorted(weight.by_stream, key=lambda s: -weight.brought(s)):
        is_driver = stream == found.driver
        enough = weight.brought(stream) >= found.log_limit
        # Evidence of earlier rounds may be large although this round shows no loss.
        shown = stream not in guard or guard[stream].loss_in_tolerances > 0
        if is_driver or (enough and shown):
            now = f"{names[stream]} (not measured in this round)"
            if stream in guard:
                now = change(guard[stream])
            e = plain(weight.by_stream[stream])
            out.append(f"{now}, e = {e} from round {found.since} on")
    return out


def named(mode: FailureMode, rightly: float | None) -> str:
    """What the decline looks like, and how much that name is worth.

    Args:
        mode: the failure mode.
        rightly: the share of simulated alarms with this name that it was right for, if measured.
    """
    worth = "how often that name is right was not measured"
    if rightly is not None:
        worth = f"a name that was right for {rightly:.0%} of simulated alarms; it decides nothing"
    return f"it looks like {mode.replace('_', ' ')} ({worth})"


def calm(guards: Sequence[GuardReading]) -> str:
    """That there is no evidence, and what lies nearest to its limit."""
    if not guards:
        return NOTHING_GUARDED
    # In tolerances, so that quantities of different units can be compared.
    nearest = max(guards, key=lambda g: g.loss_in_tolerances)
    return f"no evidence of a loss beyond any tolerance; nearest to its limit: {change(nearest)}"


def is_blind(decision: Decision) -> bool:
    """Whether nothing was guarded: then no action only says that nothing was seen."""
    return bool(decision.unmeasured) and not decision.guards


def coverage(guards: Sequence[GuardReading], unmeasured: Sequence[Unmeasured]) -> str:
    """What this probe set guards, how coarsely, and what it cannot see, with the reasons.

    A quantity is named once, whatever number of baselines it is compared with.
    """
    first = _earliest(guards)
    names = {q: entry.name for q, entry in _earliest([*guards, *unmeasured]).items()}
    baseline = min((guard.baseline for guard in guards), default=0)
    since = {
        quantity: f" (since round {guard.baseline})"
        for quantity, guard in first.items()
        if guard.baseline != baseline
    }
    guarded = ", ".join(names[q] + since.get(q, "") for q in first) or "nothing"
    if large := _coarse(guards, names):
        guarded = f"{guarded}; {large}"
    # One reason often explains many quantities: it is written once.
    by_reason: dict[str, dict[str, None]] = {}
    for entry in unmeasured:
        if entry.quantity not in first:
            by_reason.setdefault(entry.reason, {}).setdefault(names[entry.quantity])
    if not by_reason:
        return f"guarded: {guarded}"
    unseen = ", ".join(f"{', '.join(found)} ({why})" for why, found in by_reason.items())
    return f"guarded: {guarded}; not seen by this probe set: {unseen}"


def _coarse(guards: Sequence[GuardReading], names: Mapping[str, str]) -> str:
    """The quantities of which one round shows large losses only; empty for none."""
    least: dict[str, float] = {}
    for guard in guards:
        # None: not worked out. The baseline that shows the smallest loss speaks first.
        if guard.seen_from is not None:
            least[guard.quantity] = min(guard.seen_from, least.get(guard.quantity, math.inf))
    tolerated = {guard.quantity: guard.tolerance for guard in guards}
    found = [
        f"{names[quantity]} ({f'{100 * share:.0f} %' if share <= 1 else 'not even all'})"
        for quantity, share in least.items()
        if share > max(COARSE, tolerated[quantity])
    ]
    if not found:
        return ""
    return f"too few samples to see less than about this loss in one round: {', '.join(found)}"


def why(decision: Decision) -> list[str]:
    """The decision's reasons without what is guarded, which is much the same in every round."""
    said = covered(decision)
    return [reason for reason in decision.reasons if reason != said]


def covered(decision: Decision) -> str:
    """What the decision says is guarded; empty where every answer was scored."""
    sentence = coverage(decision.guards, decision.unmeasured)
    return sentence if sentence in decision.reasons else ""


def _earliest(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Quantity -> its entry beside its earliest baseline, whose name has no word of it."""
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.quantity not in found or entry.baseline < found[entry.quantity].baseline:
            found[entry.quantity] = entry
    return found


def latest(audits: Sequence[Audit]) -> list[str]:
    """What became of the quantity that drove the latest action."""
    if not audits:
        return []
    audit = audits[-1]
    found = "not yet shown to be back within its tolerance"
    if audit.recovered:
        found = f"back within its tolerance (e = {plain(audit.log_e)})"
    # A name such as "pass@1, since round 1" ends in an insertion.
    comma = "," if ", " in audit.name else ""
    return [f"after the {audit.action} of round {audit.round} the {audit.name}{comma} is {found}"]
