"""A run in plain sentences: what happened, what was decided, and what was done about it."""

from __future__ import annotations

from typing import NamedTuple

from ouroloop.loop.objectives.retries import retries_in
from ouroloop.loop.views import costs
from ouroloop.loop.views.headlines import approvals, is_scored
from ouroloop.loop.views.measures import BY_KEY, MODES, Measure, families, strategy_shares
from ouroloop.loop.views.progress import duration
from ouroloop.loop.views.reader import RoundData, RunData
from ouroloop.monitors.decision.reasons import covered, is_blind, why
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.names import Action


class Step(NamedTuple):
    """One row of the decisions table.

    acts: something is to be done. then: what the next round's plan says it did. covered: what was
    guarded and what the probe set could not see; empty where every answer was scored.
    """

    round: int
    action: str
    reasons: list[str]
    carried_out: bool
    then: list[str]
    mode: str
    acts: bool
    covered: str


def sentences(run: RunData) -> list[str]:
    """The run's story for someone who reads nothing else."""
    if not run.rounds:
        return [f"No round is finished yet.{_end(run)}"]
    return [
        text
        for text in (
            _length(run),
            _objectives(run),
            _accuracy(run),
            _breadth(run),
            _supply(run),
            costs.sentence(run.rounds),
            _retries(run),
            _decisions(run),
        )
        if text
    ]


def steps(run: RunData) -> list[Step]:
    """Every decision with its reasons and what came of it."""
    return [
        Step(
            r.number,
            r.action,
            why(r.decided),
            r.carried_out,
            _then(run, r),
            MODES.get(str(r.decision.get("mode")), ""),
            r.action != Action.CONTINUE,
            covered(r.decided),
        )
        for r in run.rounds
    ]


def is_of_traces(run: RunData) -> bool:
    """Whether the rounds are another loop's, judged from their samples: nothing is carried out."""
    return not run.recipe.get("model")


def no_checkpoint(run: RunData) -> str:
    """Why no round can be called one to take; empty where one can."""
    if run.best_round is None:
        return "none yet: no round is fit to be called best"
    if is_of_traces(run) and len(run.rounds) == 1:
        return "none yet: only the baseline round was judged"
    if is_blind(run.rounds[-1].decided):
        return "not known: nothing is guarded, so no round is known to be as good as round 0"
    return ""


def _length(run: RunData) -> str:
    if is_of_traces(run):
        # Traces tell neither what was trained nor how long it took.
        later = _count(len(run.rounds) - 1, "later round")
        return f"A baseline round and {later} of a loop, judged from their samples."
    trained = [r for r in run.rounds if r.train.get("status") == "trained"]
    skips = took = ""
    skipped = len(run.rounds) - 1 - len(trained)  # round 0 is the starting model
    if skipped > 0:
        skips = f"; {skipped} more trained nothing"
    seconds = [run.seconds(r.number) for r in run.rounds]
    known = sum(value for value in seconds if value == value)
    if known:
        took = f" in {duration(known)}"
    return (
        f"{_count(len(trained), 'round')} of training followed the starting model (round"
        f" 0){skips}{took}.{_end(run)}"
    )


def _objectives(run: RunData) -> str:
    """Which rounds trained with what, where it was not sft in all of them."""
    if not run.has_stages:
        return ""
    by_objective: dict[str, list[RoundData]] = {}
    for round in run.rounds[1:]:
        by_objective.setdefault(round.objective, []).append(round)
    if not by_objective:
        return ""
    parts = []
    for objective, rounds in by_objective.items():
        num_pairs = sum(len(round.pairs) for round in rounds)
        learnt = f" on {num_pairs:,} preference pairs" if num_pairs else ""
        parts.append(f"{objective}{learnt} in {_numbered(rounds)}")
    return f"Trained with {_join(parts)}."


def _retries(run: RunData) -> str:
    """What was tried before a training succeeded: memory, or silence."""
    parts = [
        f"in round {round.number} {retry}"
        for round in run.rounds
        for retry in retries_in(round.train)
    ]
    return f"While training, {'; '.join(parts)}." if parts else ""


def _end(run: RunData) -> str:
    """How the run stands, to follow a sentence; empty when it has finished."""
    return {
        "running": " The run is still working.",
        "finished": "",
        "failed": f" The run failed before its end: {run.failure.rstrip('.')}.",
        "stopped": " The run was stopped before its end and can be resumed.",
    }[run.state]


def _accuracy(run: RunData) -> str:
    measure = BY_KEY["pass@1"]
    first, last, best = run.rounds[0], run.rounds[-1], run.round(run.best_round)
    start = measure.read(first)
    if not is_scored(run):
        return _free(run)
    if best is None:
        return f"Right answers on held-out problems: {measure.text(start)}."
    if best.number == first.number:
        text = (
            "No round that the decision rule accepted beats the starting model on held-out"
            f" problems: {measure.text(start)} right."
        )
    else:
        value = measure.read(best)
        # Two 95 % intervals that do not overlap are a stricter criterion than a 95 % test of the
        # difference: what is called sure here is.
        sure = "the intervals overlap, so it may be sampling noise"
        if value.low > start.high:
            sure = "the intervals do not overlap"
        change = f"rose from {measure.text(start)} to {measure.text(value)}"
        rank = "the best"
        if any(measure.read(round).value > value.value for round in run.rounds):
            rank = "the best that the decision rule did not reject"
        text = (
            f"Right answers on held-out problems {change} in round {best.number}, {rank} ({sure})."
        )
    if last.number not in (best.number, first.number):
        text += f" The last round stands at {measure.text(measure.read(last))}."
    return text


def _free(run: RunData) -> str:
    """What is known of a run whose main family has no gold answers."""
    others = [Measure(name, Estimand("accuracy/pass@1", name)) for name in families([run])]
    scored = [m for m in others if any(m.read(round).defined for round in run.rounds)]
    parts = ["No held-out answer was scored: the probe set has no gold answers."]
    if scored:
        main = run.rounds[0].main_family
        parts = [f"No held-out answer of {main} was scored: its problems have no gold answers."]
    for measure in (*approvals(run), BY_KEY["apart"], BY_KEY["trace_entropy"], *scored):
        if change := _change(run, measure):
            parts.append(f"{measure.title} {change}.")
    return " ".join(parts)


def _change(run: RunData, measure: Measure) -> str:
    """`rose from 1 to 2 by the last round`; empty where an end is undefined."""
    first, last = run.rounds[0], run.rounds[-1]
    before, after = measure.read(first), measure.read(last)
    if last is first or not (before.defined and after.defined):
        return ""
    verb = "rose"
    if after.value < before.value:
        verb = "fell"
    elif after.value == before.value:
        verb = "went"
    sure = ""
    if before.high >= after.low and after.high >= before.low:
        sure = " (the intervals overlap)"
    return f"{verb} from {measure.text(before)} to {measure.text(after)} by the last round{sure}"


def _breadth(run: RunData) -> str:
    last, parts = run.rounds[-1], []
    if change := _change(run, BY_KEY["dcp"]):
        parts.append(f"The chance that two samples are both right in different ways (DCP) {change}")
    shares = strategy_shares(last, correct_only=True)
    if shares:
        name, share = next(iter(shares.items()))
        parts.append(
            f"The most common strategy is behind {_percent(share)} of the right answers: {name}"
        )
    return "".join(f"{part}. " for part in parts).rstrip()


def _supply(run: RunData) -> str:
    sampled = sum(len(r.verdicts) for r in run.rounds)
    # A round that drew no samples has an empty table without columns.
    kept = sum(int(r.verdicts["kept"].sum()) for r in run.rounds if len(r.verdicts))
    if not sampled:
        return ""
    if not kept:
        return (
            f"Not one of {sampled:,} samples passed the rejection filters: nothing could be trained"
            " on."
        )
    share = _percent(kept / sampled)
    text = f"Of {sampled:,} samples {kept:,} passed every rejection filter ({share})."
    dropped = sum(len(r.dropped) for r in run.rounds)
    if dropped:
        text += f" {dropped:,} more were dropped, because no server gave a usable answer."
    return text


def _decisions(run: RunData) -> str:
    acted = [r for r in run.rounds if r.action != Action.CONTINUE]
    if not acted and is_of_traces(run) and len(run.rounds) == 1:
        return "Nothing was decided yet: there is no later round."
    if not acted and is_blind(run.rounds[-1].decided):
        return (
            "No verdict: nothing is guarded, so that every round continued only says that nothing"
            " was seen."
        )
    if not acted:
        return "The decision rule let every round continue."
    by_action: dict[str, list[RoundData]] = {}
    for round in acted:
        by_action.setdefault(round.action, []).append(round)
    listed = _join([_after(run, action, rounds) for action, rounds in by_action.items()])
    if is_of_traces(run):
        return f"The decision rule would have intervened: {listed}."
    if not run.guarded:
        return (
            f"The decision rule would have intervened ({listed}), but this is the unguarded arm:"
            " nothing was carried out."
        )
    return f"Decisions: {listed}; {Action.CONTINUE} otherwise."


def _after(run: RunData, action: str, rounds: list[RoundData]) -> str:
    text = f"{action} after {_numbered(rounds)}"
    # In an unguarded run nothing is carried out, which is stated once for all of them.
    undone = [str(r.number) for r in rounds if run.guarded and not r.carried_out]
    if undone:
        text += f" (not carried out after {_join(undone)})"
    return text


def _numbered(rounds: list[RoundData]) -> str:
    """`round 3` or `rounds 3, 4 and 7`."""
    numbers = _join([str(r.number) for r in rounds])
    if len(rounds) == 1:
        return f"round {numbers}"
    return f"rounds {numbers}"


def _then(run: RunData, round: RoundData) -> list[str]:
    following = run.round(round.number + 1)
    if is_of_traces(run):
        return []
    if following is None:
        if run.state == "finished":
            return ["the run ended here"]
        return []
    # What was done stands in the next round's own plan, not in the decision that asked for it.
    why = [str(reason) for reason in following.plan.get("why", [])]
    start = following.plan.get("start_from")
    if start is None:
        return why
    origin = f"round {start}"
    if start == 0:
        origin = "the starting model"
    return [f"round {following.number} trained from {origin}", *why]


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _count(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}s"


def _join(parts: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(parts) == 1:
        return parts[0]
    return ", ".join(parts[:-1]) + " and " + parts[-1]
