"""Which kind of collapse: a name for the sign pattern of a decline. A diagnosis for the reader; it never decides."""

from __future__ import annotations

from monitors import scores
from monitors.base import RoundView, Samples
from monitors.guards import direction
from monitors.readings import of
from monitors.stats import paired


def attribute(view: RoundView, reference: RoundView, main_family: str, tail_slice: str = "tail") -> str | None:
    """A, B, C, D or None, from which quantities rose or fell since round 0.

    Paired by problem, two-sided 5 % each; the first that fits:

    * C, shortcut takeover: answers collide across problems at least twice as often, and pass@1 did not rise.
    * D, tail narrowing: pass@1 or DCP fell in the tail slice, and neither fell outside it.
    * B, sharpening: Gini-Simpson of all samples fell, or DCP fell while pass@1 did not.
    * A, drift: pass@1 fell while Gini-Simpson of all samples did not.

    Source: first symptoms in Shumailov 2305.17493 (A), Wu 2407.05013 and Dang 2504.10478 (B), Shafayat 2505.21444 (C), Ding
    2411.00750 (D).
    """
    now, then = of(view.probe, "family", main_family), of(reference.probe, "family", main_family)
    chosen = scores.families_with_strategies(then)

    def moved(score: scores.Score, part: str | None = None) -> int:
        if part is None:
            return direction(score(now), score(then))
        after, before = (score(rows.where((rows.slice == tail_slice) == (part == "tail"))) for rows in (now, then))
        return direction(after, before)

    def dcp(rows: Samples) -> scores.Scores:
        return scores.distinct_correct_pairs(rows, chosen)

    accuracy, diversity, spread = moved(scores.accuracy), moved(dcp), moved(scores.gini_simpson)
    collision_now, collision_then = scores.collisions(now), scores.collisions(then)
    rise = paired(collision_now, collision_then, scale=2.0, bound=2.0)
    if accuracy <= 0 and direction(collision_now, collision_then) > 0 and rise.value > 0:
        return "C"
    tail_fell = moved(scores.accuracy, "tail") < 0 or moved(dcp, "tail") < 0
    if tail_fell and moved(scores.accuracy, "rest") >= 0 and moved(dcp, "rest") >= 0:
        return "D"
    if spread < 0 or (diversity < 0 and accuracy >= 0):
        return "B"
    return "A" if accuracy < 0 else None
