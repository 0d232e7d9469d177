"""The rejection filters. Each is small, sees every sample, and objects or not.

A sample is kept when no filter objects. Filters over single samples come first in
`chosen_filters`; those over the whole set (duplicates, caps) follow and count only what the others
let pass.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ouroloop.evals.steps import calculation_key
from ouroloop.loop.config import FilterConfig
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.recipes import extensions
from ouroloop.loop.rows import Verdict
from ouroloop.loop.stages.case import Case
from ouroloop.loop.stages.judging import Value
from ouroloop.monitors.fence import Unreadable, attempt


class Filter(Protocol):
    """A dataclass whose fields are its settings."""

    @property
    def name(self) -> str:
        """The reason that a rejected sample is given."""
        ...

    def judge(self, cases: Sequence[Case], alive: Sequence[bool]) -> list[bool]:
        """True where the filter objects. `alive`: no earlier filter objected."""
        ...


@dataclass(frozen=True)
class Each:
    """A filter that looks at one sample at a time."""

    name: str
    objects: Callable[[Case], bool]

    def judge(self, cases: Sequence[Case], alive: Sequence[bool]) -> list[bool]:
        """True where `objects`."""
        return [self.objects(case) for case in cases]


@dataclass(frozen=True)
class Duplicates:
    """Keeps the first of samples alike within a problem.

    Source of the calculation rule: RFT (2308.01825), section 3.2: distinct lists of equations.
    """

    key: Callable[[Case], str]
    name: str = "duplicate"

    def judge(self, cases: Sequence[Case], alive: Sequence[bool]) -> list[bool]:
        """True from the second of its kind on."""
        seen: set[tuple[str, str]] = set()
        out = []
        for case, live in zip(cases, alive, strict=True):
            key = (case.sample.problem_id, self.key(case))
            out.append(live and key in seen)
            if live:
                seen.add(key)
        return out


@dataclass(frozen=True)
class PerProblem:
    """At most `most` samples of a problem, in order, rare strategies of the round first."""

    most: int
    name: str = "per_problem"

    def judge(self, cases: Sequence[Case], alive: Sequence[bool]) -> list[bool]:
        """True beyond the cap."""
        # Rare strategies first: which of a problem's samples stay would else be chance.
        frequency = Counter(case.strategy for case, live in zip(cases, alive, strict=True) if live)
        by_problem: dict[str, list[int]] = defaultdict(list)
        for i, (case, live) in enumerate(zip(cases, alive, strict=True)):
            if live:
                by_problem[case.sample.problem_id].append(i)
        out = [False] * len(cases)
        for members in by_problem.values():
            for i in sorted(members, key=lambda i: (frequency[cases[i].strategy], i))[self.most :]:
                out[i] = True
        return out


@dataclass(frozen=True)
class PerGroup:
    """At most the share `most` of the kept samples from one group, a strategy or a cluster.

    Half of what came in is kept in any case: supply goes before balance.
    """

    most: float
    group: Callable[[Case], str | None]
    name: str

    def judge(self, cases: Sequence[Case], alive: Sequence[bool]) -> list[bool]:
        """True beyond the cap."""
        members = _members(cases, alive, self.group)
        return _beyond(members, self.cap([len(rows) for rows in members]), cases)

    def cap(self, counts: Sequence[int]) -> int:
        """Largest count per group that keeps every share at most `most`.

        Where that would leave fewer than half of all samples, the largest that leaves half.
        """
        total = sum(counts)
        # From loose to tight, but half of what came in stays, however uneven its shares.
        for cap in range(max(counts, default=0), 0, -1):
            kept = sum(min(n, cap) for n in counts)
            if cap <= self.most * kept or 2 * sum(min(n, cap - 1) for n in counts) < total:
                return cap
        return 0


def _members(
    cases: Sequence[Case], alive: Sequence[bool], group: Callable[[Case], str | None]
) -> list[list[int]]:
    """The places of each group's living cases."""
    members: dict[str, list[int]] = defaultdict(list)
    for i, (case, live) in enumerate(zip(cases, alive, strict=True)):
        name = group(case)
        if live and name is not None:
            members[name].append(i)
    return list(members.values())


def _beyond(members: Sequence[Sequence[int]], cap: int, cases: Sequence[Case]) -> list[bool]:
    """True for the cases of each group beyond the cap, spread evenly over the round's problems."""
    out = [False] * len(cases)
    for rows in members:
        # First each problem's first sample, then its second: a cap must not silence problems.
        for i in sorted(rows, key=lambda i: (cases[i].sample.index, i))[cap:]:
            out[i] = True
    return out


@dataclass(frozen=True)
class PerAnswer:
    """At most the share `most` of what came in with one answer, over all problems.

    A shortcut gives the same one everywhere. Not of what is kept: of forty answers with 2.5 % each
    no number but 0 is at most 2 % of what is left.
    """

    most: float
    name: str = "per_answer"

    def judge(self, cases: Sequence[Case], alive: Sequence[bool]) -> list[bool]:
        """True beyond the cap, which a single sample never exceeds."""
        # Over all problems: within one of them the right answer is the same every time.
        cap = max(1, int(self.most * sum(alive)))
        return _beyond(_members(cases, alive, lambda case: case.answer), cap, cases)


def single_filters(config: FilterConfig) -> list[Each]:
    """Those filters that a recipe switches on which need nothing but the sample itself."""
    chosen: list[Each] = []
    # Each filter sees every sample, so that the counts of reasons stay comparable between rounds.
    if needed := _needed(config):
        chosen.append(Each("unreadable", lambda c: not needed.isdisjoint(c.unreadable)))
    # Free text has no format to keep, and an unfinished thought is no text for anybody.
    chosen.append(Each("thought", lambda c: not c.is_closed))
    if config.format:
        chosen.append(Each("format", lambda c: c.answer is None or not c.is_finished))
    else:
        # Never trained on, so never counted as kept: caps and supply go by what can be learnt.
        chosen.append(Each("cut", lambda c: not c.is_finished))
        chosen.append(Each("empty", lambda c: not c.text.strip()))
        # Of a task with final answers the critique may hold the solution: there they are read.
        if config.copied_critique is not None:
            least_like = config.copied_critique
            chosen.append(Each("copied_critique", lambda c: (c.like_critique or 0.0) >= least_like))
    if config.min_tokens > 1 or config.max_tokens is not None:
        low, high = config.min_tokens, config.max_tokens or 10**9
        chosen.append(Each("length", lambda c: not low <= len(c.sample.final.token_ids) <= high))
    if config.gold:  # what cannot be scored is not kept either
        chosen.append(Each("gold", lambda c: c.correct is not True))
    if config.steps:
        chosen.append(Each("steps", lambda c: c.valid is False))
    if config.critic:  # a critique that cannot be read is no approval
        chosen.append(Each("critic", lambda c: c.sample.approved is not True))
    return chosen


def _needed(config: FilterConfig) -> frozenset[Value]:
    """What the recipe's filters and caps look at.

    A sample of which one of these cannot be read is not kept: the other filters take None for
    "nothing to object to", and a reader that failed is no such evidence.
    """
    needs_grade = config.format or config.gold
    needs_grade |= config.agreement is not None or config.per_answer is not None
    needs = {
        Value.GRADE: needs_grade,
        Value.STEPS: config.steps,
        Value.STRATEGY: config.per_strategy is not None,
    }
    return frozenset(value for value, is_needed in needs.items() if is_needed)


def chosen_filters(config: FilterConfig) -> list[Filter]:
    """The filters that a recipe switches on, in order."""
    chosen: list[Filter] = [*single_filters(config)]
    if config.agreement is not None:
        least = config.agreement
        chosen.append(Each("agreement", lambda c: c.agreement is None or c.agreement < least))
    chosen += extensions.build_all(extensions.FILTER, config.extra)
    if config.duplicates == "exact":
        chosen.append(Duplicates(lambda c: c.text.strip()))
    elif config.duplicates == "calculations":
        chosen.append(Duplicates(_calculations_or_text))
    if config.per_problem is not None:
        chosen.append(PerProblem(config.per_problem))
    if config.per_answer is not None:
        chosen.append(PerAnswer(config.per_answer))
    if config.per_strategy is not None:
        chosen.append(PerGroup(config.per_strategy, lambda c: c.strategy, "per_strategy"))
    if config.per_cluster is not None:
        chosen.append(PerGroup(config.per_cluster, lambda c: c.cluster, "per_cluster"))
    return chosen


def judge(cases: Sequence[Case], config: FilterConfig) -> list[Verdict]:
    """Every sample's verdict, with the reason of every filter that objects."""
    alive = [True] * len(cases)
    reasons: list[list[str]] = [[] for _ in cases]
    for rejection in chosen_filters(config):
        for found, objects in zip(reasons, _said(rejection, cases, alive), strict=True):
            if objects:
                found.append(rejection.name)
        alive = [not found for found in reasons]
    return [_verdict(case, tuple(found)) for case, found in zip(cases, reasons, strict=True)]


def _said(rejection: Filter, cases: Sequence[Case], alive: Sequence[bool]) -> Sequence[bool]:
    """What a filter says of each sample; one of somebody's own may say anything."""
    said = rejection.judge(cases, alive)
    if hasattr(said, "__len__") and len(said) == len(cases):
        return said
    got = f"{len(said)} values" if hasattr(said, "__len__") else said
    raise RecipeError(
        f"filters.extra: {rejection.name}: judge gave {got}; expected one for each of {len(cases)}"
        " samples. Repair it, then `ouroloop resume` goes on."
    )


def _calculations_or_text(case: Case) -> str:
    """What two samples of a problem are alike in: their calculations; without any, the text."""
    key = attempt("calculation key", calculation_key, case.text)
    return case.text.strip() if isinstance(key, Unreadable) or not key else key


def _verdict(case: Case, reasons: tuple[str, ...]) -> Verdict:
    sample, problem = case.sample, case.problem
    return Verdict(
        sample_id=sample.id,
        problem_id=problem.id,
        question=problem.question,
        gold=problem.answer,
        text=case.text,
        kept=not reasons,
        reasons=reasons,
        answer=case.answer,
        correct=case.correct,
        valid=case.valid,
        strategy=case.strategy,
        approved=sample.approved,
        agreement=case.agreement,
        temperature=sample.temperature,
        num_tokens=len(sample.final.token_ids),
        revised=bool(sample.revisions),
        slice=problem.slice,
        unreadable=tuple(failure.label for failure in case.unreadable.values()),
        cluster=case.cluster,
        like_critique=case.like_critique,
        like_draft=case.like_draft,
    )
