"""Response clusters of traces: the rows' own, or fitted on the baseline's texts and then frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import RoundView
from ouroloop.monitors.estimators.order import permuted
from ouroloop.monitors.strategies.lexical import Lexical
from ouroloop.monitors.strategies.responses import MIN_ANSWERS, Encoder, ResponseClusters

Columns = Mapping[str, list[Any]]
Rows = NDArray[np.int64]
FOR_HALVES = 2 * MIN_ANSWERS
"""Texts of a usual unscored problem, from which on half of them are left to the fit alone."""
OPTIMISM = 0.8
"""Times one over the texts per problem: how much more apart fitted texts look than fresh ones.

The largest that was measured, with a sentence encoder; with lexical clusters about 0.3.
"""


class When(StrEnum):
    """On which traces clusters are fitted, where the rows bring none of their own."""

    UNSCORED = "unscored"
    """Where the baseline has a problem of which no row has a verdict on its answer."""
    ALWAYS = "always"
    NEVER = "never"


@dataclass
class TraceClusters:
    """Fits at the baseline and labels every round.

    Answers that clusters were fitted on look less alike than fresh ones of the same model. From
    twice `MIN_ANSWERS` texts of a usual problem that nobody scored on, the fit therefore gets half
    of those problems' texts for itself, and only the others are measured.

    Attributes:
        encoder: texts to vectors.
        when: see `When`.
        learned_: what was fitted; None where the rows have their own clusters, or none are wanted.
        fit_only_: which of the baseline's rows the fit alone sees, (N,); none of them: empty.
        is_optimistic_: what is measured was fitted on, by the mean of each prompt's answers.
    """

    encoder: Encoder = field(default_factory=Lexical)
    when: When = When.UNSCORED
    learned_: ResponseClusters | None = None
    fit_only_: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    is_optimistic_: bool = False

    def choose(self, columns: Columns) -> Iterator[str]:
        """Fit on the baseline's rows, if so wanted; sentences about it."""
        problems, texts = columns["problem"], columns["text"]
        scored = {p for p, x in zip(problems, columns["correct"], strict=True) if x is not None}
        free = set(problems) - scored
        has_own = any(label is not None for label in columns["cluster"])
        skips = self.when is When.NEVER or (self.when is When.UNSCORED and not free)
        read = [row for row, text in enumerate(texts) if text is not None]
        if has_own or skips or not read:
            return
        halves = _halves(columns, [row for row in read if problems[row] in free])
        rows = read
        if len(halves):
            rows = sorted({*halves, *(row for row in read if problems[row] not in free)})
        # All rounds are labelled by this one fit; what the rows name themselves is left as it is.
        fitted = ResponseClusters(self.encoder)
        try:
            fitted.fit([texts[row] for row in rows], [problems[row] for row in rows])
        except ValueError as error:
            yield f"WARNING: no response clusters: {error}."
            return
        self.learned_, self.fit_only_ = fitted, halves
        yield (
            f"response clusters: fitted on {len(rows):,} of round 0's {len(read):,} texts by the"
            f" encoder {self.encoder.name!r}, then frozen"
        )
        usual = _usual(problems[row] for row in read)
        self.is_optimistic_ = usual >= MIN_ANSWERS and not len(halves)
        yield self._said(usual)

    def _said(self, usual: float) -> str:
        """What this fit means for what is measured, with so many texts of a usual problem."""
        if len(self.fit_only_):
            return (
                f"set aside for that fit alone: {len(self.fit_only_):,} of round 0's samples, every"
                " second one of a problem that nobody scored; what is measured are the others"
            )
        if self.is_optimistic_:
            return (
                "round 0's share of pairs in different clusters is too high by at most about"
                f" {OPTIMISM / usual:.2f}: clusters were fitted on the texts that are measured. Of"
                f" {FOR_HALVES} texts of an unscored problem the fit would have half for itself"
            )
        texts = "text" if usual == 1 else "texts"
        return (
            f"WARNING: a usual problem has {usual:g} {texts} in round 0; from {MIN_ANSWERS} on,"
            " answers are compared with their own prompt's. Here clusters are mostly the prompts'"
            " subjects, and do not show that each prompt's answers become alike."
        )

    def measured(self, baseline: RoundView) -> RoundView:
        """The baseline without what the fit alone sees; it says what else of the fit matters."""
        is_alone_N = np.isin(np.arange(len(baseline.probe)), self.fit_only_)
        probe = baseline.probe.where(~is_alone_N)
        return replace(baseline, probe=probe, fits_clusters=self.is_optimistic_)

    def label(self, columns: dict[str, list[Any]]) -> None:
        """Fill the column of clusters of one round's rows."""
        if self.learned_ is None:
            return
        # A row without a text has no cluster, as one that cannot be read.
        rows = [row for row, text in enumerate(columns["text"]) if text is not None]
        labels = self.learned_.labels(
            [columns["text"][row] for row in rows], [columns["problem"][row] for row in rows]
        )
        for row, label in zip(rows, labels, strict=True):
            columns["cluster"][row] = label


def _usual(problems: Iterable[str]) -> float:
    """Rows of a usual problem: the median, for a few with more rows do not help the others."""
    return float(np.median([*Counter(problems).values()] or [0]))


def _halves(columns: Columns, rows: Sequence[int]) -> Rows:
    """Every second of these rows of each problem, in an order that hangs on what they say alone.

    None of them where a usual problem has too few.
    """
    problems = [columns["problem"][row] for row in rows]
    if _usual(problems) < FOR_HALVES:
        return np.zeros(0, dtype=np.int64)
    problem_N, text_N = (
        np.unique(np.array(values, dtype=object), return_inverse=True)[1]
        for values in (problems, [columns["text"][row] for row in rows])
    )
    order_N = permuted(problem_N, text_N)
    # Counted within each problem: one with an odd number measures one more than it fits.
    first_N = np.searchsorted(problem_N[order_N], problem_N[order_N])
    is_second_N = (np.arange(len(order_N)) - first_N) % 2 == 1
    return np.sort(np.array(rows, dtype=np.int64)[order_N[is_second_N]])
