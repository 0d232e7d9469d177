"""Streams of rounds whose truth is known: the monitors' own test bench. Populations of strategies under selection, temperature and drift.

A world has problem types (Zipf), strategies of which two to four are right for a type, and a fixed panel of problems. A model is a table of
shares: P(strategy) for each type. A round of self-training samples it at a temperature, filters the samples, and takes what was kept, mixed
with fresh real data, for the next shares (Wright-Fisher sampling, replicator selection). Nothing is drawn by hand: what a regime does to
pass@1 or to strategies follows from its temperature, filter and fresh share. Stylised: directions and sample sizes, not real models' rates.

Suffixes: `_T` types, `_S` strategies (the last one is the shortcut), `_P` problems, `_K` samples, `_A` answers (right, three wrong ones, the
shortcut's), `_V` votes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from monitors.blocks import Table
from monitors.guarded import Tables

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NUM_TYPES, NUM_STRATEGIES = 60, 12
SHORTCUT = NUM_STRATEGIES
NUM_WRONG = 3
NUM_VOTERS, NUM_POLLS = 16, 64
SHIFTED, TAIL = 0.30, 0.25
SPREAD = 1.0


@dataclass(frozen=True)
class Regime:
    """How a round makes the next model. mode: what it ought to be called ("" healthy). fresh: share of real data (lambda).

    accept: what is kept of the samples: `all`, `answer` (right ones), `even` (right ones, as many of every right strategy's samples), `vote`
    (those that agree with the majority of 16), `weak` (a verifier that loves one wrong strategy per type), `format` (a reward that honest
    samples get with probability `honest`, the shortcut always). slips: share of samples that are learnt as any strategy at all. learn: share
    of the remaining errors that practice removes in a round. narrow: how strongly a type's share of the problems follows its pass rate.
    prior: as many samples of all types together are mixed with every type's own. settled: what the healthy rounds before it accept. start:
    `settled`, or `flattened`: more diverse than the real data.
    """

    name: str
    mode: str = ""
    temperature: float = 1.0
    fresh: float = 0.0
    accept: str = "all"
    slips: float = 0.002
    honest: float = 1.0
    learn: float = 0.0
    narrow: float = 0.0
    num_samples: int = 400_000
    prior: float = 2.0
    settled: str = "all"
    start: str = "settled"

    @property
    def before(self) -> Regime:
        """The healthy regime of the rounds before."""
        return replace(HEALTHY, accept=self.settled)


HEALTHY = Regime("stationary", fresh=0.3, num_samples=1_000_000)


@dataclass(frozen=True)
class World:
    """What is fixed: how often types occur, which strategies real data use and which are right, and how surely they are carried out."""

    weight_T: Floats
    real_TS: Floats
    right_TS: Bools
    skill_TS: Floats

    @property
    def modal_T(self) -> Ints:
        """Each type's most frequent right strategy."""
        return np.asarray((self.real_TS * self.right_TS).argmax(axis=1))


@dataclass(frozen=True)
class Model:
    """What a round may change: shares of strategies, skill in carrying them out, how often types are trained on, skill in everything else."""

    share_TS: Floats
    skill_TS: Floats
    weight_T: Floats
    general: float = 1.0


@dataclass(frozen=True)
class Probe:
    """The fixed panel: each problem's type and difficulty (logits), whether the usual strategy fails on it, and the tail slice."""

    type_P: Ints
    hard_P: Floats
    shifted_P: Bools
    other_P: Floats
    tail_P: Ints
    labels: tuple[str, ...]
    names: tuple[str, ...]


def world(rng: np.random.Generator) -> World:
    """A new world. A fifth of the real data uses wrong strategies; a five-hundredth is the shortcut, which is never right."""
    weight_T = 1 / np.arange(1, NUM_TYPES + 1)
    real_TS = np.zeros((NUM_TYPES, NUM_STRATEGIES + 1))
    right_TS = np.zeros((NUM_TYPES, NUM_STRATEGIES + 1), dtype=bool)
    for t in range(NUM_TYPES):
        order, num = rng.permutation(NUM_STRATEGIES), rng.integers(2, 5)
        right_TS[t, order[:num]] = True
        shares = np.array([1.0, 0.6, 0.3, 0.12])[:num] * rng.uniform(0.8, 1.25, num)
        real_TS[t, order[:num]] = 0.798 * shares / shares.sum()
        real_TS[t, order[num : num + 3]] = 0.2 * np.array([0.5, 0.3, 0.2])
    real_TS[:, SHORTCUT] = 0.002
    rank_T1 = np.linspace(0, 1, NUM_TYPES)[:, None]
    skill_TS = np.clip(rng.normal(0.83 - 0.1 * rank_T1, 0.08, right_TS.shape), 0.5, 0.95) * right_TS
    return World(weight_T / weight_T.sum(), real_TS, right_TS, skill_TS)


def probe(rng: np.random.Generator, the: World, num_problems: int) -> Probe:
    """A panel of that world: three quarters typical, a quarter from the rarer half of the types and harder."""
    num_tail = round(TAIL * num_problems)
    typical_P = rng.choice(NUM_TYPES, num_problems - num_tail, p=the.weight_T)
    type_P = np.concatenate([typical_P, rng.integers(NUM_TYPES // 2, NUM_TYPES, num_tail)])
    tail_P = np.arange(num_problems - num_tail, num_problems)
    hard_P = rng.normal(0, SPREAD, num_problems)
    hard_P[tail_P] += 0.5
    labels = tuple(str(i) for i in range((1 + NUM_WRONG) * num_problems + 1))
    names = tuple(f"p{i:05d}" for i in range(num_problems))
    shifted_P = rng.random(num_problems) < SHIFTED
    return Probe(type_P, hard_P, shifted_P, rng.beta(6, 2, max(num_problems // 5, 20)), tail_P, labels, names)


def step(model: Model, the: World, regime: Regime, rng: np.random.Generator | None) -> Model:
    """One round of self-training; without `rng` with as many samples as one likes (its expectation)."""
    drawn_TS = np.where(model.share_TS > 0, model.share_TS, 1.0) ** (1 / regime.temperature) * (model.share_TS > 0)
    drawn_TS /= drawn_TS.sum(axis=1, keepdims=True)
    kept_TS = drawn_TS * acceptance(drawn_TS, model, the, regime, rng)
    pass_T = kept_TS.sum(axis=1)
    right_T = (drawn_TS * model.skill_TS * the.right_TS).sum(axis=1)
    weight_T = np.maximum(model.weight_T * right_T**regime.narrow, 1e-12)
    weight_T /= weight_T.sum()
    own_TS = kept_TS / pass_T[:, None]
    num_T = np.maximum(np.rint(regime.num_samples * (1 - regime.fresh) * weight_T), 1).astype(np.int64)
    if rng is not None:
        own_TS = rng.multinomial(num_T, own_TS) / num_T[:, None]
    fresh = regime.fresh
    amount_T = (1 - fresh) * weight_T + fresh * the.weight_T
    mix_T = (fresh * the.weight_T / amount_T)[:, None]
    share_TS = (1 - mix_T) * own_TS + mix_T * the.real_TS
    fill_T = (regime.prior / (regime.prior + regime.num_samples * amount_T))[:, None]  # a type with little data is filled up from all types together
    share_TS = (1 - fill_T) * share_TS + fill_T * (amount_T[:, None] * share_TS).sum(axis=0)
    share_TS[:, :SHORTCUT] = (1 - regime.slips) * share_TS[:, :SHORTCUT] + regime.slips * (1 - share_TS[:, SHORTCUT:]) / NUM_STRATEGIES
    forgotten_TS = model.skill_TS * (1 - fill_T) * (1 - regime.slips * (1 - fresh)) if regime.accept == "all" else model.skill_TS * (1 - fill_T)
    kept_skill = (1 - fresh) * forgotten_TS + fresh * np.maximum(model.skill_TS, the.skill_TS)
    skill_TS = kept_skill + regime.learn * (1 - kept_skill) * the.right_TS
    general = model.general * (1 - regime.slips * (1 - fresh)) if fresh < HEALTHY.fresh else model.general
    return Model(share_TS, skill_TS, weight_T, general)


def acceptance(drawn_TS: Floats, model: Model, the: World, regime: Regime, rng: np.random.Generator | None) -> Floats:
    """P(a sample is kept) for each type and strategy. Training problems are not shifted."""
    right_TS = model.skill_TS * the.right_TS
    if regime.accept == "answer":
        return np.maximum(right_TS, 0.02)
    if regime.accept == "even":
        return np.where(the.right_TS, (drawn_TS * right_TS).sum(axis=1, keepdims=True), 0.02)
    if regime.accept == "format":
        return np.where(np.arange(NUM_STRATEGIES + 1) == SHORTCUT, np.ones_like(drawn_TS), regime.honest)
    if regime.accept == "weak":
        loved_TS = (drawn_TS * ~the.right_TS)[:, :SHORTCUT].argmax(axis=1)[:, None] == np.arange(NUM_STRATEGIES + 1)
        return np.asarray(np.where(loved_TS, 0.95, 0.9 * right_TS + 0.3 * (1 - right_TS)))
    if regime.accept == "vote":
        answer_TA = answers(drawn_TS, right_TS)
        polls = (rng or np.random.default_rng(0)).multinomial(NUM_VOTERS, np.repeat(answer_TA, NUM_POLLS, axis=0))
        winner_TV = (polls + np.linspace(0.3, 0, polls.shape[1])).argmax(axis=1).reshape(len(drawn_TS), NUM_POLLS)
        win_TA = (winner_TV[:, :, None] == np.arange(answer_TA.shape[1])).mean(axis=1)
        wrong_TS = win_TA[:, wrong_answer()]
        return np.maximum(right_TS * win_TA[:, :1] + (1 - right_TS) * wrong_TS, 1e-6)
    return np.ones_like(drawn_TS)


def wrong_answer() -> Ints:
    """The answer that a strategy gives when it goes wrong: 1 .. NUM_WRONG, the shortcut its own."""
    return np.append(1 + np.arange(NUM_STRATEGIES) % NUM_WRONG, 1 + NUM_WRONG)


def answers(share_XS: Floats, right_XS: Floats) -> Floats:
    """P(answer) from shares and P(right | strategy)."""
    wrong_XS = share_XS * (1 - right_XS)
    one_hot_SA = wrong_answer()[:, None] == np.arange(2 + NUM_WRONG)
    out = wrong_XS @ one_hot_SA
    out[:, 0] = (share_XS * right_XS).sum(axis=1)
    return np.asarray(out)


def cells(model: Model, the: World, panel: Probe) -> tuple[Floats, Floats]:
    """P(strategy) and P(right | strategy) for each problem, (P, S) both: all that the truth and the samples depend on."""
    skill_PS = np.clip(model.skill_TS[panel.type_P], 1e-9, 1 - 1e-9)
    right_PS = expit(logit(skill_PS) - panel.hard_P[:, None]) * the.right_TS[panel.type_P]
    fails_PS = panel.shifted_P[:, None] & (np.arange(NUM_STRATEGIES + 1) == the.modal_T[panel.type_P][:, None])
    return model.share_TS[panel.type_P], np.where(fails_PS, 0.0, right_PS)


def draw(model: Model, the: World, panel: Probe, num_samples: int, rng: np.random.Generator) -> tuple[Table, Table]:
    """Samples of the panel, and of the other families (right or not, nothing else)."""
    share_PS, right_PS = cells(model, the, panel)
    num_problems = len(panel.type_P)
    bound_PS = share_PS.cumsum(axis=1)[:, :-1]
    uniform_PK = rng.random((num_problems, num_samples))
    strategy_PK = np.zeros(uniform_PK.shape, dtype=np.int64)
    for s in range(NUM_STRATEGIES):
        strategy_PK += uniform_PK > bound_PS[:, s : s + 1]
    right_PK = rng.random((num_problems, num_samples)) < np.take_along_axis(right_PS, strategy_PK, axis=1)
    own = (1 + NUM_WRONG) * np.arange(num_problems)[:, None]
    answer_PK = np.where(right_PK, own, own + wrong_answer()[strategy_PK])
    answer_PK = np.where(strategy_PK == SHORTCUT, len(panel.labels) - 1, answer_PK)
    there = np.ones((num_problems, num_samples), dtype=bool)
    other = rng.random((len(panel.other_P), num_samples)) < (model.general * panel.other_P)[:, None]
    none = np.full(other.shape, -1, dtype=np.int64)
    others = Table(tuple(f"o{i:05d}" for i in range(len(other))), np.ones(other.shape, dtype=bool), other, none, none)
    return Table(panel.names, there, right_PK, strategy_PK, answer_PK, panel.labels), others


@dataclass(frozen=True)
class Round:
    """One round of a stream: its number (0: the anchor), its samples beside the anchor's, and the model that made it."""

    number: int
    tables: Tables
    model: Model


def settled(the: World, healthy: Regime, num_rounds: int = 40) -> Model:
    """The healthy regime's own equilibrium: where every stream begins."""
    model = Model(the.real_TS, the.skill_TS, the.weight_T)
    for _ in range(num_rounds):
        model = replace(step(model, the, healthy, None), general=1.0)
    return model


def flattened(model: Model, the: World, power: float = 0.88) -> Model:
    """A base model that spreads over the right strategies more evenly than the real data."""
    flat_TS = np.where(the.right_TS, model.share_TS, 0.0) ** power * the.right_TS
    total_T1 = (model.share_TS * the.right_TS).sum(axis=1, keepdims=True)
    return replace(model, share_TS=np.where(the.right_TS, flat_TS / flat_TS.sum(axis=1, keepdims=True) * total_T1, model.share_TS))


@dataclass(frozen=True)
class Stream:
    """One run: `onset` - 1 healthy rounds after the anchor, then the regime."""

    regime: Regime
    seed: int
    num_problems: int = 500
    num_samples: int = 16
    num_anchor: int = 256
    num_rounds: int = 20

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        object.__setattr__(self, "world", world(rng))
        object.__setattr__(self, "probe", probe(rng, self.world, self.num_problems))
        object.__setattr__(self, "onset", int(rng.integers(4, 7)) if self.regime.mode else 1)

    world: World = None  # type: ignore[assignment]
    probe: Probe = None  # type: ignore[assignment]
    onset: int = 0

    def models(self) -> Iterator[Model]:
        """The anchor's model and that of every round."""
        rng = np.random.default_rng([self.seed, 1])
        model = settled(self.world, self.regime.before)
        model = flattened(model, self.world) if self.regime.start == "flattened" else model
        yield model
        for number in range(1, self.num_rounds + 1):
            model = step(model, self.world, self.regime if number >= self.onset else self.regime.before, rng)
            yield model

    def rounds(self) -> Iterator[Round]:
        """Every round with its samples, the anchor first."""
        rng = np.random.default_rng([self.seed, 2])
        anchor = None
        for number, model in enumerate(self.models()):
            now = draw(model, self.world, self.probe, self.num_samples if number else self.num_anchor, rng)
            anchor = now if anchor is None else anchor
            main = (anchor[0], now[0])
            family_P = np.zeros(self.num_problems, dtype=np.int64)
            yield Round(number, Tables(main, self.probe.tail_P, main, family_P, (anchor[1], now[1])), model)
