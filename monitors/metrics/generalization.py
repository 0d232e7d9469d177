"""Held-out accuracy per family of problems: pass@1, pass@k, maj@k and greedy.

Each with its paired change since round 0.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from ouroloop.monitors.base import Reading, RoundView, Samples
from ouroloop.monitors.columns import codes, is_among
from ouroloop.monitors.estimators import scores
from ouroloop.monitors.estimators.estimand import EVERY, GREEDY, OTHERS, Estimand
from ouroloop.monitors.estimators.majority import majority_at
from ouroloop.monitors.estimators.stats import mean_in_unit, paired
from ouroloop.monitors.metrics.readings import as_json, families, main_family_of, of, reading


class Part(NamedTuple):
    """The same problems in both rounds; `then` is None in round 0."""

    now: Samples
    then: Samples | None

    def of(self, field: str, value: str) -> Part:
        """The rows of one family or slice."""
        return self.where(field, [value])

    def without(self, family: str) -> Part:
        """The rows of every other family."""
        return self.where("family", [family], wanted=False)

    def where(self, field: str, labels: Collection[str], wanted: bool = True) -> Part:
        """The rows with one of these labels; those with another one where they are not wanted."""

        def kept(side: Samples) -> Samples:
            return side.where(is_among(getattr(side, field), labels) == wanted)

        return Part(kept(self.now), None if self.then is None else kept(self.then))


@dataclass(frozen=True)
class Generalization:
    """Held-out accuracy by family, share of right answers, [0, 1], up (M1, M2).

    All are unbiased for any number of samples, so every sample of the round counts. Clustered by
    problem.

    * accuracy/pass@1: mean over problems of c / n; also on greedy answers (`samples` "greedy").
    * accuracy/pass@{k}: mean over problems of 1 - C(n - c, k) / C(n, k).
    * accuracy/maj@{majority_k}: chance that the vote of so many samples is right, exact over all
      subsets (`majority_at`).

    Of each family; pass@1 and pass@k also on each slice where a family has several (typical, tail):
    pass@k saturates on easy problems, and falls in the tail first. pass@1 of family "others": all
    families but the main one, what the loop does not train for; details: `families`, `main`.

    details: `change` (paired by problem to round 0, value and interval; null without a reference).
    The main family is `main_family`, or else the one with the most problems. Undefined without
    scored samples (pass@k, maj@k: without k of them in some problem; others: without another
    family). Measured (docs/validation/index.md, V2): by family the intervals held the truth in 95
    to 98 % of 400 probe sets of 120 problems x 8, in 93 to 98 % of 40 x 8; of slices of five to
    ninety problems in 92 to 100 %. Source: Chen et al. 2107.03374; Wang et al. 2203.11171; Dang et
    al. 2504.10478 (pass@k falls behind rising pass@1); paired, clustered differences: Miller
    2411.00640.
    """

    name: str = "accuracy"
    k: int = 4
    majority_k: int = 8
    main_family: str | None = None

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe` and `view.greedy`."""
        probe = Part(view.probe, None if reference is None else reference.probe)
        main = main_family_of(self.main_family, view, reference)
        return [
            *(r for family in families(view.probe) for r in self._family(probe, family)),
            self._others(probe, main),
            *self._greedy(view, reference),
        ]

    def _family(self, probe: Part, family: str) -> Iterator[Reading]:
        part = probe.of("family", family)
        yield from self._sampled(part, family)
        yield self._majority(part, family)
        slices = codes(part.now.slice)[0]
        # The only slice of a family would be the family again, under a second name.
        for name in slices if len(slices) > 1 else ():
            yield from self._sampled(part.of("slice", name), family, name)

    def _sampled(
        self,
        part: Part,
        family: str,
        slice: str = EVERY,
    ) -> Iterator[Reading]:
        one = Estimand("accuracy/pass@1", family, slice)
        yield self._read(one, scores.accuracy, part, f"no probe sample of {family} was scored")
        if self.k > 1:
            some = replace(one, statistic=f"accuracy/pass@{self.k}")
            why = f"no problem of {family} has {self.k} scored samples"
            yield self._read(some, partial(scores.pass_at, k=self.k), part, why)

    def _majority(self, part: Part, family: str) -> Reading:
        k = self.majority_k
        why = f"no problem of {family} has {k} samples, one of them scored"
        vote = partial(majority_at, k=k)
        return self._read(
            Estimand(f"accuracy/maj@{k}", family),
            vote,
            part,
            why,
        )

    def _others(self, probe: Part, main: str) -> Reading:
        others = probe.without(main)
        why = "no family but the main one was scored"
        found = self._read(Estimand("accuracy/pass@1", OTHERS), scores.accuracy, others, why)
        values = {}
        for family in families(others.now):
            score = scores.accuracy(of(others.now, "family", family))
            values[family] = as_json(mean_in_unit(list(score.values())))
        return replace(found, details={**found.details, "main": main, "families": values})

    def _greedy(self, view: RoundView, reference: RoundView | None) -> Iterator[Reading]:
        if view.greedy is None:
            return
        greedy = Part(view.greedy, None if reference is None else reference.greedy)
        why = "no greedy answer of this family was scored"
        for family in families(view.greedy):
            name = Estimand("accuracy/pass@1", family, samples=GREEDY)
            yield self._read(name, scores.accuracy, greedy.of("family", family), why)

    @staticmethod
    def _read(
        estimand: Estimand,
        score: scores.Score,
        part: Part,
        why: str,
    ) -> Reading:
        current, change = score(part.now), None
        if part.then is not None:
            change = as_json(paired(current, score(part.then)).interval())
        # Scored samples: the most that the mean can be worth.
        num = float(np.isfinite(part.now.correct).sum())
        found = mean_in_unit(list(current.values()), num)
        return reading(
            estimand,
            found,
            "share",
            "up",
            why,
            {"change": change},
        )
