"""Why a round was decided as it was: `ouroloop explain RUN --round 7`.

Everything stands in the round's decision.json and preflight.json, in their own words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ouroloop.loop.errors import RunStateError
from ouroloop.loop.round import Round
from ouroloop.loop.views.account import Step, steps
from ouroloop.loop.views.endings import called
from ouroloop.loop.views.files import read_object
from ouroloop.loop.views.measures import MODES
from ouroloop.loop.views.progress import markdown
from ouroloop.loop.views.reader import RoundData, RunData, read_run
from ouroloop.loop.views.statistics import DASH
from ouroloop.monitors.decision.evidence import log_limit
from ouroloop.monitors.decision.reasons import why
from ouroloop.monitors.decision.records import Audit, Decision, GuardReading, StreamId, plain
from ouroloop.monitors.names import Action, Tier


@dataclass(frozen=True)
class Outcome:
    """What became of the quantity that drove an action.

    Attributes:
        audit: the one that shows a recovery first, else the latest one.
        round: the round of that audit.
        log_limit: what its evidence must reach to count as a recovery.
    """

    audit: Audit
    round: int
    log_limit: float

    @property
    def sentence(self) -> str:
        """`back within its tolerance in round 5 (e = 120)`, or that it is not shown yet."""
        audit, e = self.audit, plain(self.audit.log_e)
        if audit.recovered:
            return f"{audit.name}: back within its tolerance in round {self.round} (e = {e})"
        return (
            f"{audit.name}: not shown to be back within its tolerance by round {self.round}"
            f" (e = {e}, limit {plain(self.log_limit)})"
        )


def round_of(run: RunData, number: int | None) -> RoundData:
    """The committed round of that number; None: the last one.

    Raises:
        RunStateError: there is none.
    """
    if not run.rounds:
        how = f"`ouroloop watch {called(run)}` follows the run."
        if run.failure:
            how = f"The run failed: {run.failure}. `ouroloop resume {run.path}` tries again."
        elif run.state == "stopped":
            how = f"The run was stopped: `ouroloop resume {run.path}` goes on with it."
        raise RunStateError(f"{run.path}: no round is finished yet. {how}")
    found = run.rounds[-1] if number is None else run.round(number)
    if found is not None:
        return found
    there = f"0 to {run.rounds[-1].number}" if len(run.rounds) > 1 else "0"
    open_round = ""
    if number == run.open_round:
        open_round = f" Round {number} is not finished."
    raise RunStateError(
        f"{run.path}: no finished round {number}; expected one of {there}.{open_round}"
    )


def outcome_of(run: RunData, number: int) -> Outcome | None:
    """What later rounds found about the quantity that drove a round's action; None: no audit."""
    found = None
    for later in run.rounds:
        decided = later.decided
        for audit in decided.audits:
            if audit.round != number or Tier.HALT not in decided.evidence:
                continue
            found = Outcome(audit, later.number, _recovery_limit(run, decided))
            # Once shown, a recovery stays shown; later losses are other rounds' business.
            if audit.recovered:
                return found
    return found


def helped(run: RunData, step: Step) -> str:
    """Whether a round's action helped, as later rounds found; empty where nothing was done."""
    if not step.acts or not step.carried_out:
        return ""
    outcome = outcome_of(run, step.round)
    return outcome.sentence if outcome is not None else "no later round has audited it"


def room(guard: GuardReading) -> float:
    """How far a guarded quantity is from its tolerance, in tolerances: 0 is the limit.

    The point estimate of this round; the evidence says whether a loss is more than sampling noise.
    """
    return 1 - guard.loss_in_tolerances


def explain(path: Path, number: int | None = None) -> str:
    """The decision of a run's round, in words and numbers; None: of its last finished one.

    Raises:
        RunStateError: there is no such round.
    """
    run = read_run(path)
    round = round_of(run, number)
    decided = round.decided
    parts = [
        _head(run, round),
        "Why\n" + "\n".join(f"  {reason}" for reason in why(decided)),
        _evidence(decided),
        _guards(decided),
        _unmeasured(decided),
        _before_training(round),
        _served(run, round),
        _next(run, round),
        _outcome(run, round),
    ]
    return "\n\n".join(part for part in parts if part)


def _head(run: RunData, round: RoundData) -> str:
    text = f"{run.name}, round {round.number}: {round.action}"
    mode = MODES.get(str(round.decided.mode))
    if mode:
        text += f" ({mode})"
    if not round.carried_out:
        text += "; not carried out, as this is the unguarded arm"
    return text


def _evidence(decided: Decision) -> str:
    """Both tiers beside their limits."""
    rows = []
    for tier, found in decided.evidence.items():
        rows.append(
            {
                "tier": tier.upper(),
                "evidence e": plain(found.log_e),
                "limit": plain(found.log_limit),
                "acts": "yes" if found.reached else "no",
                "driven by": decided.driver_name(tier) or DASH,
                "since round": str(found.since),
            }
        )
    if not rows:
        return "Evidence: nothing was weighed in this round."
    return f"Evidence of a loss against its limits (a tier acts at its limit)\n{markdown(rows)}"


def _guards(decided: Decision) -> str:
    """Every guarded quantity, nearest to its tolerance first."""
    # The driver need not be the nearest: evidence counts problems and rounds, too.
    drivers = {found.driver for found in decided.evidence.values()}
    nearest_first = sorted(decided.guards, key=room)
    rows = [_guard_row(guard, decided, guard.stream in drivers) for guard in nearest_first]
    if not rows:
        return ""
    head = (
        "Guarded quantities, the nearest to its tolerance first (room: tolerances left, 0 is the"
        " limit; > drives the evidence; change: of the problems that both rounds answered)"
    )
    # A level and a change that do not fit each other need the reason beside them.
    notes = [f"  * {guard.name}: {guard.note}" for guard in nearest_first if guard.note]
    return "\n".join([f"{head}\n{markdown(rows)}", *notes])


def _guard_row(guard: GuardReading, decided: Decision, drives: bool) -> dict[str, str]:
    change = [_signed(x, guard.relative) for x in (guard.change, guard.low, guard.high)]
    limit = -guard.tolerance if guard.up_is_better else guard.tolerance
    row = {
        "quantity": f"{'> ' if drives else ''}{guard.name}{' *' if guard.note else ''}",
        "baseline round": str(guard.baseline),
        "then": _number(guard.before),
        "now": _number(guard.after),
        "change": f"{change[0]} [{change[1]}, {change[2]}]",
        "tolerated": _signed(limit, guard.relative),
        "room": f"{room(guard):.1f}",
    }
    for tier in Tier:
        row[f"e {tier.upper()}"] = _of_stream(decided, tier, guard.stream)
    return row


def _of_stream(decided: Decision, tier: Tier, stream: StreamId) -> str:
    by_quantity: Mapping[StreamId, float] = {}
    if tier in decided.evidence:
        by_quantity = decided.evidence[tier].by_quantity
    return plain(by_quantity[stream]) if stream in by_quantity else DASH


def _unmeasured(decided: Decision) -> str:
    if not decided.unmeasured:
        return ""
    # One reason often explains many quantities: it is written once, as `ouroloop monitor` does.
    by_reason: dict[str, list[str]] = {}
    for entry in decided.unmeasured:
        by_reason.setdefault(entry.reason, []).append(entry.name)
    lines = [f"  {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    return "\n".join(["Not guarded in this round", *lines])


def _before_training(round: RoundData) -> str:
    """What the preflight check said of the round's samples, and did."""
    found = read_object(round.path.parent.parent, round.path / Round.preflight.file)
    if not found.get("reasons"):
        return ""
    lines = [f"  {reason}" for reason in found["reasons"]]
    return "\n".join([f"Before training: {found['action']}", *lines])


def _served(run: RunData, round: RoundData) -> str:
    """How it is known that these weights were measured; of the last time they were loaded."""
    checkpoint = round.train.get("checkpoint")
    proofs = [
        str(event["proof"])
        for event in run.events
        if event.get("event") == "weights_proven" and event.get("checkpoint") == checkpoint
    ]
    return f"Served weights\n  {proofs[-1]}" if proofs else ""


def _next(run: RunData, round: RoundData) -> str:
    """What the next round's plan says it did."""
    step = next(step for step in steps(run) if step.round == round.number)
    lines: Sequence[str] = step.then
    if not lines:
        lines = ["the next round is not finished"]
        if run.state == "failed":
            lines = [f"the run failed: {run.failure}"]
    return "Done next\n" + "\n".join(f"  {line}" for line in lines)


def _outcome(run: RunData, round: RoundData) -> str:
    """Whether the action helped."""
    if round.action == Action.CONTINUE:
        return ""
    if not round.carried_out:
        return "Did it help: it was not carried out."
    outcome = outcome_of(run, round.number)
    if outcome is None:
        return "Did it help: no later round has audited it."
    return f"Did it help: {outcome.sentence}"


def _recovery_limit(run: RunData, decided: Decision) -> float:
    """What a recovery's evidence must reach.

    HALT's limit before any rollback: the whole of `monitors.alpha`.
    """
    alpha = (run.recipe.get("monitors") or {}).get("alpha")
    return decided.evidence[Tier.HALT].log_limit if alpha is None else log_limit(float(alpha))


def _signed(value: float, relative: bool) -> str:
    if math.isnan(value):
        return DASH
    return f"{100 * value:+.0f} %" if relative else f"{value:+.3f}"


def _number(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:.3f}"
