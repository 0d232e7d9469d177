"""The regimes that the monitors are tried on: eleven ways to collapse, and healthy ones."""

from __future__ import annotations

from ouroloop.monitors.bench.dynamics import HEALTHY, Regime

REGIMES = {
    r.name: r
    for r in (
        Regime("drift", "A", slips=0.003),
        Regime("drift, fast", "A", slips=0.05),
        Regime("sharpen", "B", temperature=0.9),
        Regime("sharpen, fast", "B", temperature=0.7),
        Regime("answer filter", "B", temperature=0.8, accept="answer", settled="even"),
        Regime("majority vote", "B", temperature=0.8, accept="vote", settled="even"),
        Regime("majority vote, slow", "B", temperature=0.9, accept="vote", settled="even"),
        Regime("shortcut", "C", accept="format", honest=0.74, slips=0.0005),
        Regime("shortcut, fast", "C", accept="format", honest=0.5, slips=0.0005),
        Regime("tail narrowing", "D", narrow=1.0, num_samples=200_000, slips=0.0005),
        Regime("weak verifier", "A", accept="weak", fresh=0.1),
        HEALTHY,
        Regime("improving", fresh=0.4, accept="even", learn=0.05),
        Regime("relaxing", fresh=0.3, start="flattened"),
    )
}

COLLAPSING = {name: r for name, r in REGIMES.items() if r.mode}
STEADY = {name: r for name, r in REGIMES.items() if not r.mode}
