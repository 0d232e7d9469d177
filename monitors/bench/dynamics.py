"""Populations of strategies under selection, temperature and drift: what training does to a model.

Knows nothing of probe sets.

A world has problem types (Zipf) and strategies, of which two to four are right for a type. A model
is a table of shares: P(strategy) for each type. A round of self-training samples it at a
temperature, filters the samples, and takes what was kept, mixed with fresh real data, for the next
shares (Wright-Fisher sampling, replicator selection). Nothing is drawn by hand: what a regime does
to pass@1 or to strategies follows from its temperature, filter and fresh share.

Suffixes: `_T` types, `_S` strategies (the last one is the shortcut), `_A` answers (right, three
wrong ones, the shortcut's), `_V` votes. Source: Wright 1931 and Taylor & Jonker 1978 for the
dynamics; the regimes are ours, after the failures that `ouroloop.monitors.decision.modes` names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.names import FailureMode

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Zipf's law over 60 types gives the rarest 0.4 % of the data, which is what drift loses first.
NUM_TYPES, NUM_STRATEGIES = 60, 12
SHORTCUT = NUM_STRATEGIES
NUM_WRONG = 3
# A majority is taken over as many votes as a usual round has samples; its chance over 64 polls.
NUM_VOTERS, NUM_POLLS = 16, 64
# Rounds after which a healthy model changes no more.
SETTLING_ROUNDS = 40
# Power that takes shares towards each other; see `flattened`.
FLATTENING = 0.88
PREJUDICED = "prejudiced"
"""A filter that lets one right strategy die; see `Regime.accept`."""


@dataclass(frozen=True)
class Regime:
    """How a round makes the next model.

    Attributes:
        name: what the regime is called.
        mode: the failure mode that it ought to be named; None: healthy.
        temperature: of sampling.
        fresh: share of real data (lambda).
        accept: what is kept of the samples: `all`, `answer` (right ones), `even` (right ones, as
            many of every right strategy's samples), `vote` (those that agree with the majority of
            16), `weak` (a verifier that accepts one wrong strategy per type), `format` (a reward
            that honest samples get with probability `honest`, the shortcut always), `prejudiced`
            (as `even`, but samples of one right strategy only with probability `honest`).
        slips: share of samples that are learnt as any strategy at all.
        honest: see `accept`.
        learn: share of the remaining errors that practice removes in a round.
        narrow: how strongly a type's share of the problems follows its pass rate.
        num_samples: of a round, over all types.
        prior: as many samples of all types together are mixed with every type's own.
        settled: what the healthy rounds before it accept.
        start: `settled`, or `flattened`: more diverse than the real data.
    """

    name: str
    mode: FailureMode | None = None
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
    """What is fixed.

    Attributes:
        weight_T: how often types occur.
        real_TS: how often real data use each strategy.
        right_TS: which strategies are right.
        skill_TS: how surely they are carried out.
    """

    weight_T: Floats
    real_TS: Floats
    right_TS: Bools
    skill_TS: Floats

    @property
    def modal_T(self) -> Ints:
        """Each type's most frequent right strategy."""
        return np.asarray((self.real_TS * self.right_TS).argmax(axis=1))

    @property
    def dying(self) -> int:
        """The strategy that a prejudiced filter kills: the third of all in right answers."""
        # Of the twelve it is one with a tenth of them: no rare one, and none that carries all.
        mass_S = self.weight_T @ (self.real_TS * self.right_TS * self.skill_TS)
        return int(np.argsort(-mass_S)[2])


@dataclass(frozen=True)
class Model:
    """What a round may change.

    Attributes:
        share_TS: shares of strategies.
        skill_TS: skill in carrying them out.
        weight_T: how often types are trained on.
        general: skill in everything else.
        scored: share of the samples that a grader can say right or wrong of.
    """

    share_TS: Floats
    skill_TS: Floats
    weight_T: Floats
    general: float = 1.0
    scored: float = 1.0


def world(rng: np.random.Generator) -> World:
    """A new world.

    A fifth of the real data uses wrong strategies, and a five-hundredth the shortcut, which is
    never right.
    """
    weight_T = 1 / np.arange(1, NUM_TYPES + 1)
    real_TS = np.zeros((NUM_TYPES, NUM_STRATEGIES + 1))
    right_TS = np.zeros((NUM_TYPES, NUM_STRATEGIES + 1), dtype=bool)
    for t in range(NUM_TYPES):
        order, num = rng.permutation(NUM_STRATEGIES), rng.integers(2, 5)
        right_TS[t, order[:num]] = True
        # A usual strategy, and others that are rarer and rarer: rare ones are what is lost first.
        shares = np.array([1.0, 0.6, 0.3, 0.12])[:num] * rng.uniform(0.8, 1.25, num)
        real_TS[t, order[:num]] = 0.798 * shares / shares.sum()
        real_TS[t, order[num : num + 3]] = 0.2 * np.array([0.5, 0.3, 0.2])
    real_TS[:, SHORTCUT] = 0.002
    # Rare types are a little harder.
    rank_T1 = np.linspace(0, 1, NUM_TYPES)[:, None]
    drawn_TS = rng.normal(0.83 - 0.1 * rank_T1, 0.08, right_TS.shape)
    skill_TS = np.clip(drawn_TS, 0.5, 0.95) * right_TS
    return World(weight_T / weight_T.sum(), real_TS, right_TS, skill_TS)


def step(
    model: Model,
    the: World,
    regime: Regime,
    rng: np.random.Generator | None,
) -> Model:
    """One round of self-training; without `rng` its expectation (infinitely many samples)."""
    # What is sampled: the model at a temperature, and of that what the filter keeps.
    there_TS = model.share_TS > 0
    power = 1 / regime.temperature
    drawn_TS = np.where(there_TS, model.share_TS, 1.0) ** power * there_TS
    drawn_TS /= drawn_TS.sum(axis=1, keepdims=True)
    kept_TS = drawn_TS * acceptance(drawn_TS, model, the, regime, rng)
    pass_T = kept_TS.sum(axis=1)
    # Which types it is learnt on: those that are passed often, where the regime narrows.
    right_T = (drawn_TS * model.skill_TS * the.right_TS).sum(axis=1)
    weight_T = np.maximum(model.weight_T * right_T**regime.narrow, 1e-12)
    weight_T /= weight_T.sum()
    own_TS = kept_TS / pass_T[:, None]
    # Finite samples: without fresh data, strategies are lost for ever by chance alone.
    expected_T = np.rint(regime.num_samples * (1 - regime.fresh) * weight_T)
    num_T = np.maximum(expected_T, 1).astype(np.int64)
    if rng is not None:
        own_TS = rng.multinomial(num_T, own_TS) / num_T[:, None]
    fresh = regime.fresh
    # How much of the training set is of each type.
    amount_T = (1 - fresh) * weight_T + fresh * the.weight_T
    mix_T = (fresh * the.weight_T / amount_T)[:, None]
    share_TS = (1 - mix_T) * own_TS + mix_T * the.real_TS
    # A type with little data is filled up from all types together.
    fill_T = (regime.prior / (regime.prior + regime.num_samples * amount_T))[:, None]
    share_TS = (1 - fill_T) * share_TS + fill_T * (amount_T[:, None] * share_TS).sum(axis=0)
    # Slips go to every strategy but the shortcut, which has to be selected to spread.
    slipped_T1 = regime.slips * (1 - share_TS[:, SHORTCUT:]) / NUM_STRATEGIES
    share_TS[:, :SHORTCUT] = (1 - regime.slips) * share_TS[:, :SHORTCUT] + slipped_T1
    # Skill is forgotten where slips are learnt: a filter for right answers keeps them out.
    forgotten_TS = model.skill_TS * (1 - fill_T)
    if regime.accept == "all":
        forgotten_TS = forgotten_TS * (1 - regime.slips * (1 - fresh))
    kept_skill = (1 - fresh) * forgotten_TS + fresh * np.maximum(model.skill_TS, the.skill_TS)
    skill_TS = kept_skill + regime.learn * (1 - kept_skill) * the.right_TS
    general = model.general
    if fresh < HEALTHY.fresh:
        general *= 1 - regime.slips * (1 - fresh)
    return Model(share_TS, skill_TS, weight_T, general)


def acceptance(
    drawn_TS: Floats,
    model: Model,
    the: World,
    regime: Regime,
    rng: np.random.Generator | None,
) -> Floats:
    """P(a sample is kept) for each type and strategy. Training problems are not shifted."""
    right_TS = model.skill_TS * the.right_TS
    strategy_S = np.arange(NUM_STRATEGIES + 1)
    # 0.02: now and then a wrong way leads to the right answer.
    if regime.accept == "answer":
        return np.asarray(np.maximum(right_TS, 0.02))
    if regime.accept in ("even", PREJUDICED):
        right_T1 = (drawn_TS * right_TS).sum(axis=1, keepdims=True)
        even_TS = np.where(the.right_TS, right_T1, 0.02)
        if regime.accept == PREJUDICED:
            even_TS = np.where(strategy_S == the.dying, regime.honest * even_TS, even_TS)
        return np.asarray(even_TS)
    if regime.accept == "format":
        everywhere_TS = np.ones(drawn_TS.shape)
        return np.asarray(np.where(strategy_S == SHORTCUT, everywhere_TS, regime.honest))
    if regime.accept == "weak":
        # The most frequent wrong strategy of each type is the one that the verifier accepts.
        wrong_TS = (drawn_TS * ~the.right_TS)[:, :SHORTCUT]
        loved_TS = wrong_TS.argmax(axis=1)[:, None] == strategy_S
        return np.asarray(np.where(loved_TS, 0.95, 0.9 * right_TS + 0.3 * (1 - right_TS)))
    if regime.accept == "vote":
        answer_TA = answers(drawn_TS, right_TS)
        generator = rng or np.random.default_rng(0)
        polls = generator.multinomial(NUM_VOTERS, np.repeat(answer_TA, NUM_POLLS, axis=0))
        # Less than one vote: ties go to the lower answer, the right one first.
        ahead = np.linspace(0.3, 0, polls.shape[1])
        winner_TV = (polls + ahead).argmax(axis=1).reshape(len(drawn_TS), NUM_POLLS)
        win_TA = (winner_TV[:, :, None] == np.arange(answer_TA.shape[1])).mean(axis=1)
        wrong_TS = win_TA[:, wrong_answer()]
        kept_TS = right_TS * win_TA[:, :1] + (1 - right_TS) * wrong_TS
        # Not 0: a type of which nothing is kept would have no shares.
        return np.asarray(np.maximum(kept_TS, 1e-6))
    return np.ones(drawn_TS.shape)


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


def settled(the: World, healthy: Regime) -> Model:
    """The healthy regime's own equilibrium: where every stream begins."""
    model = Model(the.real_TS, the.skill_TS, the.weight_T)
    for _ in range(SETTLING_ROUNDS):
        # Without chance, and without loss elsewhere: the start is the same for all seeds.
        model = replace(step(model, the, healthy, None), general=1.0)
    return model


def flattened(model: Model, the: World) -> Model:
    """A base model that spreads over the right strategies more evenly than the real data."""
    flat_TS = np.where(the.right_TS, model.share_TS, 0.0) ** FLATTENING * the.right_TS
    total_T1 = (model.share_TS * the.right_TS).sum(axis=1, keepdims=True)
    # Among themselves only: how often a right one is used stays what it was.
    even_TS = flat_TS / flat_TS.sum(axis=1, keepdims=True) * total_T1
    return replace(model, share_TS=np.where(the.right_TS, even_TS, model.share_TS))
