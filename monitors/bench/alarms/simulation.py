"""A locked run, simulated: its samples as columns, and what is exactly true of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.bench import simulate
from ouroloop.monitors.bench.alarms.history import MAIN, OTHER, PASS_K, TAIL
from ouroloop.monitors.bench.alarms.lock import ROUNDS, RunKey
from ouroloop.monitors.bench.dynamics import NUM_TYPES, Model, World
from ouroloop.monitors.bench.regimes import REGIMES
from ouroloop.monitors.bench.simulate import Probe, Stream
from ouroloop.monitors.decision.tables import Table

OUTCOMES = ("event", "accuracy", "diversity", "pass@64", "other structures")
"""What may be lost, see `Truth.events`; nothing guards the last two."""

# Two points of pass@1 or of the tail's pass@4, a quarter of DCP, two points of pass@64: fixed with
# the benchmark, and larger than what any rule of ours tolerates.
POINTS = 0.02
PAIRS = 0.25
MANY = 64
# Harder than the probe set's problems by this much, so that pass@64 is not 1 everywhere.
HARDER = 1.5
# So many problems of each type keep the sampling noise of their difficulties out of the truth.
OTHERS_OF_A_TYPE = 8


@dataclass(frozen=True)
class Truth:
    """What is true of a run.

    Attributes:
        onset: first round of the regime; 0 for a healthy run.
        events: outcome -> first round in which it is truly lost, 0 for never. `accuracy`: pass@1
            or the tail's pass@4 is 2 points below the baseline's; `diversity`: DCP is a quarter
            below; `event`: the first of these. `pass@64`: that of the probe set's problems is 2
            points below; `other structures`: that of other problems, of all types alike and
            harder.
    """

    onset: int
    events: Mapping[str, int]


@dataclass(frozen=True)
class Size:
    """Problems, samples of each, samples of each at the baseline."""

    problems: int
    samples: int
    baseline_samples: int


SIZES = {"120x8": Size(120, 8, 32), "500x16": Size(500, 16, 256)}


def simulated(key: RunKey, size: Size) -> tuple[dict[str, NDArray[Any]], Truth]:
    """The run's samples, one entry of each column a sample, and its truth."""
    stream = Stream(
        REGIMES[key.regime],
        key.seed,
        size.problems,
        size.samples,
        size.baseline_samples,
        ROUNDS,
        world_seed=key.world,
    )
    other = _other_structures(stream)
    levels: list[dict[str, float]] = []
    parts: list[dict[str, NDArray[Any]]] = []
    tail = set(stream.probe.tail_P.tolist())
    slice_P = np.array([TAIL if i in tail else "typical" for i in range(size.problems)])
    for a_round in stream.rounds():
        # Exact, from the model: the samples of the round are not looked at.
        levels.append(_levels(a_round.model, stream.world, stream.probe, other))
        main, others = a_round.tables.main.now, a_round.tables.others
        parts.append(_rows(a_round.number, main, MAIN, slice_P))
        if others is not None:
            typical_P = np.full(len(others.now.problems), "typical")
            parts.append(_rows(a_round.number, others.now, OTHER, typical_P))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    onset = stream.onset if stream.regime.mode else 0
    return columns, Truth(onset, _events(levels))


def _rows(
    number: int, rows: Table, family: str, slice_P: NDArray[np.str_]
) -> dict[str, NDArray[Any]]:
    """A round's samples of one family, problem after problem."""
    num_problems, num_samples = rows.there_PK.shape
    num = num_problems * num_samples
    strategies = np.array([f"s{code:02d}" for code in range(1 + rows.strategy_PK.max())], object)
    answers = np.array(rows.labels, dtype=object)
    return {
        "round": np.full(num, number, dtype=np.int16),
        "family": np.full(num, family, dtype=object),
        "slice": np.repeat(slice_P.astype(object), num_samples),
        "problem": np.repeat(np.array(rows.problems, dtype=object), num_samples),
        "sample": np.tile(np.arange(num_samples, dtype=np.int16), num_problems),
        "correct": rows.right_PK.ravel(),
        "strategy": _named(strategies, rows.strategy_PK),
        "answer": _named(answers, rows.answer_PK),
    }


def _named(names: NDArray[Any], code_PK: NDArray[np.int64]) -> NDArray[Any]:
    """Codes as names; -1 as None."""
    return np.array([*names, None], dtype=object)[code_PK.ravel()]


def _other_structures(stream: Stream) -> Probe:
    """Problems of all types alike, which no round samples."""
    # 6: the simulation itself uses 1, 2 and 5. The truth costs the run none of its random numbers.
    rng = np.random.default_rng([stream.seed, 6])
    type_P = np.repeat(np.arange(NUM_TYPES), OTHERS_OF_A_TYPE)
    return Probe(
        type_P,
        rng.normal(HARDER, simulate.SPREAD, len(type_P)),
        rng.random(len(type_P)) < simulate.SHIFTED,
        np.empty(0),
        np.empty(0, dtype=np.int64),
        (),
        (),
    )


def _levels(model: Model, the: World, probe: Probe, other: Probe) -> dict[str, float]:
    """The expectations that the outcomes are about, under one model."""
    share_PS, able_PS = simulate.cells(model, the, probe)
    hit_PS = share_PS * able_PS
    right_P = hit_PS.sum(axis=1)
    # P(right) of a problem: the sum over strategies of share and skill.
    elsewhere_P = np.multiply(*simulate.cells(model, the, other)).sum(axis=1)
    return {
        "pass@1": float(right_P.mean()),
        "tail": float((1 - (1 - right_P[probe.tail_P]) ** PASS_K).mean()),
        "pairs": float((right_P**2 - (hit_PS**2).sum(axis=1)).mean()),
        "pass@64": float((1 - (1 - right_P) ** MANY).mean()),
        "other structures": float((1 - (1 - elsewhere_P) ** MANY).mean()),
    }


def _events(levels: list[dict[str, float]]) -> dict[str, int]:
    """Outcome -> the first round in which it is lost, 0 for never."""
    first = levels[0]
    lost: dict[str, list[bool]] = {name: [] for name in OUTCOMES}
    for now in levels:
        fall = {name: first[name] - now[name] for name in first}
        # In every round anew: an outcome that recovers was lost all the same.
        lost["accuracy"].append(max(fall["pass@1"], fall["tail"]) >= POINTS)
        lost["diversity"].append(fall["pairs"] >= PAIRS * first["pairs"])
        lost["event"].append(lost["accuracy"][-1] or lost["diversity"][-1])
        for name in ("pass@64", "other structures"):
            lost[name].append(fall[name] >= POINTS)
    return {name: rounds.index(True) if any(rounds) else 0 for name, rounds in lost.items()}
