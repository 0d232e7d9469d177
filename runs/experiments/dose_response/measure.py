"""The quantities of a baseline and of dosed rounds, repeated with other draws of the dose.

`python -m runs.experiments.dose_response.measure SAMPLES` writes results.csv, the page and the
figure. OUROLOOP_DATA names the data; SAMPLES a folder of model samples (`sources.sources`).
"""

from __future__ import annotations

import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.loop.experiments import rounds
from ouroloop.loop.models.encoders import encoder_of
from ouroloop.monitors.base import RoundView, Samples
from ouroloop.monitors.decision import guarded
from ouroloop.monitors.decision.blocks import problem_means
from ouroloop.monitors.decision.declaration import QuantityId
from ouroloop.monitors.decision.guards import Guard, Missing
from ouroloop.monitors.decision.responses import opening, with_responses
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.decision.tables import tables_of
from ouroloop.monitors.strategies.clusters import Matrix
from ouroloop.monitors.strategies.responses import Encoder, ResponseClusters

from .doses import SHARES, Kind, dosed
from .figure import FIGURE, draw
from .page import PAGE, page
from .sources import Source, sources

RESULTS = Path(__file__).with_name("results.csv")
ENCODERS = ("lexical", "all-minilm-l6-v2")
REPETITIONS = 20
FAMILY = "texts"


class Remembering:
    """An encoder that encodes each text once: doses repeat most texts hundreds of times."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.name = encoder, encoder.name
        self.known: dict[str, Matrix] = {}

    def fit(self, texts: Sequence[str]) -> Remembering:
        """A fitted encoder changes what it gives."""
        fitted = Remembering(self.encoder.fit(texts))
        # One that learned nothing gives what it gave before.
        if not self.encoder.state():
            fitted.known = self.known
        return fitted

    def __call__(self, texts: Sequence[str]) -> Matrix:
        """(N,) texts to (N, D) vectors."""
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            self.known.update(zip(new, self.encoder(new), strict=True))
        return np.array([self.known[text] for text in texts])

    def state(self) -> dict[str, Any]:
        """What the encoder learned."""
        return dict(self.encoder.state())


def view(number: int, texts: Sequence[str], problems: Sequence[str], labels: Sequence[Any]) -> Any:
    """A round of samples that nobody scored."""
    num = len(texts)

    def objects(values: Sequence[Any]) -> Any:
        column = np.empty(num, dtype=object)
        column[:] = list(values)
        return column

    # Nobody scored them, and nothing else is known: only texts and clusters can show a dose.
    unknown = np.full(num, np.nan)
    probe = Samples(
        problem=objects(problems),
        family=objects([FAMILY] * num),
        slice=objects(["typical"] * num),
        correct=unknown,
        valid=unknown,
        strategy=objects([None] * num),
        answer=objects([None] * num),
        nll=unknown,
        num_tokens=unknown,
        truncated=unknown,
        text=objects(texts),
        cluster=objects(labels),
    )
    return RoundView(number, probe)


def quantities(now: RoundView, baseline: RoundView) -> dict[str, float]:
    """Three guarded quantities of response clusters, and two descriptions of the round."""
    out = {
        id: _mean(guard, since_baseline=id == QuantityId.CANNED)
        for id, guard in _guards(now, baseline).items()
    }
    shares = np.array(list(Counter(now.probe.cluster).values())) / len(now.probe)
    firsts = {opening(text) for text in now.probe.text}
    return {
        **out,
        "entropy": float(-(shares * np.log(shares)).sum()),
        "openings": len(firsts) / len(now.probe),
    }


def _guards(now: RoundView, baseline: RoundView) -> dict[str, Guard | Missing]:
    rule = DecisionRule(FAMILY)
    scored = tables_of(baseline.probe, now.probe, FAMILY, rule.tail_slice)
    found = guarded.quantities(with_responses(scored, baseline, now), rule, 0, "")
    wanted = (QuantityId.APART, QuantityId.CLUSTERS, QuantityId.CANNED)
    return {q.stream.quantity: q.guard() for q in found if q.stream.quantity in wanted}


def _baseline_clusters(now: RoundView, baseline: RoundView) -> float:
    """The baseline's clusters in blocks as large as the round's."""
    guard = _guards(now, baseline)[QuantityId.CLUSTERS]
    return guard.baseline_mean if isinstance(guard, Guard) else math.nan


def _mean(guard: Guard | Missing, since_baseline: bool) -> float:
    """The round's mean score; or 1 less what it lost since the baseline.

    The patterns of `canned` are picked anew in each round, so that only the change of their share
    means the same in two rounds.
    """
    if not isinstance(guard, Guard):
        return math.nan
    now = float(problem_means(guard.stream.block_PRM).mean())
    if not since_baseline:
        return now
    return 1 - (float(guard.stream.baseline_P.mean()) - now)


def responses(source: Source, encoder: Encoder, repetitions: int) -> Iterator[dict[str, Any]]:
    """Rows of results.csv: mean and 95 % range of each quantity over the repetitions."""
    before, before_of = source.rows(source.baseline)
    texts, problems = source.rows(source.now)
    clusters = ResponseClusters(encoder).fit(before, before_of)
    # Labels of the very texts that were fitted on, as a run's round 0 has them.
    baseline = view(0, before, before_of, clusters.labels(before, before_of))
    at_home = quantities(baseline, baseline)
    # Of blocks as large as the round's: more samples have more clusters.
    at_home["clusters"] = _baseline_clusters(
        view(1, texts, problems, clusters.labels(texts, problems)), baseline
    )
    for kind in Kind:
        for share in SHARES:
            found: dict[str, list[float]] = {}
            for repetition in range(repetitions if share else 1):
                # The same draws for every share: larger doses replace the same samples and more.
                rng = np.random.default_rng(repetition)
                given = dosed(texts, problems, kind, share, rng)
                now = view(1, given, problems, clusters.labels(given, problems))
                for name, value in quantities(now, baseline).items():
                    found.setdefault(name, []).append(value)
            for name, values in found.items():
                low, high = np.quantile(values, (0.025, 0.975))
                yield {
                    "source": source.name,
                    "encoder": encoder.name,
                    "kind": str(kind),
                    "quantity": name,
                    "share": share,
                    "mean": round(float(np.mean(values)), 5),
                    "low": round(float(low), 5),
                    "high": round(float(high), 5),
                    "baseline": round(at_home[name], 5),
                    "samples": len(texts),
                    "prompts": len(set(problems)),
                    "repetitions": len(values),
                }


def everything(data: Path, samples: Path, encoders: Sequence[Encoder]) -> list[dict[str, Any]]:
    """All rows, source by source."""
    out: list[dict[str, Any]] = []
    for source in sources(data, samples):
        for encoder in encoders:
            out += responses(source, encoder, REPETITIONS)
            print(f"{source.name}, {encoder.name}: {len(out)} rows", file=sys.stderr, flush=True)
    return out


def publish(found: list[dict[str, Any]]) -> None:
    """The page and the figure of these rows."""
    PAGE.write_text(page(found), encoding="utf-8")
    draw(found, FIGURE)


def main(arguments: Sequence[str]) -> int:
    """Measure and write; without arguments, write page and figure of the committed rows."""
    data = os.environ.get("OUROLOOP_DATA")
    if arguments and data is None:
        print(
            "dose_response: OUROLOOP_DATA is not set; expected the folder with constitutional/ and"
            " gsm8k/ in it.",
            file=sys.stderr,
        )
        return 2
    if arguments and data is not None:
        encoders = [Remembering(encoder_of(name)) for name in ENCODERS]
        rounds.write(everything(Path(data), Path(arguments[0]), encoders), RESULTS)
    publish(rounds.read(RESULTS))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
