"""The order of rows changes no verdict; copies and samples that lose their verdict are seen."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
from simulated_panel import samples, view

from ouroloop.monitors.base import RoundView
from ouroloop.monitors.decision import tables
from ouroloop.monitors.decision.copies import copies
from ouroloop.monitors.decision.guarded import QuantityId
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.estimators.order import permuted
from ouroloop.monitors.names import Tier

RULE = DecisionRule("main")


def rows_in(order_N, view):
    return dataclasses.replace(view, probe=view.probe.where(order_N))


def orders(probe):
    """Rejected first, kept first, shuffled, backwards."""
    rng = np.random.default_rng(9)
    return {
        "rejected first": np.argsort(probe.correct, kind="stable"),
        "right first": np.argsort(-probe.correct, kind="stable"),
        "shuffled": rng.permutation(len(probe)),
        "backwards": np.arange(len(probe))[::-1],
    }


def test_no_order_of_the_rows_changes_anything_of_a_decision():
    first, second = (view(np.random.default_rng(i), i, 8 if i else 32) for i in range(2))
    expected = RULE.decide(second, first)
    for name in orders(first.probe):
        now, then = (rows_in(orders(v.probe)[name], v) for v in (second, first))
        assert RULE.decide(now, then) == expected, name


@pytest.mark.parametrize("seed", range(2))
def test_rows_filed_rejected_first_leave_an_unchanged_model_alone(seed, monkeypatch):
    """Rare strategies are picked on the baseline's first half and measured on its second.

    The second half then holds all the right samples.
    """
    sizes = {0: 64, 1: 16}
    first, second = (
        view(np.random.default_rng([seed, i]), i, num, num_problems=120, accuracy=0.6)
        for i, num in sizes.items()
    )
    now, then = (rows_in(orders(v.probe)["rejected first"], v) for v in (second, first))
    decision = RULE.decide(now, then)
    assert decision.action == "continue" and decision.evidence[Tier.WATCH].log_e < 0
    monkeypatch.setattr(tables, "shuffled", lambda table: table)
    assert RULE.decide(now, then).evidence[Tier.WATCH].log_e > 20, (
        "in the file's own order it is WATCH at e = 1e8 or more"
    )


def test_a_permutation_keeps_problems_together_and_depends_on_content_alone():
    problem_N = np.array([1, 0, 1, 0, 1, 1])
    content_N = np.array([0.0, np.nan, 2.0, 3.0, 2.0, np.nan])
    order_N = permuted(problem_N, content_N)
    assert sorted(order_N) == list(range(6)) and problem_N[order_N].tolist() == [0, 0, 1, 1, 1, 1]
    for other in itertools.permutations(range(6)):
        at = np.array(other)
        again_N = permuted(problem_N[at], content_N[at])
        assert np.array_equal(content_N[at][again_N], content_N[order_N], equal_nan=True)
    assert permuted(np.zeros(0, int), np.zeros(0)).shape == (0,)


@pytest.mark.slow
def test_every_order_of_a_problems_samples_is_as_likely_as_any_other():
    """Two right of four, beside other problems that differ.

    All six places occur equally often (6,000 probe sets, chi-square 5 df, p = 1e-4).
    """
    rng, seen = np.random.default_rng(0), Counter()
    problem_N = np.repeat(np.arange(11), [4] + [12] * 10)
    for _ in range(6000):
        right_N = np.concatenate([[1, 1, 0, 0], rng.integers(0, 2, 120)])
        order_N = permuted(problem_N, right_N)
        seen[tuple(right_N[order_N][:4].tolist())] += 1
    assert len(seen) == 6 and sum((n - 1000) ** 2 / 1000 for n in seen.values()) < 25.7


def test_a_baseline_keeps_its_order_in_every_round():
    """Its rare strategies are picked on one half and measured on the other.

    The same halves whatever a round holds.
    """
    first = samples(np.random.default_rng(0), 30, 32)
    found = [
        tables.pair(first, samples(np.random.default_rng(i), 30, 8, confusion=i + 2))[0]
        for i in range(1, 4)
    ]
    for table in found[1:]:
        assert (table.right_PK == found[0].right_PK).all()
        assert (table.strategy_PK == found[0].strategy_PK).all()


def test_wrong_samples_that_lose_their_verdict_are_a_loss_and_the_sentence_says_which():
    """True accuracy falls to .30 and every wrong sample is filed as unscored.

    The scored ones are all right.
    """
    first = view(np.random.default_rng(0), 0, 32, num_problems=120, accuracy=0.67)
    second = view(np.random.default_rng(1), 1, 8, num_problems=120, accuracy=0.30)
    probe = dataclasses.replace(
        second.probe,
        correct=np.where(second.probe.correct == 1, 1.0, np.nan),
    )
    decision = RULE.decide(dataclasses.replace(second, probe=probe), first)
    assert decision.action == "rollback" and "share of unscored samples 0.000 -> 0." in " ".join(
        decision.reasons
    )
    guard = next(g for g in decision.guards if g.quantity == QuantityId.UNSCORED)
    assert guard.after == pytest.approx(np.isnan(probe.correct).mean(), abs=0.03)
    assert guard.loss_in_tolerances > 30


@pytest.mark.slow
@pytest.mark.parametrize("unscored", [0.0, 0.1])
def test_a_share_of_unscored_samples_that_stays_as_it_is_is_no_loss(unscored):
    def with_gaps(number):
        rng = np.random.default_rng(number)
        seen = view(rng, number, 8 if number else 32, num_problems=120)
        correct = np.where(rng.random(len(seen.probe)) < unscored, np.nan, seen.probe.correct)
        return dataclasses.replace(seen, probe=dataclasses.replace(seen.probe, correct=correct))

    history = []
    for number in range(1, 5):
        history.append(RULE.decide(with_gaps(number), with_gaps(0), (), history))
    assert {d.action for d in history} == {"continue"}


def test_problems_that_the_baseline_never_scored_are_not_counted_as_unscored():
    first, second = (samples(np.random.default_rng(i), 10, 4) for i in range(2))
    first, second = (
        dataclasses.replace(s, correct=np.where(s.problem == "main-0003", np.nan, s.correct))
        for s in (first, second)
    )
    then, now = tables.judged(first, second)
    assert len(then.problems) == 9 and "main-0003" not in then.problems
    assert then.right_PK.all() and now.right_PK.all() and now.there_PK.sum() == 36


def test_copied_rows_are_named_and_what_they_are_worth():
    probe = samples(np.random.default_rng(0), 30, 8)
    assert copies(probe, 3) == ""
    twice = probe.where(np.repeat(np.arange(len(probe)), 2))
    assert copies(twice, 3).startswith(
        "round 3: every distinct sample occurs 2 times"
    ) and "480 rows are worth 240" in copies(twice, 3)
    mixed = twice.where(np.random.default_rng(1).permutation(len(twice)))
    decision = RULE.decide(RoundView(1, mixed), RoundView(0, probe))
    assert decision.reasons[-1] == copies(twice, 1)


def test_one_answer_copied_for_every_problem_is_named():
    greedy = samples(np.random.default_rng(0), 30, 1)
    assert copies(greedy, 0) == ""
    said = copies(greedy.where(np.repeat(np.arange(30), 8)), 0)
    assert "all samples of each problem are the same" in said and "240 rows are worth 30" in said


def test_equal_samples_that_came_up_by_themselves_are_not_called_copies():
    """Samples of a model with few texts; nothing else distinguishes them."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        probe = samples(rng, 30, 8)
        blank = np.full(len(probe), np.nan)
        text = np.array([f"{p}{rng.integers(2)}" for p in probe.problem], dtype=object)
        alike = dataclasses.replace(
            probe,
            text=text,
            correct=np.ones(len(probe)),
            valid=blank,
            nll=blank,
            num_tokens=blank,
            truncated=blank,
            strategy=np.full(len(probe), None),
            answer=np.full(len(probe), None),
        )
        assert copies(alike, 0) == ""
    nothing = dataclasses.replace(alike, text=np.full(len(probe), "", dtype=object))
    assert copies(nothing, 0) == "", "without texts nothing is known"
