"""Held-out accuracy per family of problems: pass@1, pass@k and greedy, and the paired change since round 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitors import scores
from monitors.base import Reading, RoundView, Samples
from monitors.readings import as_json, families, of, reading
from monitors.stats import mean_in_unit, paired


@dataclass(frozen=True)
class Generalization:
    """Held-out accuracy by family, share of right answers, [0, 1], up (M1, M2). All unbiased, clustered by problem.

    * accuracy/pass_1/<family>: mean over problems of c / n.
    * accuracy/pass_k/<family>: mean over problems of 1 - C(n - c, k) / C(n, k).
    * accuracy/greedy/<family>: mean of the greedy answer's 0 or 1.

    details: `k` (pass_k), `change` (paired by problem to round 0, value and interval; null without a reference), `slices`.
    Undefined without scored samples (pass_k: without k of them in some problem).
    Source: Chen et al. 2107.03374; paired, clustered differences as in Miller 2411.00640.
    """

    name: str = "accuracy"
    k: int = 4

    def measure(self, view: RoundView, reference: RoundView | None) -> list[Reading]:
        """Read `view.probe` and `view.greedy`."""
        out = []
        for family in families(view.probe):
            now = of(view.probe, "family", family)
            then = of(reference.probe, "family", family) if reference is not None else None
            out.append(self._read(f"pass_1/{family}", scores.accuracy, now, then, "no panel sample of this family was scored"))
            why = f"no problem of this family has {self.k} scored samples"
            out.append(self._read(f"pass_k/{family}", lambda rows: scores.pass_at(rows, self.k), now, then, why))
        for family in families(view.greedy) if view.greedy is not None else []:
            assert view.greedy is not None
            now = of(view.greedy, "family", family)
            then = of(reference.greedy, "family", family) if reference is not None and reference.greedy is not None else None
            out.append(self._read(f"greedy/{family}", scores.accuracy, now, then, "no greedy answer of this family was scored"))
        return out

    def _read(self, short: str, score: scores.Score, now: Samples, then: Samples | None, why: str) -> Reading:
        current = score(now)
        details: dict[str, object] = {"change": None, "slices": {}}
        if then is not None:
            details["change"] = as_json(paired(current, score(then)).interval())
        for name in sorted({str(s) for s in now.slice}):
            part = of(now, "slice", name)
            details["slices"] |= {name: as_json(mean_in_unit(list(score(part).values()), len(part)))}  # type: ignore[operator]
        if short.startswith("pass_k"):
            details["k"] = self.k
        num = float(np.isfinite(now.correct).sum())
        return reading(f"{self.name}/{short}", mean_in_unit(list(current.values()), num), "share", "up", why, details)
