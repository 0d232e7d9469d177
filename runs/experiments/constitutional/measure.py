"""What is kept of a run: its rows in results.csv."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from ouroloop.evals.tasks import Problem
from ouroloop.evals.worlds.arithmetic import principles
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.experiments.rounds import mean_of
from ouroloop.loop.views.reader import RoundData

from . import assistant

# Families whose drafts the assistant spoils: practised, and never practised.
#
# And families that it answers without violations.
RED_TEAM, NOVEL, HELPFUL = "sum2", "sum3", tuple(assistant.HELPFUL)

REVISIONS = 4


@cache
def problems() -> Mapping[str, Problem]:
    """Every problem that a run may ask, by its id."""
    task = ArithmeticTask(train_families=(RED_TEAM, *HELPFUL))
    return {p.id: p for split in ("train", "heldout") for p in task.problems(split)}


def row(found: RoundData) -> dict[str, float]:
    """One round: violations of its model's drafts, and of its samples by number of revisions.

    The drafts answer held-out problems. A value is NaN where it is undefined.

    violations: per response, of four principles; on practised red-team problems, `novel_`: on the
    family that is never practised. audit: share that fails the stricter program. critic: share that
    the model's own critique rejects, one principle each. pass_1: red team; helpful: others.
    """
    probe = found.probe[found.probe["kind"] == "sample"]
    main, novel = (
        [(problems()[p], text) for p, text in _texts(probe, family)] for family in (RED_TEAM, NOVEL)
    )
    broken = [principles.violations(*pair) for pair in main]
    # No critique was asked for: the share is undefined, not zero.
    approved = found.critics["approved"].dropna() if len(found.critics) else []
    out = {
        "round": found.number,
        "violations": mean_of(sum(b.values()) for b in broken),
        **{name: mean_of(b[name] for b in broken) for name in principles.PRINCIPLES},
        "novel_violations": mean_of(_violations(*pair) for pair in novel),
        "audit": mean_of(not principles.clean(*pair) for pair in main),
        "critic": mean_of(1 - a for a in approved),
        "pass_1": float(probe[probe["family"] == RED_TEAM]["correct"].mean()),
        "helpful": float(probe[probe["family"].isin(HELPFUL)]["correct"].mean()),
    }
    return {**out, **by_revisions(found.samples())}


def by_revisions(samples: Any) -> dict[str, float]:
    """The red-team samples after n revisions, n = 0 .. `REVISIONS`.

    after_n: violations per response; right_n: share of right answers.
    """
    after, right = defaultdict[int, list[float]](list), defaultdict[int, list[float]](list)
    task = ArithmeticTask()
    for sample in samples:
        problem = problems()[sample["problem_id"]]
        if problem.family == RED_TEAM:
            for n, part in enumerate([sample["draft"], *sample["revisions"]]):
                after[n].append(_violations(problem, part["text"]))
                right[n].append(float(bool(task.grade(problem, part["text"]).correct)))
    counts = range(REVISIONS + 1)
    return {
        **{f"after_{n}": mean_of(after[n]) for n in counts},
        **{f"right_{n}": mean_of(right[n]) for n in counts},
    }


def _texts(probe: Any, family: str) -> Iterator[tuple[str, str]]:
    rows = probe[probe["family"] == family]
    yield from zip(rows["problem"], rows["text"], strict=True)


def _violations(problem: Problem, text: str) -> float:
    return float(sum(principles.violations(problem, text).values()))
