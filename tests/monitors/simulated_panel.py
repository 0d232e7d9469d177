"""Probe samples drawn from models whose truth is known.

Per problem, a joint table of P(strategy, right).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ouroloop.monitors.base import (
    AuditItems,
    Critics,
    Judgements,
    Pool,
    RoundView,
    Samples,
    Texts,
    Traces,
)

STRATEGIES = ("column", "split", "round", "jump")
SHARES = (0.45, 0.30, 0.17, 0.08)


def samples(
    rng: np.random.Generator,
    num_problems: int = 60,
    num_samples: int = 8,
    shares: tuple[float, ...] = SHARES,
    accuracy: float = 0.55,
    family: str = "main",
    spread: float = 0.2,
    problem_seed: int = 1,
    strategies: tuple[str, ...] | None = STRATEGIES,
    tail: float = 0.25,
    confusion: int = 3,
) -> Samples:
    """Independent samples; `problem_seed` fixes the problems, so two calls can share them.

    A wrong answer is one of `confusion` wrong ones of its problem. Tail problems (the last `tail`
    share) are harder by `spread`.
    """
    fixed = np.random.default_rng(problem_seed)
    difficulty_P = np.clip(accuracy + spread * fixed.uniform(-1, 1, num_problems), 0.0, 1.0)
    num = num_problems * num_samples
    problem_N = np.repeat(np.arange(num_problems), num_samples)
    strategy_N = rng.choice(len(shares), size=num, p=np.array(shares) / sum(shares))
    correct = (rng.random(num) < difficulty_P[problem_N]).astype(float)
    wrong_N = rng.integers(1, confusion + 1, num)
    answer = [
        f"{100 * p}" if c else f"{100 * p + w}"
        for p, c, w in zip(problem_N, correct, wrong_N, strict=True)
    ]
    tokens = rng.integers(10, 40, num).astype(float)
    names = np.array([f"{family}-{p:04d}" for p in range(num_problems)], dtype=object)
    return Samples(
        problem=names[problem_N],
        family=np.array([family] * num, dtype=object),
        slice=np.where(problem_N >= (1 - tail) * num_problems, "tail", "typical").astype(object),
        correct=correct,
        valid=np.where(rng.random(num) < 0.1, 0.0, 1.0),
        strategy=np.array(
            [None if strategies is None else strategies[s] for s in strategy_N],
            dtype=object,
        ),
        answer=np.array(answer, dtype=object),
        nll=rng.gamma(4.0, 0.1, num),
        num_tokens=tokens,
        truncated=(rng.random(num) < 0.02).astype(float),
        text=np.array(
            [
                worked(int(p), int(s), a, i)
                for i, (p, s, a) in enumerate(zip(problem_N, strategy_N, answer, strict=True))
            ],
            dtype=object,
        ),
    )


def worked(problem: int, strategy: int, answer: str, number: int) -> str:
    """A solution of two calculations that ends in the answer.

    Some are equal, others differ in words or numbers.
    """
    first, opening = (
        3 + (7 * problem + strategy) % 50,
        ("First", "We see that", "Start:", "Take")[number % 4],
    )
    total = int(answer)
    return (
        f"{opening} {first} + {strategy + 2} = {first + strategy + 2}. Then {total - 9} + 9 ="
        f" {total}. The answer is {total}."
    )


def joined(*parts: Samples) -> Samples:
    """Rows of all parts."""
    return Samples(
        **{
            name: np.concatenate([getattr(p, name) for p in parts])
            for name in Samples.__dataclass_fields__.keys() - {"approvals"}
        }
    )


def critics(rng: np.random.Generator, num_problems: int = 60, per_problem: int = 2) -> Critics:
    """A critic that is right in 80 % and reads its probability accordingly.

    5 % of its verdicts are unreadable.
    """
    num = num_problems * per_problem
    correct = (rng.random(num) < 0.5).astype(float)
    probability = np.clip(np.where(correct == 1, 0.75, 0.25) + 0.2 * rng.standard_normal(num), 0, 1)
    approved = np.where(rng.random(num) < 0.05, np.nan, (probability > 0.5).astype(float))
    problem = np.array([f"main-{i // per_problem:04d}" for i in range(num)], dtype=object)
    return Critics(problem, approved, probability, correct, np.clip(probability + 0.1, 0, 1))


def pool(
    rng: np.random.Generator,
    num_problems: int = 100,
    per_problem: int = 4,
    kept: float = 0.4,
) -> Pool:
    """A training pool with a filter that keeps at random.

    Half of it is right, and its last quarter of problems is the tail slice.
    """
    num = num_problems * per_problem
    chosen = rng.random(num) < kept
    reason = np.where(chosen, "", rng.choice(["gold", "format", "duplicates"], num)).astype(object)
    strategy = rng.choice(np.array(STRATEGIES, dtype=object), num)
    problem_N = np.arange(num) // per_problem
    problem = np.array([f"train-{p}" for p in problem_N], dtype=object)
    more = np.random.default_rng(num)
    correct = (more.random(num) < 0.5).astype(float)
    approved = np.where(
        more.random(num) < 0.1,
        np.nan,
        (more.random(num) < 0.4 + 0.3 * correct).astype(float),
    )
    text = np.array(
        [
            worked(int(p), STRATEGIES.index(s), "47", i)
            for i, (p, s) in enumerate(zip(problem_N, strategy, strict=True))
        ],
        dtype=object,
    )
    part = np.where(problem_N >= 0.75 * num_problems, "tail", "typical").astype(object)
    answer = np.array(["1"] * num, dtype=object)
    # Every second sample was revised, one in eight of those into its critique.
    revised = np.arange(num) % 2 == 0
    like_critique = np.where(revised, more.beta(1.0, 3.0, num), np.nan)
    like_draft = np.where(revised, np.minimum(1.0, more.beta(3.0, 1.0, num) * 1.1), np.nan)
    return Pool(
        problem,
        strategy,
        answer,
        correct,
        chosen,
        reason,
        (more.random(num) < 0.9).astype(float),
        approved,
        text,
        part,
        like_critique=like_critique,
        like_draft=like_draft,
    )


def texts(rng: np.random.Generator, num_problems: int = 40, per_problem: int = 2) -> Texts:
    """Real solutions, with entropies of about 0.4 and surprises of about 0.5 nats per token."""
    num = num_problems * per_problem
    problem = np.array([f"real-{i // per_problem:03d}" for i in range(num)], dtype=object)
    return Texts(
        problem,
        rng.gamma(5.0, 0.1, num),
        rng.gamma(4.0, 0.1, num),
        rng.integers(10, 40, num).astype(float),
    )


def traces(rng: np.random.Generator, num_problems: int = 40) -> Traces:
    """Two answers by each of two strategies, of about 6 nats."""
    rows = [(p, s, a) for p in range(num_problems) for s in range(2) for a in range(2)]
    num = len(rows)
    constant = np.array(["main"] * num, dtype=object), np.array(["typical"] * num, dtype=object)
    return Traces(
        np.array([f"main-{p:04d}" for p, _, _ in rows], dtype=object),
        *constant,
        np.array([f"s{s}" for _, s, _ in rows], dtype=object),
        np.full(num, 0.3),
        np.array([f"answer {s} {a}" for _, s, a in rows], dtype=object),
        -rng.gamma(12.0, 0.5, num),
        np.full(num, 20.0),
    )


def audit_items(
    rng: np.random.Generator,
    num: int = 200,
    accepts_wrong: float = 0.05,
    accepts_right: float = 0.9,
) -> AuditItems:
    """Planted items, half of them right, one for each problem; 2 % get no verdict."""
    right = (np.arange(num) % 2).astype(float)
    accepted = (rng.random(num) < np.where(right == 1, accepts_right, accepts_wrong)).astype(float)
    problem = np.array([f"planted-{i:04d}" for i in range(num)], dtype=object)
    return AuditItems(problem, right, np.where(rng.random(num) < 0.02, np.nan, accepted))


def judgements(
    rng: np.random.Generator,
    num_problems: int = 30,
    approved: float = 0.7,
    num_items: int = 40,
    skill: float = 0.9,
) -> Judgements:
    """Two answers of each problem under two criteria, of which one has two principles; then items.

    An answer is approved with probability `approved`, an item of known truth judged as it deserves
    with probability `skill`.
    """
    criteria = {"harmless": ("privacy", "selling"), "helpful": ("check",)}
    rows = []
    for i in range(2 * num_problems):
        for criterion, principles in criteria.items():
            principle = principles[i % len(principles)]
            said = float(rng.random() < approved)
            rows.append((f"main-{i // 2:04d}", "main", criterion, principle, said, np.nan))
    for i in range(num_items):
        truth = float(i % 2)
        said = truth if rng.random() < skill else 1 - truth
        rows.append((f"item{i}", "", "harmless", "privacy", said, truth))
    problem, family, criterion, principle, said, truth = zip(*rows, strict=True)
    objects = (np.array(each, dtype=object) for each in (problem, family, criterion, principle))
    return Judgements(*objects, np.array(said), np.array(truth), np.full(len(rows), 50.0))


def view(
    rng: np.random.Generator, number: int = 1, num_samples: int = 8, **model: Any
) -> RoundView:
    """A whole round: a main family, a second one without strategies, greedy answers, critics.

    Also real texts and, after round 0, a pool and audit items.
    """
    copy: dict[str, Any] = {
        "num_problems": 12,
        "family": "copy",
        "accuracy": 0.8,
        "strategies": None,
        "problem_seed": 2,
    }
    probe = joined(
        samples(rng, num_samples=num_samples, **model),
        samples(rng, num_samples=num_samples, **copy),
    )
    greedy = joined(samples(rng, num_samples=1, **model), samples(rng, num_samples=1, **copy))
    judged, drawn = critics(rng), pool(rng) if number else None
    other = np.random.default_rng(100 + number)
    return RoundView(
        number,
        probe,
        greedy,
        judged,
        drawn,
        texts(other),
        audit_items(other) if number else None,
        judgements(other),
        dropped=drawn.problem[:3] if drawn is not None else None,
        traces=traces(other),
    )


def objects(values: Iterable[object]) -> Any:
    """The values as an array of objects, whatever they are."""
    values = list(values)
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out
