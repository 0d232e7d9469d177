"""Response clusters of traces: the rows' own, or fitted on the baseline's texts and then frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from ouroloop.monitors.strategies.lexical import Lexical
from ouroloop.monitors.strategies.responses import MIN_ANSWERS, Encoder, ResponseClusters

Columns = Mapping[str, list[Any]]
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

    Attributes:
        encoder: texts to vectors.
        when: see `When`.
        learned_: what was fitted; None where the rows have their own clusters, or none are wanted.
        has_means_: the baseline had answers enough to compare each with its own prompt's.
    """

    encoder: Encoder = field(default_factory=Lexical)
    when: When = When.UNSCORED
    learned_: ResponseClusters | None = None
    has_means_: bool = False

    def choose(self, columns: Columns) -> Iterator[str]:
        """Fit on the baseline's rows, if so wanted; sentences about it."""
        scored = {
            problem
            for problem, correct in zip(columns["problem"], columns["correct"], strict=True)
            if correct is not None
        }
        is_scored = scored >= set(columns["problem"])
        has_own = any(label is not None for label in columns["cluster"])
        skips = self.when is When.NEVER or (self.when is When.UNSCORED and is_scored)
        pairs = [
            (text, problem)
            for text, problem in zip(columns["text"], columns["problem"], strict=True)
            if text is not None
        ]
        if has_own or skips or not pairs:
            return
        # All rounds are labelled by this one fit; what the rows name themselves is left as it is.
        fitted = ResponseClusters(self.encoder)
        try:
            fitted.fit([text for text, _ in pairs], [problem for _, problem in pairs])
        except ValueError as error:
            yield f"WARNING: no response clusters: {error}."
            return
        self.learned_ = fitted
        yield (
            f"response clusters: fitted on round 0's {len(pairs):,} texts by the encoder"
            f" {self.encoder.name!r}, then frozen"
        )
        # The median: a few problems with more samples do not help the others.
        usual = float(np.median(list(Counter(problem for _, problem in pairs).values())))
        self.has_means_ = usual >= MIN_ANSWERS
        if self.has_means_:
            yield (
                "round 0's share of pairs in different clusters is too high by at most about"
                f" {OPTIMISM / usual:.2f}: clusters were fitted on the texts that are measured"
            )
        else:
            texts = "text" if usual == 1 else "texts"
            yield (
                f"WARNING: a usual problem has {usual:g} {texts} in round 0; from {MIN_ANSWERS} on,"
                " answers are compared with their own prompt's. Here clusters are mostly the"
                " prompts' subjects, and do not show that each prompt's answers become alike."
            )

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
