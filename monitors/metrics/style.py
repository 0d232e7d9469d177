"""Doubt in words (M18): how often a trace says that it is not sure, or looks at itself again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ouroloop.monitors.base import Reading, RoundView, Samples
from ouroloop.monitors.columns import codes
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.estimators.stats import Estimate, share
from ouroloop.monitors.metrics.readings import as_json, by_family, missing, reading

HEDGING = Estimand("style/hedging")
# Hedges first, then words of a second look; "wait" and "actually" mostly open one.
MARKERS = (
    "maybe",
    "perhaps",
    "possibly",
    "probably",
    "might",
    "could be",
    "not sure",
    "unsure",
    "not certain",
    "i think",
    "i guess",
    "i believe",
    "seems",
    "wait",
    "hmm",
    "actually",
    "let me check",
    "let me recheck",
    "double-check",
    "check again",
    "on second thought",
    "alternatively",
)


@dataclass(frozen=True)
class Style:
    """style/hedging: share of samples with at least one marker of doubt or of a second look.

    Range [0, 1]; neither way healthy. A signal of style: self-distillation suppresses what a model
    says of its own uncertainty, and with it what it does out of distribution (up to 40 % lost, Kim
    et al. 2603.24472). Whole words, any case. Longer traces hold more markers, so details give the
    `right` and `wrong` samples apart and `per_1000_chars`. Unbiased, clustered by problem, exact
    binomial interval at the effective size. Undefined without texts. Measured
    (docs/validation/index.md, V2): the interval held the truth in 96 % of 400 probe sets of 120
    problems x 8, and of 40 x 8.

    Attributes:
        name: what its readings begin with.
        markers: words and phrases; the default is English.
    """

    name: str = "style"
    markers: Sequence[str] = field(default=MARKERS)

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe`."""
        rows = view.probe.where(codes(view.probe.text)[1] >= 0)
        if not len(rows):
            return missing({HEDGING: ("share", "none")}, "no probe sample has a text")
        # Each text is searched once: most of this monitor's time, and four numbers use it.
        num_of = {text: self._count(text) for text in codes(rows.text)[0]}

        def hedged(some: Samples) -> Estimate:
            """Share of these rows with a marker."""
            problem_N = codes(some.problem)[1]
            labels, text_N = codes(some.text)
            hit_N = np.array([num_of[text] > 0 for text in labels], dtype=float)[text_N]
            return share(np.bincount(problem_N, weights=hit_N), np.bincount(problem_N))

        # Per character too: a longer trace holds more markers without more doubt.
        texts = rows.text.tolist()
        found = sum(num_of[text] for text in texts)
        details = {
            "families": by_family(rows, hedged),
            "right": as_json(hedged(rows.where(rows.correct == 1))),
            "wrong": as_json(hedged(rows.where(rows.correct == 0))),
            "per_1000_chars": 1000 * found / max(sum(map(len, texts)), 1),
        }
        return [reading(HEDGING, hedged(rows), "share", "none", "", details)]

    def _count(self, text: str) -> int:
        """Markers in a text."""
        # The pattern tries every marker at every character, twenty times what `in` takes. Not for
        # other alphabets: regardless of case a long s is an s, and `lower` leaves it as it is.
        if self._is_ascii and text.isascii():
            lower = text.lower()
            for marker in self._lowered:
                if marker in lower:
                    break
            else:
                return 0
        return len(self._pattern.findall(text))

    @cached_property
    def _is_ascii(self) -> bool:
        return all(map(str.isascii, self.markers))

    @cached_property
    def _lowered(self) -> tuple[str, ...]:
        return tuple(marker.lower() for marker in self.markers)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, self.markers)) + r")(?!\w)", re.I)
