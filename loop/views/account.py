"""A run in plain sentences: what happened, what was decided, and what was really done about it."""

from __future__ import annotations

from typing import NamedTuple

from ouroloop.loop.views.measures import BY_KEY, MODES, strategy_shares
from ouroloop.loop.views.progress import clock
from ouroloop.loop.views.reader import RoundData, RunData


class Step(NamedTuple):
    """One row of the decisions table. `then`: what the next round's plan says it did."""

    round: int
    action: str
    reasons: list[str]
    carried_out: bool
    then: list[str]
    mode: str


def sentences(run: RunData) -> list[str]:
    """The run's story for someone who reads nothing else."""
    if not run.rounds:
        return [f"No round is finished yet.{_end(run)}"]
    return [
        text
        for text in (_length(run), _accuracy(run), _breadth(run), _supply(run), _decisions(run))
        if text
    ]


def steps(run: RunData) -> list[Step]:
    """Every decision with its reasons and what came of it."""
    return [
        Step(
            r.number,
            r.action,
            list(r.decision.get("reasons", [])),
            r.carried_out,
            _then(run, r),
            MODES.get(str(r.decision.get("mode")), ""),
        )
        for r in run.rounds
    ]


def _length(run: RunData) -> str:
    trained = [r for r in run.rounds if r.train.get("status") == "trained"]
    seconds = sum(s for r in run.rounds if (s := run.seconds(r.number)) == s)
    skipped = len(run.rounds) - 1 - len(trained)
    skips = f"; {skipped} more trained nothing" if skipped > 0 else ""
    took = f" in {clock(seconds)}" if seconds else ""
    return (
        f"{_count(len(trained), 'round')} of training followed the starting model (round"
        f" 0){skips}{took}.{_end(run)}"
    )


def _end(run: RunData) -> str:
    """How the run stands, to follow a sentence; empty when it has finished."""
    return {
        "running": " The run is still working.",
        "finished": "",
        "failed": f" The run failed before its end: {run.failure}",
        "stopped": " The run was stopped before its end and can be resumed.",
    }[run.state]


def _accuracy(run: RunData) -> str:
    measure, first, last, best = (
        BY_KEY["pass@1"],
        run.rounds[0],
        run.rounds[-1],
        run.round(run.best_round),
    )
    start = measure.read(first)
    if not start.defined or best is None:
        return f"Right answers on held-out problems: {measure.text(start)}."
    if best.number == first.number:
        text = (
            "No round that the panel accepted beats the starting model on held-out problems:"
            f" {measure.text(start)} right."
        )
    else:
        value = measure.read(best)
        sure = (
            "the intervals do not overlap"
            if value.low > start.high
            else "the intervals overlap, so it may be chance"
        )
        change = f"rose from {measure.text(start)} to {measure.text(value)}"
        text = (
            f"Right answers on held-out problems {change} in round {best.number}, the best"
            f" ({sure})."
        )
    if last.number not in (best.number, first.number):
        text += f" The last round stands at {measure.text(measure.read(last))}."
    return text


def _breadth(run: RunData) -> str:
    measure, first, last = BY_KEY["dcp"], run.rounds[0], run.rounds[-1]
    before, after = measure.read(first), measure.read(last)
    parts = []
    if before.defined and after.defined and last is not first:
        verb = "fell" if after.value < before.value else "rose"
        sure = (
            " (the intervals overlap)"
            if before.high >= after.low and after.high >= before.low
            else ""
        )
        change = (
            f"{verb} from {measure.text(before)} to {measure.text(after)} by the last round{sure}"
        )
        parts.append(f"The chance that two samples are both right in different ways (DCP) {change}")
    shares = strategy_shares(last, correct_only=True)
    if shares:
        name, share = next(iter(shares.items()))
        parts.append(
            f"The most common strategy is behind {_percent(share)} of the right answers ({name})"
        )
    return ". ".join(parts) + "." if parts else ""


def _supply(run: RunData) -> str:
    sampled, kept = (
        sum(len(r.verdicts) for r in run.rounds),
        sum(int(r.verdicts["kept"].sum()) for r in run.rounds if len(r.verdicts)),
    )
    if not sampled:
        return ""
    if not kept:
        return f"Not one of {sampled:,} samples passed the gates: nothing could be trained on."
    return f"Of {sampled:,} samples {kept:,} passed every gate ({_percent(kept / sampled)})."


def _decisions(run: RunData) -> str:
    acted = [r for r in run.rounds if r.action != "continue"]
    if not acted:
        return "The panel let every round continue."
    listed = _join(
        [
            _after(run, action, [r for r in acted if r.action == action])
            for action in dict.fromkeys(r.action for r in acted)
        ]
    )
    if not run.guarded:
        return (
            f"The panel would have intervened ({listed}), but this is the unguarded arm: nothing"
            " was carried out."
        )
    return f"The panel decided: {listed}; continue otherwise."


def _after(run: RunData, action: str, rounds: list[RoundData]) -> str:
    undone = [str(r.number) for r in rounds if run.guarded and not r.carried_out]
    numbers = _join([str(r.number) for r in rounds])
    return f"{action} after round{'s' if len(rounds) > 1 else ''} {numbers}" + (
        f" (not carried out after {_join(undone)})" if undone else ""
    )


def _then(run: RunData, round: RoundData) -> list[str]:
    following = run.round(round.number + 1)
    if following is None:
        return ["the run ended here"] if run.state == "finished" else []
    start = following.plan.get("start_from")
    told = (
        []
        if start is None
        else [
            f"round {following.number} trained from"
            f" {f'round {start}' if start else 'the starting model'}"
        ]
    )
    return [*told, *map(str, following.plan.get("why", []))]


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
