"""The regimes that the monitors are tried on: eleven ways to collapse, and healthy ones."""

from __future__ import annotations

from ouroloop.monitors.bench.dynamics import HEALTHY, PREJUDICED, Regime
from ouroloop.monitors.names import FailureMode

# Slow and fast variants of a failure differ in their rates alone.
REGIMES = {
    r.name: r
    for r in (
        Regime("drift", FailureMode.DRIFT, slips=0.003),
        Regime("drift, fast", FailureMode.DRIFT, slips=0.05),
        Regime("sharpen", FailureMode.SHARPENING, temperature=0.9),
        Regime("sharpen, fast", FailureMode.SHARPENING, temperature=0.7),
        Regime(
            "answer filter",
            FailureMode.SHARPENING,
            temperature=0.8,
            accept="answer",
            settled="even",
        ),
        Regime(
            "majority vote",
            FailureMode.SHARPENING,
            temperature=0.8,
            accept="vote",
            settled="even",
        ),
        Regime(
            "majority vote, slow",
            FailureMode.SHARPENING,
            temperature=0.9,
            accept="vote",
            settled="even",
        ),
        Regime("shortcut", FailureMode.SHORTCUT, accept="format", honest=0.74, slips=0.0005),
        Regime("shortcut, fast", FailureMode.SHORTCUT, accept="format", honest=0.5, slips=0.0005),
        Regime(
            "tail narrowing",
            FailureMode.TAIL_NARROWING,
            narrow=1.0,
            num_samples=200_000,
            slips=0.0005,
        ),
        Regime("weak verifier", FailureMode.DRIFT, accept="weak", fresh=0.1),
        Regime(
            "death of a strategy",
            FailureMode.SHARPENING,
            accept=PREJUDICED,
            honest=0.6,
            settled="even",
        ),
        HEALTHY,
        Regime("improving", fresh=0.4, accept="even", learn=0.05),
        Regime("relaxing", fresh=0.3, start="flattened"),
    )
}

COLLAPSING = {name: r for name, r in REGIMES.items() if r.mode}


def mode_name(written: str) -> str:
    """A failure mode of a result file, for a table."""
    return written.replace("_", " ")
