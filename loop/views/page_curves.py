"""The page's charts of numbers over the rounds, and which numbers have none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ouroloop.loop.views import figures, steering
from ouroloop.loop.views import responses as free
from ouroloop.loop.views.arms import Arm
from ouroloop.loop.views.measures import MEASURES, Measure, meaning_of, title_of
from ouroloop.loop.views.measures import families as families_of
from ouroloop.loop.views.reader import Json, RunData
from ouroloop.monitors.estimators.estimand import Estimand


def curves(groups: Sequence[Arm]) -> Iterator[Json]:
    """One chart for each measure that is defined in some round of some arm."""
    for measure in MEASURES:
        lines = _lines(groups, measure)
        if not _is_defined(lines):
            continue
        first = groups[0].first
        title, meaning = title_of(measure, first), meaning_of(measure, first)
        # Over-confidence is the one measure that may be negative.
        floor = None if measure.key == "overconfidence" else 0.0
        drawn = figures.curves(lines, measure.unit, floor)
        picture = (drawn, f"{title} over the rounds")
        yield {"title": title, "meaning": meaning, "picture": picture}


def undefined(groups: Sequence[Arm]) -> Iterator[str]:
    """Why what has no chart has none, together what has the same reason."""
    titles: dict[str, list[str]] = {}
    missing = {
        title_of(measure, groups[0].first): lines
        for measure in MEASURES
        if not _is_defined(lines := _lines(groups, measure))
    }
    missing |= {found.title: lines for found, lines in _free(groups) if not _is_defined(lines)}
    for title, lines in missing.items():
        reasons = dict.fromkeys(value.why for line in lines.values() for _, value in line.points)
        titles.setdefault("; ".join(reasons), []).append(title)
    for why, named in titles.items():
        yield f"{'; '.join(named)}: {why}"


def _is_defined(lines: Mapping[str, figures.Line]) -> bool:
    return any(value.defined for line in lines.values() for _, value in line.points)


def _lines(groups: Sequence[Arm], measure: Measure) -> dict[str, figures.Line]:
    """A line for each arm; what the guard did and tolerates is one run's."""
    return {
        group.name: figures.Line(group.points(measure), *_steered(group, measure))
        for group in groups
    }


def _steered(
    group: Arm, measure: Measure
) -> tuple[Sequence[figures.Mark], Sequence[figures.Limit]]:
    if len(group.runs) > 1:
        return [], []
    return steering.marks(group.first), steering.limits(group.first, measure)


def families(groups: Sequence[Arm]) -> Iterator[Json]:
    """Right answers of each family that was scored."""
    runs = [run for group in groups for run in group.runs]
    for family in families_of(runs):
        score = Measure(family, Estimand("accuracy/pass@1", family))
        lines = _lines(groups, score)
        if not _is_defined(lines):
            continue
        problems = max((r.families.get(family, 0) for run in runs for r in run.rounds), default=0)
        yield {
            "title": family,
            "meaning": f"{problems} problems",
            "picture": (figures.curves(lines, "share", 0.0), score.title),
        }


def responses(groups: Sequence[Arm]) -> Iterator[Json]:
    """What nobody scored: approvals and guarded quantities of responses, those with a value."""
    for found, lines in _free(groups):
        if _is_defined(lines):
            picture = (figures.curves(lines, found.unit, 0.0), f"{found.title} over the rounds")
            yield {"title": found.title, "meaning": found.meaning, "picture": picture}


def has_judge(runs: Sequence[RunData]) -> bool:
    """Whether a frozen judge or a constitution says anything of some round."""
    found = (reading for run in runs for round in run.rounds for reading in round.readings)
    return any(reading.estimand.statistic.startswith(free.JUDGED_BY) for reading in found)


def _free(groups: Sequence[Arm]) -> Iterator[tuple[free.Line, dict[str, figures.Line]]]:
    """What is drawn, and the lines of each arm's first run."""
    arms = {group.name: group.first for group in groups}
    for found in free.lines(arms):
        yield (
            found,
            {
                name: figures.Line(
                    points,
                    steering.marks(arms[name]),
                    steering.limits_of(arms[name], found.quantity),
                )
                for name, points in found.points.items()
            },
        )
