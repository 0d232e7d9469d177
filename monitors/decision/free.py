"""Guarded quantities of text that nobody scored, each the expectation of a score in [0, 1].

They are about the problems of which the baseline has no scored sample; a frozen judge's approvals
about all that it judged. What gold answers judge, gold answers guard: there a falling spread or
entropy of *all* samples is what improvement does too, and would be a false alarm.

Knows neither where the tables come from (`responses.py`) nor what is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from ouroloop.monitors.decision.blocks import usual_block
from ouroloop.monitors.decision.declaration import (
    Blocks,
    Found,
    GuardedQuantity,
    Harm,
    Part,
    QuantityId,
)
from ouroloop.monitors.decision.halved import fallen_most, one_sample
from ouroloop.monitors.decision.patterns import (
    ALIVE_SHARE,
    NUM_PATTERNS,
    apart,
    kinds,
    kinds_variance,
    most_grown,
    quoted,
    unlike,
    value,
)
from ouroloop.monitors.decision.responses import APPROVED, Grid
from ouroloop.monitors.decision.tables import Pair, Table, Tables
from ouroloop.monitors.estimators.estimand import EVERY, SECOND_HALF

SAMPLE = "sample"
NO_CLUSTERS = "no response clusters and no strategies at the baseline"
FITTED = "clusters were fitted on the baseline's own answers; fresh ones would look alike"
NO_PATTERNS = "no texts and no response clusters at the baseline"
NO_ALIVE = f"no response cluster held {ALIVE_SHARE:.0%} of the baseline's samples"
NO_ENTROPY = "no log-probabilities at the baseline"
NO_ANSWERED = "no texts at the baseline, and not known which samples were cut by length"
NO_LENGTH = "no lengths and no texts at the baseline"
NO_TEXTS = "no entropies along fixed real texts at the baseline"
NO_JUDGE = "no frozen judge's verdicts at the baseline"


# ---- what each quantity is computed from ----------------------------------------------------


def _where(pair: Pair, known: Callable[[Table], object]) -> Pair:
    """Samples without a value are left out; what only the baseline has is then lost, not idle."""
    first, second = (
        replace(side, there_PK=side.there_PK & np.asarray(known(side), dtype=bool)) for side in pair
    )
    return Pair(first, second)


def scored_by(pair: Pair, name: str, undefined: str) -> Blocks:
    """The mean of a column."""
    known = _where(pair, lambda side: np.isfinite(side.grids[name]))
    why = "" if known.baseline.there_PK.any() else undefined
    return Blocks(1, value(name), known, why, unit=SAMPLE)


def _score(grid: Grid, undefined: str) -> Callable[[Tables, int], Found]:
    """The mean of a column over the problems that nobody scored."""

    def find(tables: Tables, pass_k: int) -> Found:
        pair = tables.free
        return None if pair is None else scored_by(pair, grid, undefined)

    return find


def _named(side: Table) -> bool:
    return bool((side.grids[Grid.CLUSTER] >= 0).any())


def _apart(tables: Tables, pass_k: int) -> Found:
    pair = tables.free
    if pair is None:
        return None
    undefined = "" if _named(pair.baseline) else NO_CLUSTERS
    # A round without one cluster was not clustered: nothing can be said of it.
    return Blocks(2, apart, _where(pair, _named), undefined, unit=SAMPLE)


def _clusters(tables: Tables, pass_k: int) -> Found:
    found = _apart(tables, pass_k)
    if not isinstance(found, Blocks):
        return found
    # By some per cent fewer than the baseline's: an unchanged model would be called.
    undefined = FITTED if tables.fits_clusters and not found.undefined else found.undefined
    size = usual_block(found.pair)
    return replace(
        found,
        size=size,
        score=kinds,
        undefined=undefined,
        shown=(0.0, size),
        one_block=kinds_variance,
    )


def _canned(tables: Tables, pass_k: int) -> Found:
    """Patterns are picked on one half of both sides' samples and measured on the other.

    Picked and measured on the same half, the largest of many noisy shares would read a growth.
    """
    pair = tables.free
    if pair is None:
        return None
    first, rest = pair.halves()
    patterns = most_grown(first)
    openings = (pair.baseline.grids[Grid.OPENING] >= 0).any()
    undefined, idle = one_sample(pair, rest)
    if not (openings or _named(pair.baseline)):
        undefined = NO_PATTERNS
    note = ", ".join(quoted(pair.now, pattern) for pattern in patterns)
    return Blocks(1, unlike(patterns), rest, undefined, idle, unit=SAMPLE, note=note, repicked=True)


def _alive(tables: Tables, pass_k: int) -> Found:
    """The cluster that fell most: picked on one half of both sides, measured on the other.

    Which clusters held enough at the baseline is read from the half that picks, too: from the half
    that measures, those that held enough by chance would all fall later.
    """
    pair = tables.free
    if pair is None:
        return None
    found = fallen_most(_where(pair, _named), NO_ALIVE, SAMPLE)
    return found if _named(pair.baseline) else replace(found, undefined=NO_CLUSTERS)


def _texts(tables: Tables, pass_k: int) -> Found:
    """Entropy along real texts: the same model gives the same numbers, so there is no noise.

    A text is a block of its own. Its score *is* its expectation, and the inequality of means that
    makes the bets fair (`stakes.py`) needs nothing else: while the mean of the texts' scores has
    not fallen by more than tolerated, no bet gains. The baseline's mean has no standard error.
    """
    pair = tables.free
    if pair is None:
        return None
    if tables.texts is None:
        return Blocks(1, value(Grid.OPEN), pair, NO_TEXTS, unit="text")
    return replace(scored_by(tables.texts, Grid.OPEN, NO_TEXTS), unit="text", exact=True)


def _approved(tables: Tables, pass_k: int) -> Found:
    """A stream for each criterion by which a frozen judge looked at the baseline.

    Samples without a verdict are left out: a judge may look at some samples only. What that could
    hide is guarded by `QuantityId.JUDGED`.
    """
    if tables.responses is None:
        return None
    names = [name for name in tables.responses.now.grids if name.startswith(f"{APPROVED}/")]
    if not names:
        return Blocks(1, value(Grid.JUDGED), tables.responses, NO_JUDGE, unit=SAMPLE)
    found: Mapping[str, Blocks] = {
        name.removeprefix(f"{APPROVED}/"): scored_by(tables.responses, name, NO_JUDGE)
        for name in sorted(names)
    }
    return found


def _judged(tables: Tables, pass_k: int) -> Found:
    """Samples with every verdict, of the problems of which the judge saw some at the baseline.

    Of those alone that it was asked about, where that is known: among many that it never saw, a
    verdict that is missing would hardly show.
    """
    if tables.responses is None:
        return None
    judged_PK = tables.responses.baseline.grids[Grid.JUDGED] == 1
    rows_P = np.flatnonzero(judged_PK.any(axis=1))
    return scored_by(tables.responses.rows(rows_P), Grid.JUDGED, NO_JUDGE)


# ---- the table ------------------------------------------------------------------------------

# The order is that of the sentences and tables; no decision depends on it.
FREE = (
    GuardedQuantity(
        QuantityId.APART,
        "answers apart",
        "responses/apart",
        _apart,
        tolerance="apart_loss_share",
        default=0.10,
        relative=True,
        why_missing="no pair of samples in different response clusters at the baseline",
        family=EVERY,
        part=Part.UNSCORED,
        harm=Harm.ONE_CLUSTER,
    ),
    GuardedQuantity(
        QuantityId.CLUSTERS,
        "response clusters per prompt in {size} samples",
        "responses/clusters@{size}",
        _clusters,
        tolerance="apart_loss_share",
        default=0.10,
        relative=True,
        why_missing=NO_CLUSTERS,
        family=EVERY,
        part=Part.UNSCORED,
        harm=Harm.ONE_CLUSTER,
    ),
    GuardedQuantity(
        QuantityId.CANNED,
        f"share of the {NUM_PATTERNS} most grown response patterns",
        "responses/canned",
        _canned,
        tolerance="canned_gain",
        default=0.10,
        shown=(1.0, -1.0),
        family=EVERY,
        samples=SECOND_HALF,
        picked_at_baseline=True,
        part=Part.UNSCORED,
        harm=Harm.ONE_TEXT,
    ),
    GuardedQuantity(
        QuantityId.ALIVE_CLUSTERS,
        "share of the most fallen response cluster",
        "responses/alive",
        _alive,
        tolerance="alive_loss_share",
        default=0.50,
        relative=True,
        why_missing=NO_ALIVE,
        family=EVERY,
        samples=SECOND_HALF,
        picked_at_baseline=True,
        part=Part.UNSCORED,
        harm=Harm.DYING_CLUSTER,
    ),
    GuardedQuantity(
        QuantityId.OPEN,
        "token entropy (share of its cap)",
        "responses/open",
        _score(Grid.OPEN, NO_ENTROPY),
        tolerance="open_loss_share",
        default=0.25,
        relative=True,
        why_missing=NO_ENTROPY,
        family=EVERY,
        part=Part.UNSCORED,
        harm=Harm.ZERO,
    ),
    GuardedQuantity(
        QuantityId.TEXTS_OPEN,
        "token entropy along real texts (share of its cap)",
        "responses/open",
        _texts,
        tolerance="open_loss_share",
        default=0.25,
        relative=True,
        why_missing=NO_TEXTS,
        family=EVERY,
        samples="texts",
        part=Part.TEXTS,
        harm=Harm.ZERO,
    ),
    GuardedQuantity(
        QuantityId.ANSWERED,
        "share of answered samples",
        "responses/answered",
        _score(Grid.ANSWERED, NO_ANSWERED),
        tolerance="answered_loss",
        default=0.02,
        why_missing=NO_ANSWERED,
        family=EVERY,
        part=Part.UNSCORED,
        harm=Harm.ZERO,
    ),
    GuardedQuantity(
        QuantityId.LENGTH,
        "share of samples of usual length",
        "responses/length",
        _score(Grid.LENGTH, NO_LENGTH),
        tolerance="length_loss",
        default=0.10,
        why_missing=NO_LENGTH,
        family=EVERY,
        part=Part.UNSCORED,
        harm=Harm.ZERO,
    ),
    GuardedQuantity(
        QuantityId.APPROVED,
        "approval by the frozen judge ({name})",
        "responses/approved_{name}",
        _approved,
        tolerance="approved_loss",
        default=0.05,
        why_missing=NO_JUDGE,
        family=EVERY,
        part=Part.APPROVED,
        harm=Harm.ZERO,
    ),
    GuardedQuantity(
        QuantityId.JUDGED,
        "share of samples without the judge's verdict",
        "responses/judged",
        _judged,
        tolerance="unscored_gain",
        default=0.01,
        shown=(1.0, -1.0),
        why_missing=NO_JUDGE,
        family=EVERY,
        # As the share of unscored samples: it shows at once from a small share.
        share=0.02,
        part=Part.APPROVED,
        harm=Harm.ZERO,
    ),
)
"""The built-in guarded quantities of text that nobody scored, in the order shown."""
