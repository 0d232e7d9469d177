"""Held-out accuracy per family of problems.

Pass@1, pass@k and greedy, and the paired change since round 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ouroloop.monitors.base import Reading, RoundView, Samples
from ouroloop.monitors.estimators import scores
from ouroloop.monitors.estimators.stats import mean_in_unit, paired
from ouroloop.monitors.metrics.readings import as_json, families, of, reading


@dataclass(frozen=True)
class Generalization:
    """Held-out accuracy by family, share of right answers, [0, 1], up (M1, M2).

    All unbiased, clustered by problem.

    * accuracy/pass_1/<family>: mean over problems of c / n.
    * accuracy/pass_k/<family>: mean over problems of 1 - C(n - c, k) / C(n, k).
    * accuracy/pass_1/<family>/<slice>, accuracy/pass_k/<family>/<slice>: the same on one slice,
      where a family has several (typical, tail): pass@k saturates on easy problems, and falls in
      the tail first.
    * accuracy/greedy/<family>: mean of the greedy answer's 0 or 1.
    * accuracy/general: pass_1 over the problems of all families but the main one, what the loop
      does not train for.

    details: `k` (pass_k), `change` (paired by problem to round 0, value and interval; null without
    a reference), `slices`, of general `families` and `main`. The main family is `main_family`, or
    else the one with the most problems. Undefined without scored samples (pass_k: without k of them
    in some problem; general: without another family). Measured (MONITORS.md, V2): by family the
    intervals held the truth in 95 to 98 % of 400 panels of 120 problems x 8, in 93 to 97 % of 40 x
    8; of slices of five to ninety problems in 92 to 100 %. Source: Chen et al. 2107.03374; Dang et
    al. 2504.10478 (pass@k falls behind rising pass@1); paired, clustered differences: Miller
    2411.00640.
    """

    name: str = "accuracy"
    k: int = 4
    main_family: str | None = None

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe` and `view.greedy`."""
        out = []
        for family in families(view.probe):
            now = of(view.probe, "family", family)
            then = of(reference.probe, "family", family) if reference is not None else None
            out += self._family(family, now, then)
            slices = sorted({str(s) for s in now.slice})
            for part in slices if len(slices) > 1 else []:
                out += self._family(
                    f"{family}/{part}",
                    of(now, "slice", part),
                    None if then is None else of(then, "slice", part),
                )
        out.append(self._general(view.probe, reference.probe if reference is not None else None))
        for family in families(view.greedy) if view.greedy is not None else []:
            assert view.greedy is not None
            now = of(view.greedy, "family", family)
            then = (
                of(reference.greedy, "family", family)
                if reference is not None and reference.greedy is not None
                else None
            )
            out.append(
                self._read(
                    f"greedy/{family}",
                    scores.accuracy,
                    now,
                    then,
                    "no greedy answer of this family was scored",
                )
            )
        return out

    def _family(self, name: str, now: Samples, then: Samples | None) -> list[Reading]:
        why = f"no problem of {name} has {self.k} scored samples"
        return [
            self._read(
                f"pass_1/{name}",
                scores.accuracy,
                now,
                then,
                f"no panel sample of {name} was scored",
            ),
            self._read(f"pass_k/{name}", lambda rows: scores.pass_at(rows, self.k), now, then, why),
        ]

    def _general(self, now: Samples, then: Samples | None) -> Reading:
        main = self.main_family if self.main_family is not None else largest_family(now)

        def rest(rows: Samples) -> Samples:
            return rows.where(np.array([f != main for f in rows.family], dtype=bool))

        others = rest(now)
        found = self._read(
            "general",
            scores.accuracy,
            others,
            None if then is None else rest(then),
            "no family but the main one was scored",
        )
        values = {
            f: as_json(mean_in_unit(list(scores.accuracy(of(others, "family", f)).values())))
            for f in families(others)
        }
        return replace(
            found, details={"change": found.details["change"], "main": main, "families": values}
        )

    def _read(
        self, short: str, score: scores.Score, now: Samples, then: Samples | None, why: str
    ) -> Reading:
        current = score(now)
        details: dict[str, object] = {"change": None, "slices": {}}
        if then is not None:
            details["change"] = as_json(paired(current, score(then)).interval())
        for name in sorted({str(s) for s in now.slice}):
            part = of(now, "slice", name)
            details["slices"] |= {
                name: as_json(mean_in_unit(list(score(part).values()), len(part)))
            }  # type: ignore[operator]
        if short.startswith("pass_k"):
            details["k"] = self.k
        num = float(np.isfinite(now.correct).sum())
        return reading(
            f"{self.name}/{short}",
            mean_in_unit(list(current.values()), num),
            "share",
            "up",
            why,
            details,
        )


def largest_family(samples: Samples) -> str | None:
    """The family with the most problems, the first by name among equals; None without any."""
    sizes = {
        family: len(set(of(samples, "family", family).problem)) for family in families(samples)
    }
    return max(sizes, key=lambda family: sizes[family], default=None)
