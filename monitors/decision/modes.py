"""Which kind of collapse: the failure mode that the sign pattern of a decline looks like.

A diagnosis for the reader: it decides nothing, and picks no remedy (`REMEDIED_AS` does).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import RoundView, Samples
from ouroloop.monitors.decision.blocks import block_scores, problem_means
from ouroloop.monitors.decision.declaration import Blocks, QuantityId
from ouroloop.monitors.decision.free import FREE
from ouroloop.monitors.decision.guards import direction
from ouroloop.monitors.decision.records import StreamId
from ouroloop.monitors.decision.responses import with_responses
from ouroloop.monitors.decision.tables import Table, Tables, tables_of
from ouroloop.monitors.estimators import scores
from ouroloop.monitors.estimators.scores import Scores
from ouroloop.monitors.estimators.stats import paired
from ouroloop.monitors.estimators.ustatistics import collision, distinct_pair_share, same_pairs
from ouroloop.monitors.metrics.readings import of
from ouroloop.monitors.names import FailureMode

REMEDIED_AS: Mapping[str, FailureMode] = {
    QuantityId.ACCURACY: FailureMode.DRIFT,
    QuantityId.OTHER_FAMILIES: FailureMode.DRIFT,
    QuantityId.UNSCORED: FailureMode.DRIFT,
    QuantityId.ANSWERED: FailureMode.DRIFT,
    QuantityId.LENGTH: FailureMode.DRIFT,
    QuantityId.APPROVED: FailureMode.DRIFT,
    QuantityId.JUDGED: FailureMode.DRIFT,
    QuantityId.DIVERSITY: FailureMode.SHARPENING,
    QuantityId.WAYS: FailureMode.SHARPENING,
    QuantityId.TAIL_DIVERSITY: FailureMode.SHARPENING,
    QuantityId.RARE_STRATEGIES: FailureMode.SHARPENING,
    QuantityId.OVERCONFIDENCE: FailureMode.SHARPENING,
    QuantityId.SOLVED: FailureMode.SHARPENING,
    QuantityId.ALIVE: FailureMode.SHARPENING,
    QuantityId.APART: FailureMode.SHARPENING,
    QuantityId.CLUSTERS: FailureMode.SHARPENING,
    QuantityId.ALIVE_CLUSTERS: FailureMode.SHARPENING,
    QuantityId.OPEN: FailureMode.SHARPENING,
    QuantityId.TEXTS_OPEN: FailureMode.SHARPENING,
    QuantityId.SHORTCUT: FailureMode.SHORTCUT,
    QuantityId.TAIL_ACCURACY: FailureMode.TAIL_NARROWING,
    QuantityId.CANNED: FailureMode.CANNED,
}
"""Quantity -> the failure whose remedy its fall calls for.

The sign pattern below is no guide to a remedy: it named all ten real drifting runs sharpening,
since DCP falls with pass@1. What spoke is known for certain.
"""

# A true sharpening lets each prompt's usual answer grow, and with it the commonest clusters a
# little; a canned response takes the place of unlike ones.
CANNED_GROWTH = 0.05
"""Growth of the grown response patterns' share beyond which a collapse is called canned."""


def remedied_as(driver: StreamId | None) -> FailureMode | None:
    """The failure whose remedy a stream's fall calls for; None for a quantity of somebody else's.

    Args:
        driver: the stream that spoke.
    """
    if driver is None:
        return None
    # A judge's criteria are streams of one quantity, "approved/harmless".
    return REMEDIED_AS.get(driver.quantity.partition("/")[0])


@dataclass(frozen=True)
class Symptoms:
    """What a mode is read from, per problem.

    Attributes:
        accuracy: pass@1.
        diversity: distinct-correct-pair probability.
        spread: Gini-Simpson of all samples' strategies.
        collisions: of answers, across problems.
    """

    accuracy: Scores
    diversity: Scores
    spread: Scores
    collisions: Scores


def attribute(
    view: RoundView,
    baseline: RoundView,
    main_family: str,
    tail_slice: str = "tail",
) -> FailureMode | None:
    """The mode of a round since a baseline (see `name_mode`)."""
    now, then = of(view.probe, "family", main_family), of(baseline.probe, "family", main_family)
    # By the baseline: a round that lost its names is compared all the same.
    chosen = scores.families_with_strategies(then)

    def symptoms(rows: Samples) -> Symptoms:
        pairs = scores.distinct_correct_pairs(rows, chosen)
        return Symptoms(
            scores.accuracy(rows),
            pairs,
            scores.gini_simpson(rows),
            scores.collisions(rows),
        )

    return name_mode(symptoms(now), symptoms(then), set(of(then, "slice", tail_slice).problem))


def attribute_free(
    view: RoundView,
    baseline: RoundView,
    main_family: str,
    driver: str,
    left_out: Collection[str] = (),
) -> FailureMode | None:
    """The mode of text that nobody scored, from what drives the evidence.

    CANNED where the patterns that grew most drive it, or have grown (paired by problem, two-sided
    5 %), and by more than `CANNED_GROWTH`; else what the driver's fall is remedied as. Other falls
    name nothing: beside clusters that were fitted on the baseline's own texts, a healthy round's
    answers lie apart less often, too, and the name would change from round to round.

    Args:
        view: the round.
        baseline: the baseline.
        main_family: as in `attribute`.
        driver: id of the quantity that drives the evidence.
        left_out: families that it is not about.

    Source: 2504.04918 (collapse of constitutional self-training to repeated answers).
    """
    tables = tables_of(baseline.probe, view.probe, main_family, "")
    tables = with_responses(tables, baseline, view).without(left_out)
    if driver.partition("/")[0] == QuantityId.CANNED or _canned_grew(tables):
        return FailureMode.CANNED
    return remedied_as(StreamId(driver))


def _canned_grew(tables: Tables) -> bool:
    """Whether the patterns that grew most hold `CANNED_GROWTH` more of the samples."""
    declared = next(each for each in FREE if each.id == QuantityId.CANNED)
    for found in _streams(declared.blocks(tables, 1)):
        then, now = _means(found)
        # The score is 1 - share: its fall is the share's growth.
        if direction(now, then) < 0 and -paired(now, then).value > CANNED_GROWTH:
            return True
    return False


def _streams(found: object) -> Iterator[Blocks]:
    """The streams that a declaration found and that have something to compare."""
    parts = found.values() if isinstance(found, dict) else [found]
    for part in parts:
        if isinstance(part, Blocks) and not (part.undefined or part.idle):
            yield part


def _means(found: Blocks) -> tuple[Scores, Scores]:
    """Mean block score of each problem, at the baseline and in the round."""
    then, now = (
        scores.by_problem(side.problems, problem_means(block_scores(side, found.size, found.score)))
        for side in found.pair
    )
    return then, now


def name_mode(
    now: Symptoms,
    then: Symptoms,
    tail: Collection[str],
) -> FailureMode | None:
    """The mode, or None, from which quantities rose or fell since the baseline.

    Paired by problem, two-sided 5 % each; the first that fits:

    * SHORTCUT: answers collide across problems more than twice as often, and pass@1 did not rise.
    * TAIL_NARROWING: pass@1 or DCP fell in the tail slice, and neither fell outside it.
    * SHARPENING: Gini-Simpson of all samples fell, or DCP fell while pass@1 did not.
    * DRIFT: pass@1 fell while Gini-Simpson of all samples did not.

    Args:
        now: the round's symptoms.
        then: the baseline's.
        tail: the problems of the tail slice.

    Source: first symptoms in Shumailov 2305.17493 (drift), Wu 2407.05013 and Dang 2504.10478
    (sharpening), Shafayat 2505.21444 (shortcut), Ding 2411.00750 (tail narrowing).
    """
    accuracy, diversity, spread = (
        direction(getattr(now, name), getattr(then, name))
        for name in ("accuracy", "diversity", "spread")
    )
    # Twice as often: some collisions are honest, where problems share an answer.
    rise = paired(now.collisions, then.collisions, scale=2.0, bound=2.0)
    # A shortcut comes first: it also lowers pass@1 and diversity, as every other mode does.
    if accuracy <= 0 and rise.interval().low > 0:
        return FailureMode.SHORTCUT
    # Before the modes of the whole: a loss in the tail alone may show in the mean of all problems.
    if _moved(now, then, tail, inside=True) < 0 and _moved(now, then, tail, inside=False) >= 0:
        return FailureMode.TAIL_NARROWING
    if spread < 0 or (diversity < 0 and accuracy >= 0):
        return FailureMode.SHARPENING
    return FailureMode.DRIFT if accuracy < 0 else None


def _moved(
    now: Symptoms,
    then: Symptoms,
    tail: Collection[str],
    inside: bool,
) -> int:
    """The lower of the directions of pass@1 and DCP inside or outside the tail slice."""
    found = []
    for name in ("accuracy", "diversity"):
        after, before = (
            {p: x for p, x in getattr(side, name).items() if (p in tail) == inside}
            for side in (now, then)
        )
        found.append(direction(after, before))
    # The lower one: either of them falling is a loss.
    return min(found)


def symptoms_of(rows: Table) -> Symptoms:
    """The same from a table, in which every problem has samples."""
    num_P = rows.there_PK.sum(axis=1).astype(float)

    def same(chosen_PK: NDArray[np.bool_]) -> NDArray[np.float64]:
        return same_pairs(chosen_PK.nonzero()[0], rows.strategy_PK[chosen_PK], len(num_P))

    def scored(value_P: NDArray[np.float64]) -> Scores:
        return dict(zip(rows.problems, value_P.tolist(), strict=True))

    right_PK = rows.right_PK & rows.there_PK
    named_PK = (rows.strategy_PK >= 0) & rows.there_PK
    read_PK = (rows.answer_PK >= 0) & rows.there_PK
    right_P, named_P = right_PK.sum(axis=1).astype(float), named_PK.sum(axis=1).astype(float)
    # One key per problem and answer.
    width = int(rows.answer_PK.max(initial=0)) + 1
    keys, count_M = np.unique(
        read_PK.nonzero()[0] * width + rows.answer_PK[read_PK],
        return_counts=True,
    )
    collisions_P = collision(
        keys // width,
        keys % width,
        count_M / num_P[keys // width],
        len(num_P),
    )
    return Symptoms(
        scored(right_P / num_P),
        scored(distinct_pair_share(num_P, right_P, same(right_PK))),
        scored(distinct_pair_share(named_P, named_P, same(named_PK))),
        scored(collisions_P),
    )
