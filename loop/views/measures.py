"""What a run is shown by: each number's title, unit and one-line meaning.

And the few tables derived from a round's rows.

The report, the terminal table, `compare` and MLflow all read from here, so that one name means one
number everywhere.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ouroloop.loop.views.reader import NAN, RoundData, RunData
from ouroloop.monitors.names import FailureMode


class Value(NamedTuple):
    """One number with its 95 % interval; NaN comes with a reason."""

    value: float
    low: float = NAN
    high: float = NAN
    reason: str = ""

    @property
    def defined(self) -> bool:
        """Whether there is a number."""
        return not math.isnan(self.value)


@dataclass(frozen=True)
class Measure:
    """A number that is followed over rounds.

    `meaning` is one plain sentence; a share is shown in per cent.
    """

    key: str
    title: str
    unit: Literal["share", "nats", "count", "ratio"]
    meaning: str
    read: Callable[[RoundData], Value]

    def text(self, value: Value, interval: bool = True) -> str:
        """`71.2 % [68.0, 74.1]`, or `undefined: reason`."""
        if not value.defined:
            return f"undefined: {value.reason or 'no value was recorded'}"
        scale, digits, unit = {
            "share": (100, 1, " %"),
            "nats": (1, 2, ""),
            "ratio": (1, 2, ""),
            "count": (1, 0, ""),
        }[self.unit]
        shown = f"{value.value * scale:.{digits}f}{unit}"
        if interval and not (math.isnan(value.low) or math.isnan(value.high)):
            shown += f" [{value.low * scale:.{digits}f}, {value.high * scale:.{digits}f}]"
        return shown


def _score(metric: str) -> Callable[[RoundData], Value]:
    def read(round: RoundData) -> Value:
        value, low, high = round.score(metric)
        return Value(
            value, low, high, "" if round.evals else "the round has no held-out evaluation"
        )

    return read


def _reading(name: str) -> Callable[[RoundData], Value]:
    def read(round: RoundData) -> Value:
        found = round.reading(name)
        if found is None:
            failed = round.reading(name.split("/")[0])
            return Value(
                NAN, reason=failed.reason if failed else f"no monitor read {name} in this round"
            )
        return Value(found.value, found.low, found.high, found.reason)

    return read


MEASURES: tuple[Measure, ...] = (
    Measure(
        "pass@1",
        "Right answers (pass@1)",
        "share",
        "Share of held-out samples at the panel's temperature whose final answer is right.",
        _score("pass@1"),
    ),
    Measure(
        "greedy",
        "Right when greedy",
        "share",
        "Share of held-out problems answered right by the model's single most likely text.",
        _score("greedy"),
    ),
    Measure(
        "maj@k",
        "Right by majority (maj@k)",
        "share",
        "Share of held-out problems where the most common of k answers is right.",
        _score("maj@k"),
    ),
    Measure(
        "pass@k",
        "Right at least once (pass@k)",
        "share",
        "Chance that at least one of k samples is right: what is still within reach.",
        _score("pass@k"),
    ),
    Measure(
        "dcp",
        "Two right, two ways (DCP)",
        "share",
        "Distinct-correct-pair probability: two samples of a problem are both right and use"
        " different strategies. The first to fall when a model narrows.",
        _reading("diversity/dcp"),
    ),
    Measure(
        "strategy_entropy",
        "Strategy entropy",
        "nats",
        "How evenly the strategies are used; 0 means that only one is left.",
        _reading("diversity/strategy_entropy_all"),
    ),
    Measure(
        "alive",
        "Strategies alive",
        "count",
        "Number of strategies behind at least one in a hundred of the right held-out samples.",
        _reading("coverage/alive"),
    ),
    Measure(
        "rare",
        "Rare strategies kept",
        "ratio",
        "Right answers by strategies that were rare in round 0, against then: 1 is kept, 0 is"
        " lost.",
        _reading("coverage/rare_retention"),
    ),
    Measure(
        "trace_entropy",
        "Trace entropy",
        "nats",
        "Surprise per token of the model's own samples; falls as the model repeats itself.",
        _reading("entropy/token"),
    ),
    Measure(
        "overconfidence",
        "Over-confidence",
        "share",
        "How far agreement among samples overstates being right; 0 is honest, above 0 is too sure.",
        _reading("calibration/overconfidence"),
    ),
    Measure(
        "critic",
        "Critic is right",
        "share",
        "Balanced accuracy of the model's verdicts on its own drafts; 50 % is guessing.",
        _reading("critic/balanced_accuracy"),
    ),
    Measure(
        "let_in",
        "Wrong items let in",
        "share",
        "Share of planted wrong solutions that the filter's gates accept; what passes is"
        " trained on.",
        _reading("audit/false_acceptance"),
    ),
    Measure(
        "text_entropy",
        "Entropy on real text",
        "nats",
        "How open the model's next token is along fixed demonstrations that training never sees;"
        " falls as the model narrows.",
        _reading("text/entropy"),
    ),
    Measure(
        "text_nll",
        "Surprise on real text",
        "nats",
        "Negative log-probability per token of those demonstrations; rises as the model forgets"
        " what it did not write itself.",
        _reading("text/cross_entropy"),
    ),
    Measure(
        "yield",
        "Yield of the filter",
        "share",
        "Share of the round's training samples that passed every gate.",
        _reading("supply/yield"),
    ),
)
MODES = {mode.value: mode.value.replace("_", " ") for mode in FailureMode}
"""Names of the failure modes."""

BY_KEY = {measure.key: measure for measure in MEASURES}


def title_of(measure: Measure, run: RunData) -> str:
    """The title with the run's own k in place of the letter."""
    k = run.rounds[0].evals.get("k", {}) if run.rounds else {}
    for metric, name in (("pass@k", "pass"), ("maj@k", "majority")):
        if k.get(name):
            full = metric.replace("@k", f"@{k[name]}")
            if measure.key == metric:
                return measure.title.replace(metric, full)
    return measure.title


def labels(runs: Sequence[RunData]) -> list[str]:
    """One name per run; runs of the same name are told apart by their folders."""
    names = Counter(run.name for run in runs)
    return [run.name if names[run.name] == 1 else f"{run.name} ({run.path})" for run in runs]


def families(runs: Sequence[RunData]) -> list[str]:
    """Every family that some round was scored on, main families first."""
    main = dict.fromkeys(r.main_family for run in runs for r in run.rounds if r.main_family)
    return list(
        main
        | dict.fromkeys(
            name for run in runs for r in run.rounds for name in r.evals.get("families", {})
        )
    )


def strategy_shares(round: RoundData, correct_only: bool = False) -> dict[str, float]:
    """Share of each strategy among the main family's panel samples that have one.

    Most common first.
    """
    rows = round.probe
    if not len(rows):
        return {}
    rows = rows[(rows["kind"] == "sample") & (rows["family"] == round.main_family)]
    rows = rows[rows["correct"] == 1] if correct_only else rows
    shares = rows["strategy"].dropna().value_counts(normalize=True)
    return {str(name): float(share) for name, share in shares.items()}


def reliability(round: RoundData) -> list[tuple[float, float, float]]:
    """Points of the reliability diagram.

    (how many samples agree, how often the majority is right, problems behind it).
    """
    found = round.reading("calibration/overconfidence")
    return (
        [(b["confidence"], b["accuracy"], b["count"]) for b in found.details.get("bins") or ()]
        if found
        else []
    )


def rejections(round: RoundData) -> dict[str, int]:
    """How many samples each reason speaks against, most common first.

    A sample may have several reasons.
    """
    if not len(round.verdicts):
        return {}
    return dict(
        Counter(
            str(reason)
            for reasons in round.verdicts["reasons"]
            if reasons is not None
            for reason in reasons
        ).most_common()
    )
