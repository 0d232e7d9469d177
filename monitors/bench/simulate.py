"""Streams of rounds whose truth is known: the monitors' own test bench.

A probe set, and what models of a world answer to it. What changes the models stands in
`dynamics.py`, what is true of them in `truth.py`. Stylised: directions and sample sizes, not the
rates of real models.

Suffixes: `_P` problems, `_K` samples, `_T` types, `_S` strategies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from ouroloop.monitors.bench.dynamics import (
    NUM_STRATEGIES,
    NUM_TYPES,
    NUM_WRONG,
    SHORTCUT,
    Model,
    Regime,
    World,
    flattened,
    settled,
    step,
    world,
    wrong_answer,
)
from ouroloop.monitors.decision.tables import Pair, Table, Tables, all_judged

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Sides = tuple[Table, Table]
"""Samples of the main family, and of the others."""

# On these problems the usual strategy of their type fails, so that a model that knows only that
# one loses pass@k although its training accuracy rises.
SHIFTED = 0.30
# Standard deviation of difficulty in logits: a skill of 0.8 spreads over 0.6 to 0.9.
SPREAD = 1.0


@dataclass(frozen=True)
class Probe:
    """The fixed probe set.

    Attributes:
        type_P: each problem's type.
        hard_P: its difficulty, logits.
        shifted_P: whether its type's usual strategy fails on it.
        other_P: P(right) of each problem of the other families.
        tail_P: the problems of the tail slice.
        labels: of answers.
        names: of problems.
    """

    type_P: Ints
    hard_P: Floats
    shifted_P: Bools
    other_P: Floats
    tail_P: Ints
    labels: tuple[str, ...]
    names: tuple[str, ...]


def probe(
    rng: np.random.Generator,
    the: World,
    num_problems: int,
    tail_share: float,
) -> Probe:
    """A probe set of that world: typical problems, and a tail slice of rarer and harder ones."""
    num_tail = round(tail_share * num_problems)
    # As often as the types occur; the tail's problems are evenly from the rarer half.
    typical_P = rng.choice(NUM_TYPES, num_problems - num_tail, p=the.weight_T)
    type_P = np.concatenate([typical_P, rng.integers(NUM_TYPES // 2, NUM_TYPES, num_tail)])
    tail_P = np.arange(num_problems - num_tail, num_problems)
    hard_P = rng.normal(0, SPREAD, num_problems)
    # Half a logit: 12 points of accuracy at 50 %.
    hard_P[tail_P] += 0.5
    labels = tuple(str(i) for i in range((1 + NUM_WRONG) * num_problems + 1))
    names = tuple(f"p{i:05d}" for i in range(num_problems))
    shifted_P = rng.random(num_problems) < SHIFTED
    return Probe(
        type_P,
        hard_P,
        shifted_P,
        rng.beta(6, 2, max(num_problems // 5, 20)),
        tail_P,
        labels,
        names,
    )


def cells(
    model: Model,
    the: World,
    problems: Probe,
) -> tuple[Floats, Floats]:
    """P(strategy) and P(right | strategy) for each problem, (P, S) both.

    All that the truth and the samples depend on.
    """
    # 1e-9: the logit of 0 or 1 is not finite.
    skill_PS = np.clip(model.skill_TS[problems.type_P], 1e-9, 1 - 1e-9)
    able_PS = expit(logit(skill_PS) - problems.hard_P[:, None])
    right_PS = able_PS * the.right_TS[problems.type_P]
    usual_P = the.modal_T[problems.type_P]
    is_usual_PS = np.arange(NUM_STRATEGIES + 1) == usual_P[:, None]
    # Training never sees these problems, so training accuracy cannot show the loss.
    fails_PS = problems.shifted_P[:, None] & is_usual_PS
    return model.share_TS[problems.type_P], np.where(fails_PS, 0.0, right_PS)


def draw(
    model: Model,
    the: World,
    problems: Probe,
    num_samples: int,
    rng: np.random.Generator,
) -> tuple[Table, Table]:
    """Samples of the probe set, and of the other families (right or not, nothing else)."""
    share_PS, right_PS = cells(model, the, problems)
    num_problems = len(problems.type_P)
    bound_PS = share_PS.cumsum(axis=1)[:, :-1]
    uniform_PK = rng.random((num_problems, num_samples))
    strategy_PK = np.zeros(uniform_PK.shape, dtype=np.int64)
    # A strategy is where a uniform number falls among the cumulative shares.
    for s in range(NUM_STRATEGIES):
        strategy_PK += uniform_PK > bound_PS[:, s : s + 1]
    chance_PK = np.take_along_axis(right_PS, strategy_PK, axis=1)
    right_PK = rng.random((num_problems, num_samples)) < chance_PK
    # Every problem has answers of its own: the right one and three wrong ones. Only the shortcut
    # gives all problems the same answer, which is what the guard looks for.
    own = (1 + NUM_WRONG) * np.arange(num_problems)[:, None]
    answer_PK = np.where(right_PK, own, own + wrong_answer()[strategy_PK])
    answer_PK = np.where(strategy_PK == SHORTCUT, len(problems.labels) - 1, answer_PK)
    there = np.ones((num_problems, num_samples), dtype=bool)
    other_P = model.general * problems.other_P
    other = rng.random((len(other_P), num_samples)) < other_P[:, None]
    none = np.full(other.shape, -1, dtype=np.int64)
    others = Table(
        tuple(f"o{i:05d}" for i in range(len(other))),
        np.ones(other.shape, dtype=bool),
        other,
        none,
        none,
    )
    return Table(problems.names, there, right_PK, strategy_PK, answer_PK, problems.labels), others


def judged(
    model: Model,
    main: Pair,
    others: Pair,
    rng: np.random.Generator,
) -> Pair:
    """Which samples were scored, of the baseline all.

    An unscored one is asked for again: the other tables hold as many scored samples as ever, so
    that what is true of them does not depend on `model.scored`.
    """
    whole = all_judged(main, others)
    if model.scored == 1:
        return whole
    there_PK = whole.now.there_PK
    right_PK = there_PK & (rng.random(there_PK.shape) < model.scored)
    return whole._replace(now=replace(whole.now, right_PK=right_PK))


@dataclass(frozen=True)
class Round:
    """One round of a stream.

    Attributes:
        number: 0 is the baseline.
        tables: its samples beside the baseline's.
        model: what made them.
        again: one more draw of its samples, each time another one.
    """

    number: int
    tables: Tables
    model: Model
    again: Callable[[], Tables]


@dataclass(frozen=True)
class Stream:
    """One run: `onset` - 1 healthy rounds after the baseline, then the regime.

    With a `world_seed`, runs of different seeds share a world and its probe set.
    """

    regime: Regime
    seed: int
    num_problems: int = 500
    num_samples: int = 16
    num_baseline: int = 256
    num_rounds: int = 20
    tail_share: float = 0.25
    world_seed: int | None = None

    world: World = field(init=False)
    probe: Probe = field(init=False)
    onset: int = field(init=False)

    def __post_init__(self) -> None:
        shared = self.world_seed
        rng = np.random.default_rng(self.seed if shared is None else shared)
        object.__setattr__(self, "world", world(rng))
        object.__setattr__(
            self,
            "probe",
            probe(rng, self.world, self.num_problems, self.tail_share),
        )
        # The onset is the run's own, even where the world is shared.
        if shared is not None:
            rng = np.random.default_rng([self.seed, 5])
        # Some healthy rounds first: a rule must not profit from harm in its very first round.
        onset = int(rng.integers(4, 7)) if self.regime.mode else 1
        object.__setattr__(self, "onset", onset)

    def models(self) -> Iterator[Model]:
        """The baseline's model and that of every round."""
        rng = np.random.default_rng([self.seed, 1])
        # At rest: a baseline that still drifts would be a change of its own.
        model = settled(self.world, self.regime.before)
        if self.regime.start == "flattened":
            model = flattened(model, self.world)
        yield model
        for number in range(1, self.num_rounds + 1):
            regime = self.regime.before
            if number >= self.onset:
                regime = self.regime
            model = step(model, self.world, regime, rng)
            yield model

    def rounds(self) -> Iterator[Round]:
        """Every round with its samples, the baseline first."""
        rng = np.random.default_rng([self.seed, 2])
        baseline: Sides | None = None
        for number, model in enumerate(self.models()):
            num = self.num_samples if number else self.num_baseline
            now = draw(model, self.world, self.probe, num, rng)
            baseline = baseline or now
            again = partial(self.again, baseline, model, rng)
            yield Round(number, self._beside(baseline, now, model, rng), model, again)

    def again(self, baseline: Sides, model: Model, rng: np.random.Generator) -> Tables:
        """One draw of a round under this model, beside the baseline's samples."""
        now = draw(model, self.world, self.probe, self.num_samples, rng)
        return self._beside(baseline, now, model, rng)

    def _beside(
        self, baseline: Sides, now: Sides, model: Model, rng: np.random.Generator
    ) -> Tables:
        """Samples of a round beside the baseline's."""
        main, others = (Pair(then, table) for then, table in zip(baseline, now, strict=True))
        family_P = np.zeros(self.num_problems, dtype=np.int64)
        scored = judged(model, main, others, rng)
        return Tables(main, self.probe.tail_P, main, family_P, others, scored)
