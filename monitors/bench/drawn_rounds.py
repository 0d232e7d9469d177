"""Rounds of a loop drawn from a world whose problems differ in all that is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, expit, logit

from ouroloop.monitors.base import (
    AuditItems,
    Critics,
    Floats,
    Pool,
    RoundView,
    Samples,
    Texts,
)
from ouroloop.monitors.columns import codes

Ints = NDArray[np.int64]

SHARES = (0.40, 0.25, 0.15, 0.08, 0.06, 0.04, 0.02)
# How often a problem is solved, as a beta distribution: mean 0.55, few problems near 0 or 1, as a
# usual probe set is chosen.
ABILITY = (2.2, 1.8)
EDGE = (0.0, 0.3, -0.2, 0.6, -0.5, 0.1, 0.9)
"""How much likelier than the first each strategy is right, in logits."""
WRONG = (0.55, 0.3, 0.1, 0.05)
"""Shares of the wrong answers: three of the problem's own, and one that every problem has."""
OPENINGS = ("First", "We see that", "Start:", "Take", "Count", "Round up:", "Split")


@dataclass(frozen=True)
class Problems:
    """Problems of the world, as what a model does on them.

    Attributes:
        share_PS: P(strategy).
        right_PS: P(right | strategy).
        nats_P: nats per token.
        cut_P: P(truncated).
        number_P: the number that a problem's texts are about.
        tail_P: whether it is hard.
    """

    share_PS: Floats
    right_PS: Floats
    nats_P: Floats
    cut_P: Floats
    number_P: Ints
    tail_P: NDArray[np.bool_]


def problems(rng: np.random.Generator, num: int) -> Problems:
    """New problems of the world, each with a difficulty, strategies and hesitation of its own."""
    able_P = rng.beta(*ABILITY, num).clip(0.01, 0.99)
    # 10: problems differ visibly in which strategies are used, and yet none has just one.
    share_PS = rng.dirichlet(10 * np.array(SHARES), num)
    right_PS = expit(logit(able_P)[:, None] + EDGE)
    hard_P = able_P < betaincinv(*ABILITY, 0.25)
    return Problems(
        share_PS,
        right_PS,
        rng.gamma(4.0, 0.1, num),
        rng.beta(1, 20, num),
        rng.integers(100, 1_000, num),
        hard_P,
    )


def trained(the: Problems, sharper: float = 1.3, better: float = 0.5) -> Problems:
    """The same problems after a round of training: strategies to a power, and more often right."""
    power_PS = the.share_PS**sharper
    share_PS = power_PS / power_PS.sum(axis=1, keepdims=True)
    return replace(
        the,
        share_PS=share_PS,
        right_PS=expit(logit(the.right_PS) + better),
        nats_P=0.8 * the.nats_P,
    )


def answers(
    rng: np.random.Generator,
    the: Problems,
    num_samples: int,
    family: str,
    named: bool = True,
) -> Samples:
    """Independent samples of every problem; the world's harder quarter is the tail slice."""
    num = len(the.nats_P) * num_samples
    problem_N = np.repeat(np.arange(len(the.nats_P)), num_samples)
    # A strategy is where a uniform number falls among the cumulative shares; rounding may leave
    # their sum below 1.
    above_NS = rng.random(num)[:, None] > the.share_PS.cumsum(axis=1)[problem_N]
    strategy_N = above_NS.sum(axis=1).clip(max=len(SHARES) - 1)
    right_N = rng.random(num) < the.right_PS[problem_N, strategy_N]
    wrong_N = rng.choice(len(WRONG), num, p=WRONG)
    gold_N = 10 * the.number_P[problem_N]
    # The last wrong answer, 7, is the same for every problem: a small shortcut.
    wrongly_N = np.where(wrong_N == len(WRONG) - 1, 7, gold_N + 1 + wrong_N)
    answer_N = np.where(right_N, gold_N, wrongly_N)
    length_N = 10 + 4 * strategy_N + rng.poisson(10, num)
    return Samples(
        problem=_names(family, problem_N),
        family=np.full(num, family, dtype=object),
        slice=np.where(the.tail_P[problem_N], "tail", "typical").astype(object),
        correct=right_N.astype(float),
        valid=(rng.random(num) < np.where(right_N, 0.95 - 0.03 * strategy_N, 0.4)).astype(float),
        strategy=_names("s", strategy_N) if named else np.full(num, None, dtype=object),
        answer=answer_N.astype(str).astype(object),
        nll=the.nats_P[problem_N] * rng.gamma(20.0, 0.05, num),
        num_tokens=length_N.astype(float),
        truncated=(rng.random(num) < the.cut_P[problem_N]).astype(float),
        text=_texts(rng, the.number_P[problem_N], strategy_N, answer_N),
    )


def view(
    rng: np.random.Generator, the: Problems, others: Problems, num_samples: int, number: int
) -> RoundView:
    """A round's whole view.

    Critiques, texts and audit items are as many as its problems; the pool has other problems, two
    for one.
    """
    num = len(the.nats_P)
    probe = answers(rng, the, num_samples, "main")
    rest = answers(rng, others, num_samples, "other", named=False)
    both = Samples(
        **{
            name: np.concatenate([getattr(probe, name), getattr(rest, name)])
            for name in Samples.__dataclass_fields__.keys() - {"approvals"}
        }
    )
    drafts = answers(rng, trained(problems(rng, 2 * num)), 4, "pool")
    critics = _critics(rng, probe.where(np.arange(len(probe)) % num_samples < 2), num)
    audit = _audit(rng, num)
    # Mean 0.4 nats per token, as a small model has on text of its own kind.
    real_P = rng.gamma(4.0, 0.1, num)
    real = Texts(
        _names("real", np.arange(num)),
        real_P * rng.gamma(20, 0.05, num),
        real_P,
        (20 + rng.poisson(20, num)).astype(float),
    )
    return RoundView(
        number,
        both,
        answers(rng, the, 1, "main"),
        critics,
        _pool(rng, drafts) if number else None,
        real,
        audit=audit if number else None,
    )


def _critics(rng: np.random.Generator, judged: Samples, num_problems: int) -> Critics:
    """Two critiques of each problem; the critic likes some problems better than others."""
    num = 2 * num_problems
    liked_P = rng.beta(3, 3, num_problems)
    sure_N = 0.5 * np.repeat(liked_P, 2) + 0.4 * judged.correct + 0.1 * rng.standard_normal(num)
    # The critic's liking differs by problem, so that critiques of one problem go together.
    sure_N = np.clip(sure_N, 0.01, 0.99)
    unreadable_N = rng.random(num) < 0.05
    verdict_N = np.where(unreadable_N, np.nan, (rng.random(num) < sure_N).astype(float))
    return Critics(judged.problem, verdict_N, sure_N, judged.correct, rng.beta(4, 2, num))


def _audit(rng: np.random.Generator, num: int) -> AuditItems:
    """Planted items, every second one right; the filter accepts nine of ten right ones."""
    planted = (np.arange(num) % 2).astype(float)
    without_N = rng.random(num) < 0.05
    accepted_N = (rng.random(num) < np.where(planted == 1, 0.9, 0.1)).astype(float)
    return AuditItems(
        _names("planted", np.arange(num)),
        planted,
        np.where(without_N, np.nan, accepted_N),
    )


def _pool(rng: np.random.Generator, drafts: Samples) -> Pool:
    """A filter that keeps what is right, most of it only when its steps are too."""
    # Three of ten right answers with a wrong step pass, as filters on the answer alone let them.
    kept_N = (drafts.correct == 1) & ((drafts.valid == 1) | (rng.random(len(drafts)) < 0.3))
    reason_N = np.where(kept_N, "", np.where(drafts.correct == 1, "steps", "gold")).astype(object)
    approved_N = (rng.random(len(drafts)) < 0.3 + 0.5 * drafts.correct).astype(float)
    # What is wrong is revised; some problems' critiques are repeated more often than others'.
    problem_N = codes(drafts.problem)[1]
    copied_N = rng.beta(1, 3, problem_N.max() + 1)[problem_N]
    revised_N = drafts.correct == 0
    like_critique_N = np.where(rng.random(len(drafts)) < copied_N, 0.9, 0.1)
    like_draft_N = np.where(rng.random(len(drafts)) < 0.2, 1.0, 0.6)
    return Pool(
        drafts.problem,
        drafts.strategy,
        drafts.answer,
        drafts.correct,
        kept_N,
        reason_N,
        drafts.valid,
        approved_N,
        drafts.text,
        drafts.slice,
        like_critique=np.where(revised_N, like_critique_N, np.nan),
        like_draft=np.where(revised_N, like_draft_N, np.nan),
    )


def _names(kind: str, index_N: Ints) -> NDArray[np.object_]:
    return np.char.add(f"{kind}-", index_N.astype(str)).astype(object)


def _texts(
    rng: np.random.Generator,
    number_N: Ints,
    strategy_N: Ints,
    answer_N: Ints,
) -> NDArray[np.object_]:
    """Two calculations and the answer, worded by the strategy.

    Now and then there is a doubt, rarely a loop at the end.
    """
    doubt_N = rng.random(len(number_N)) < 0.05 + 0.3 * (number_N % 5 == 0)
    loop_N = rng.random(len(number_N)) < 0.01 * (1 + strategy_N)
    columns = (number_N, strategy_N, answer_N, doubt_N, loop_N)
    texts = []
    for number, strategy, answer, doubts, loops in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        first = f"{OPENINGS[strategy]} {number} + {strategy} = {number + strategy}."
        second = f"{'Perhaps' if doubts else 'Then'} {answer - 9} + 9 = {answer}."
        end = f"So {answer} again. " * 30 if loops else f"The answer is {answer}."
        texts.append(f"{first} {second} {end}")
    return np.array(texts, dtype=object)
