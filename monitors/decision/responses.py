"""All samples of a probe set as numbers, scored or not: what text that nobody scored can show.

Every scale is fixed by the baseline and frozen, so that a sample has the same score in every round.
Suffixes as in `tables.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import Floats, Objects, RoundView, Samples, Texts, Traces
from ouroloop.monitors.columns import codes
from ouroloop.monitors.decision.lengths import Unit, lengths, units, usual
from ouroloop.monitors.decision.tables import Ints, Pair, Table, Tables, places, shuffled
from ouroloop.monitors.estimators.retained import kept

# Four words hold "I'm sorry, but I" and "As an AI language" apart from what follows them, which
# differs from prompt to prompt; two would join unlike answers ("The answer ...", "I think ...").
OPENING_WORDS = 4
# Where four words end, at the latest: the rest of a long text need not be looked at.
OPENING_CHARACTERS = 200
WORD = re.compile(r"[^\W_]+")
DIGITS = re.compile(r"\d+")
# The median itself would cut half of the samples to 1, where a fall cannot be seen; a cap beyond
# the largest would press all scores together near 0, where a bet cannot gain much. At twice the
# median a usual sample scores a half, and few are cut.
CAP_IN_MEDIANS = 2.0


class Grid(StrEnum):
    """The columns of `Tables.responses`, `Tables.texts` and `Tables.traces`."""

    CLUSTER = "cluster"
    """Codes of response clusters; of strategies where the baseline has no cluster at all."""
    OPENING = "opening"
    """Codes of the first words."""
    TEXT = "text"
    """Codes of whole texts."""
    OPEN = "open"
    """Mean log-loss per token of the model's own sample, in [0, 1]: see `CAP_IN_MEDIANS`."""
    ANSWERED = "answered"
    """1: not cut by length, and with at least one word."""
    LENGTH = "length"
    """1: as long as the middle 95 % of the baseline's samples of the family."""
    JUDGED = "judged"
    """1: every criterion that was judged at the baseline has a verdict. Unknown where not asked."""
    RETAINED = "retained"
    """Share of the probability of a strategy's answers that is left, a strategy per column."""


PATTERNS = (Grid.TEXT, Grid.CLUSTER, Grid.OPENING)
"""The columns of codes that a canned response may show in, the most specific one first.

A canned text that looks like many others (their cluster, their first words) is buried among them,
and shows only as one and the same text.
"""
APPROVED = "approved"
"""The column of a criterion is called "approved/<criterion>"."""


def with_responses(tables: Tables, baseline: RoundView, now: RoundView) -> Tables:
    """The same tables, and what is known of samples that nobody scored."""
    tables = replace(tables, traces=retained(baseline.traces, now.traces))
    found = responses(baseline.probe, now.probe)
    if found is None:
        return tables
    pair, free_P = found
    along = texts(baseline.texts, now.texts) if len(free_P) else None
    family = dict(zip(baseline.probe.problem, baseline.probe.family, strict=True))
    family_P = np.array([family[pair.baseline.problems[i]] for i in free_P], dtype=object)
    return replace(
        tables,
        responses=pair,
        free_P=free_P,
        free_family_P=family_P,
        texts=along,
        fits_clusters=baseline.fits_clusters,
    )


def responses(baseline: Samples, now: Samples) -> tuple[Pair, Ints] | None:
    """All samples of the baseline's problems, and the rows of those that nobody scored.

    A problem is unscored if the *baseline* has no scored sample of it: verdicts that a later round
    loses are the business of the quantities of scored problems, and verdicts that it gains change
    nothing. None: every problem is scored, and no judge approved anything.
    """
    problems = sorted(set(baseline.problem))
    scored = set(baseline.problem[np.isfinite(baseline.correct)])
    free_P = np.array([i for i, p in enumerate(problems) if p not in scored], dtype=np.int64)
    if not len(free_P) and not criteria(baseline):
        return None
    scale = Scale.of(baseline)
    labels, sides = {}, [_Side.of(side, scale) for side in (baseline, now)]
    for grid in PATTERNS:
        # Codes that both sides share, whatever the order of the rows.
        labels[grid] = sorted({*codes(sides[0].named[grid])[0], *codes(sides[1].named[grid])[0]})
    first, second = (side.table(problems, labels) for side in sides)
    return Pair(first, second), free_P


def criteria(baseline: Samples) -> list[str]:
    """The criteria by which a frozen judge looked at the baseline."""
    return sorted(name for name, x_N in baseline.approvals.items() if np.isfinite(x_N).any())


def texts(baseline: Texts | None, now: Texts | None) -> Pair | None:
    """Entropies along fixed real texts, capped at twice the baseline's median; None without them.

    They are no samples: the same model gives the same numbers. A round without any has lost them.
    """
    if baseline is None or not np.isfinite(baseline.entropy).any():
        return None
    problems = sorted(set(baseline.problem))
    cap = CAP_IN_MEDIANS * float(np.nanmedian(baseline.entropy))

    def side(rows: Texts | None) -> Table:
        if rows is None:
            unknown = np.full(len(baseline.problem), np.nan)
            rows = Texts(baseline.problem, unknown, unknown, unknown)
        chosen_N, at, shape = places(rows.problem, problems)
        return _table(problems, at, shape, {Grid.OPEN: _capped(rows.entropy, cap)[chosen_N]})

    return Pair(side(baseline), side(now))


def retained(baseline: Traces | None, now: Traces | None) -> Pair | None:
    """What round 0's answers kept of their probability since the baseline, which kept all of it.

    None without them at the baseline. A round without any has lost them.
    """
    if baseline is None or not np.isfinite(baseline.logprob).any():
        return None
    problems = sorted(set(baseline.problem))

    def side(traces: Traces | None) -> Table:
        if traces is None:
            traces = replace(baseline, logprob=np.full(len(baseline.problem), np.nan))
        found = kept(traces, baseline)
        chosen_N, at, shape = places(found.problem_G, problems)
        return _table(problems, at, shape, {Grid.RETAINED: found.whole_G[chosen_N]})

    return Pair(side(baseline), side(now))


# ---- what the baseline fixes ----------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """The scales of the scores, by family; frozen with the baseline.

    Attributes:
        cap: mean log-loss per token that counts as 1.
        band: least and largest usual length.
        by_clusters: responses are named by clusters, else by strategies.
        unit: what lengths are counted in.
        knows_texts: the baseline has texts.
        knows_cuts: the baseline says which samples were cut by length.
        criteria: what a frozen judge looked at.
    """

    cap: Mapping[str, float]
    band: Mapping[str, tuple[float, float]]
    by_clusters: bool
    unit: Mapping[str, Unit]
    knows_texts: bool
    knows_cuts: bool
    criteria: tuple[str, ...]

    @classmethod
    def of(cls, baseline: Samples) -> Scale:
        """The scales that a baseline fixes."""
        unit = units(baseline)
        length_N = lengths(baseline, unit)
        cap, band = {}, {}
        for family in sorted(set(baseline.family)):
            mine_N = baseline.family == family
            cap[family] = CAP_IN_MEDIANS * _quantile(baseline.nll[mine_N], 0.5)
            band[family] = usual(length_N[mine_N])
        return cls(
            cap=cap,
            band=band,
            by_clusters=any(isinstance(c, str) for c in baseline.cluster),
            unit=unit,
            knows_texts=any(text.strip() for text in baseline.text),
            knows_cuts=bool(np.isfinite(baseline.truncated).any()),
            criteria=tuple(criteria(baseline)),
        )

    def by_family(self, values: Mapping[str, float], family_N: Objects) -> Floats:
        """Each row's own scale; NaN for a family that the baseline has not."""
        return np.array([values.get(family, np.nan) for family in family_N], dtype=float)


def _quantile(x_N: Floats, q: float) -> float:
    """A quantile of the known values; NaN without any."""
    known_N = x_N[np.isfinite(x_N)]
    return float(np.quantile(known_N, q)) if len(known_N) else float("nan")


def _capped(x_N: Floats, cap: Floats | float) -> Floats:
    """The share x / cap in [0, 1]; unknown where there is nothing to compare with (a cap of 0)."""
    cap_N = np.broadcast_to(np.asarray(cap, dtype=float), x_N.shape)
    usable_N = cap_N > 0
    return np.where(usable_N, np.clip(x_N / np.where(usable_N, cap_N, 1.0), 0.0, 1.0), np.nan)


# The baseline's texts are compared with every round's.
@lru_cache(maxsize=1 << 16)
def opening(text: str) -> str | None:
    """The first words, without case, punctuation and numbers; None without any word."""
    found = islice(WORD.finditer(text[:OPENING_CHARACTERS]), OPENING_WORDS)
    words = [DIGITS.sub("0", match.group().casefold()) for match in found]
    return " ".join(words) or None


# ---- one side -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Side:
    """The rows of one round with their columns.

    Attributes:
        problem: (N,).
        named: labels of the columns that hold codes, (N,) each.
        scores: the columns that hold scores, (N,) each.
    """

    problem: Objects
    named: Mapping[Grid, Objects]
    scores: Mapping[str, Floats]

    @classmethod
    def of(cls, rows: Samples, scale: Scale) -> _Side:
        """All columns of these rows."""
        first_words = np.empty(len(rows), dtype=object)
        first_words[:] = [opening(text) for text in rows.text]
        whole = np.empty(len(rows), dtype=object)
        whole[:] = [" ".join(text.split()) or None for text in rows.text]
        nowhere_N = np.full(len(rows), np.nan)
        approved = {
            f"{APPROVED}/{name}": rows.approvals.get(name, nowhere_N) for name in scale.criteria
        }
        judged_N = np.logical_and.reduce(
            [np.isfinite(x_N) for x_N in approved.values()] or [nowhere_N > 0]
        )
        # An answer that the judge was never asked about has no verdict to lose.
        judged_N = np.where(rows.asked == 0, np.nan, judged_N)
        low_N, high_N = (
            scale.by_family({f: ends[i] for f, ends in scale.band.items()}, rows.family)
            for i in range(2)
        )
        length_N = lengths(rows, scale.unit)
        known_N = np.isfinite(length_N) & np.isfinite(low_N)
        is_usual_N = (length_N >= low_N) & (length_N <= high_N)
        return cls(
            rows.problem,
            {
                Grid.CLUSTER: rows.cluster if scale.by_clusters else rows.strategy,
                Grid.OPENING: first_words,
                Grid.TEXT: whole,
            },
            {
                Grid.OPEN: _capped(rows.nll, scale.by_family(scale.cap, rows.family)),
                Grid.ANSWERED: _answered(rows, first_words, scale),
                Grid.LENGTH: np.where(known_N, is_usual_N, np.nan),
                Grid.JUDGED: judged_N,
                **approved,
            },
        )

    def table(self, problems: Sequence[str], labels: Mapping[Grid, Sequence[str]]) -> Table:
        """A problem per row; codes index `labels`."""
        chosen_N, at, shape = places(self.problem, problems)
        columns: dict[str, NDArray[np.generic]] = {}
        for grid, known in labels.items():
            index = {label: i for i, label in enumerate(known)}
            columns[grid] = np.array(
                [index.get(label, -1) for label in self.named[grid][chosen_N]], dtype=np.int64
            )
        columns |= {name: x_N[chosen_N].astype(float) for name, x_N in self.scores.items()}
        legend = {str(grid): tuple(known) for grid, known in labels.items()}
        return _table(problems, at, shape, columns, legend)


def _answered(rows: Samples, first_words: Objects, scale: Scale) -> Floats:
    """1, 0 or NaN (the baseline knew more of its rows than this row says)."""
    answered_N = np.ones(len(rows))
    if scale.knows_texts:
        answered_N = np.array([words is not None for words in first_words], dtype=float)
    if scale.knows_cuts:
        whole_N = np.where(np.isfinite(rows.truncated), rows.truncated != 1, np.nan)
        answered_N = answered_N * whole_N
    if not (scale.knows_texts or scale.knows_cuts):
        answered_N = np.full(len(rows), np.nan)
    return answered_N


def _table(
    problems: Sequence[str],
    at: tuple[Ints, Ints],
    shape: tuple[int, int],
    columns: Mapping[str, NDArray[np.generic]],
    legend: Mapping[str, tuple[str, ...]] | None = None,
) -> Table:
    """Rows in a table with these columns beside the usual ones, which hold nothing."""
    there = np.zeros(shape, dtype=bool)
    there[at] = True
    none = np.full(shape, -1, dtype=np.int64)
    grids = {}
    for name, values in columns.items():
        padding = np.nan if values.dtype.kind == "f" else -1
        grids[str(name)] = np.full(shape, padding, dtype=values.dtype)
        grids[str(name)][at] = values
    return shuffled(Table(tuple(problems), there, there, none, none, (), grids, legend or {}))
