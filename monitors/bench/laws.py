"""V3: the simulator's dynamics against the laws that they must obey."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ouroloop.monitors.bench.cells import Cell, Cells
from ouroloop.monitors.bench.dynamics import (
    NUM_STRATEGIES,
    NUM_TYPES,
    SHORTCUT,
    Model,
    Regime,
    World,
    step,
)


@dataclass(frozen=True)
class Law:
    """A number as the law says and as the simulator does, and how far apart they may lie."""

    law: str
    setting: str
    expected: float
    found: float
    within: float


def even_world() -> World:
    """All types alike, every strategy right and equally frequent, no shortcut."""
    # The shortcut's share is 0: it is never drawn, and cannot disturb a law.
    share = np.append(np.full(NUM_STRATEGIES, 1 / NUM_STRATEGIES), 0.0)
    right_TS = np.tile(np.arange(NUM_STRATEGIES + 1) != SHORTCUT, (NUM_TYPES, 1))
    return World(
        np.full(NUM_TYPES, 1 / NUM_TYPES),
        np.tile(share, (NUM_TYPES, 1)),
        right_TS,
        right_TS.astype(float),
    )


def drift(
    num: int,
    num_rounds: int,
    runs: int,
    seed: int = 0,
) -> Law:
    """Without selection 1 - sum p^2 falls by a factor 1 - 1/n a round. n: samples of each type."""
    the, rng = even_world(), np.random.default_rng(seed)
    regime = Regime("neutral", num_samples=num * NUM_TYPES, slips=0.0, prior=0.0)
    kept = []
    for _ in range(runs):
        model = Model(the.real_TS, the.skill_TS, the.weight_T)
        for _ in range(num_rounds):
            model = step(model, the, regime, rng)
        kept.append((1 - (model.share_TS**2).sum(axis=1)).mean())
    before = 1 - 1 / NUM_STRATEGIES
    expected = (1 - 1 / num) ** num_rounds
    found = float(np.mean(kept)) / before
    return Law(
        "diversity left by chance alone, (1 - 1/n)^t",
        f"n = {num}, t = {num_rounds}",
        expected,
        found,
        0.01 * expected,
    )


def stability(temperature: float) -> Law:
    """Strategies in balance stay so at a temperature T when the fresh share lies above 1 - T."""
    the = even_world()
    # A small nudge: only its growth or decay is asked for.
    nudge_S = np.append(1 + 1e-4 * np.cos(np.arange(NUM_STRATEGIES)), 0.0)
    nudged_TS = the.real_TS * nudge_S
    start = Model(nudged_TS / nudged_TS.sum(axis=1, keepdims=True), the.skill_TS, the.weight_T)

    def leaves(fresh: float) -> bool:
        regime = Regime("tempered", temperature=temperature, fresh=fresh, slips=0.0, prior=0.0)
        return bool(_deviation(start, the, regime) > np.abs(start.share_TS - the.real_TS).max())

    return Law(
        "least fresh share that keeps the balance, 1 - T",
        f"T = {temperature}",
        1 - temperature,
        _flip(leaves),
        0.03,
    )


def invasion(ratio: float) -> Law:
    """A shortcut that is selected R times as often as the rest cannot spread at some fresh share.

    That is so when the fresh share lies above 1 - 1/R.
    """
    the = even_world()
    share_TS = the.real_TS * (1 - 1e-6)
    share_TS[:, SHORTCUT] = 1e-6
    start = Model(share_TS, the.skill_TS, the.weight_T)

    def spreads(fresh: float) -> bool:
        regime = Regime(
            "shortcut",
            accept="format",
            honest=1 / ratio,
            fresh=fresh,
            slips=0.0,
            prior=0.0,
        )
        model = start
        for _ in range(3):
            model = step(model, the, regime, None)
        return bool(model.share_TS[0, SHORTCUT] > 1e-6)

    return Law(
        "least fresh share that keeps a shortcut out, 1 - 1/R",
        f"R = {ratio}",
        1 - 1 / ratio,
        _flip(spreads),
        0.05,
    )


def _deviation(
    model: Model,
    the: World,
    regime: Regime,
    num_rounds: int = 5,
) -> float:
    for _ in range(num_rounds):
        model = replace(step(model, the, regime, None), weight_T=the.weight_T)
    return float(np.abs(model.share_TS - the.real_TS).max())


# 14 halvings: to 0.00006, far below what the laws allow.
def _flip(happens: Callable[[float], bool], steps: int = 14) -> float:
    """Where on [0, 1) something stops happening, by halving."""
    low, high = 0.0, 0.999
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if happens(middle) else (low, middle)
    return (low + high) / 2


def law(name: str, *setting: float) -> Law:
    """One line of the table."""
    if name == "drift":
        return drift(int(setting[0]), int(setting[1]), int(setting[2]))
    if name == "stability":
        return stability(setting[0])
    return invasion(setting[0])


def cells(out: Path, runs: int) -> Cells:
    """All laws in one file."""
    lines: list[tuple[object, ...]] = []
    lines += [("drift", n, t, runs) for n, t in ((20, 10), (100, 20), (1000, 20))]
    lines += [("stability", temperature) for temperature in (0.5, 0.7, 0.9)]
    lines += [("invasion", ratio) for ratio in (1.2, 1.5, 2.0, 4.0)]
    return {Cell(out / "v3.csv"): (law, lines)}
