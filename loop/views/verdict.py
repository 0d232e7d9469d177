"""The last lines of `ouroloop monitor`: whether any round halts, and what was guarded."""

from __future__ import annotations

from collections.abc import Sequence

from ouroloop.loop.views.lookup import find
from ouroloop.monitors.decision.reasons import coverage, is_blind
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.follower import Judged

YIELD = Estimand("supply/yield", samples="pool")


def verdict(rule: DecisionRule, rounds: Sequence[Judged]) -> list[str]:
    """A sentence on the evidence, one on halts without any, and one on what is guarded."""
    last = rounds[-1].decision
    halts = [judged.decision for judged in rounds if judged.is_halt]
    shown = [decision.round for decision in halts if decision.has_halt_evidence]
    ended = [decision.round for decision in halts if not decision.has_halt_evidence]
    # A table's own numbers may not be places: "round 400 of 4" would be nonsense.
    out = [of_evidence(rule, shown, len(rounds), counted=last.round == len(rounds) - 1)]
    if is_blind(last) and not halts:
        out = ["No verdict: nothing is guarded, so `continue` only says that nothing was seen."]
    if ended:
        out.append(
            f"Halt without HALT evidence {_at(ended)[0]}: a guarded quantity was lost, or nothing"
            " was kept (the reasons stand above), and no chance is promised of that."
            f" {_remedies(rounds)}"
        )
    if last.guards or last.unmeasured:
        out.append(f"Round {last.round}: {coverage(last.guards, last.unmeasured)}.")
    return out


def _remedies(rounds: Sequence[Judged]) -> str:
    """What helps against the halts without HALT evidence."""
    halts = [j for j in rounds if j.is_halt and not j.decision.has_halt_evidence]
    starved = [judged.decision.round for judged in halts if _kept_nothing(judged)]
    out = []
    if len(starved) < len(halts):
        out.append(
            "Where a column is missing or bears another name, write it as in round"
            f" {rounds[0].decision.round}."
        )
    if starved:
        out.append(
            f"The filter let nothing through {_at(starved)[0]}: loosen it, or draw more samples to"
            " choose from. If it did let some through, `kept` is wrong: true is what passed."
        )
    return " ".join(out)


def _kept_nothing(judged: Judged) -> bool:
    found = find(judged.readings, YIELD, "")
    return found is not None and found.value == 0


def of_evidence(
    rule: DecisionRule, halted: Sequence[int], num_rounds: int, counted: bool = True
) -> str:
    """Which rounds have HALT evidence, and what the chance of a false one is.

    Args:
        rule: the rule that judged.
        halted: the rounds with HALT evidence.
        num_rounds: all rounds, the baseline included.
        counted: rounds are numbered from 0 on.
    """
    chance = (
        "in a run in which no guarded quantity is ever worse than tolerated, the chance of any is"
        f" at most {rule.alpha:.0%}"
    )
    if halted:
        where, before = _at(halted)
        of = f" of {num_rounds - 1}"
        if not counted:
            of = f" ({len(halted)} of {num_rounds - 1} rounds)"
        return f"HALT evidence {where}{of}: go back to a round {before}, or stop ({chance})."
    if num_rounds == 1:
        return "Only the baseline round so far: name the later rounds' files after it."
    later = "1 round" if num_rounds == 2 else f"{num_rounds - 1} rounds"
    return f"No HALT evidence in {later} ({chance}, over {rule.rounds} planned rounds)."


def _at(rounds: Sequence[int]) -> tuple[str, str]:
    """`in round 2` or `in rounds 2, 3`, and `before` or `before round 2`."""
    if len(rounds) == 1:
        return f"in round {rounds[0]}", "before"
    return f"in rounds {', '.join(map(str, rounds))}", f"before round {rounds[0]}"
