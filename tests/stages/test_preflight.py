"""The preflight check: what it blocks, what it adjusts, what it only notes."""

from dataclasses import replace

import numpy as np
import pytest

from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.rows import RoundPlan
from ouroloop.loop.stages.preflight import adjusted, check
from ouroloop.monitors.base import AuditItems, Pool

PLAN = RoundPlan(1, 0, 0, (1.0,), 0.0, None, False, 200)
GOLD, LABELLESS = (
    resolve({"name": "x"}),
    resolve({"name": "x", "filters": {"gold": False, "critic": True}}),
)


def pool(pass_rate, raw_share, answers=None, seed=0, num_problems=200, per_problem=4):
    """A pool of two strategies, `column` with this raw share.

    Each strategy passes the filter at its own rate.
    """
    rng = np.random.default_rng(seed)
    num = num_problems * per_problem
    strategy = np.where(rng.random(num) < raw_share, "column", "jump").astype(object)
    kept = rng.random(num) < np.array([pass_rate[s] for s in strategy])
    problem = np.array([f"p{i // per_problem}" for i in range(num)], dtype=object)
    answer = (
        np.array([f"{i // per_problem}" for i in range(num)], dtype=object)
        if answers is None
        else answers(num, rng)
    )
    return Pool(
        problem,
        strategy,
        answer,
        np.full(num, np.nan),
        kept,
        np.where(kept, "", "critic").astype(object),
    )


def audit(accepted, num=60):
    wrong = [
        AuditItems(
            np.array([f"c{i}" for i in range(num)], dtype=object),
            np.zeros(num),
            (np.arange(num) < accepted * num).astype(float),
        )
    ]
    return wrong[0]


def test_a_filter_without_preference_passes():
    found = check(pool({"column": 0.5, "jump": 0.5}, 0.5), audit(0.1), PLAN, LABELLESS, 0.01)
    assert (found.action, found.reasons, found.replay_fraction) == ("pass", (), 0.0)


def test_a_verifier_that_accepts_what_is_wrong_blocks_training_with_numbers():
    found = check(pool({"column": 0.5, "jump": 0.5}, 0.5), audit(0.8), PLAN, LABELLESS, 0.01)
    assert (
        found.action == "block"
        and "80% of the planted wrong items (at least 68%; tolerated 50%)" in found.reasons[0]
    )
    assert (
        check(pool({"column": 0.5, "jump": 0.5}, 0.5), audit(0.55), PLAN, LABELLESS, 0.01).action
        == "pass"
    ), "no evidence, no block"


def test_an_unverified_strategy_that_would_take_over_raises_the_fresh_share_to_what_holds_it_back():
    found = check(pool({"column": 0.8, "jump": 0.2}, 0.5), audit(0.0), PLAN, LABELLESS, 0.01)
    assert found.action == "adjust" and found.replay_fraction == pytest.approx(
        1 - 0.5 / 0.8, abs=0.05
    )
    assert (
        "'column'" in found.reasons[0]
        and adjusted(PLAN, found, guard=True).replay_fraction == found.replay_fraction
    )
    assert adjusted(PLAN, found, guard=False) == PLAN
    held = check(
        pool({"column": 0.8, "jump": 0.2}, 0.5),
        audit(0.0),
        replace(PLAN, replay_fraction=0.5),
        LABELLESS,
        0.01,
    )
    assert held.action == "pass", "a fresh share of one half holds a ratio of 1.6 back"
    free = check(
        pool({"column": 0.8, "jump": 0.2}, 0.5),
        audit(0.0),
        PLAN,
        LABELLESS,
        0.01,
        by_cluster=True,
    )
    assert free.action == "pass", "a name says nothing of a free text"


def test_a_verified_strategy_is_noted_only():
    found = check(pool({"column": 0.8, "jump": 0.2}, 0.5), audit(0.0), PLAN, GOLD, 0.01)
    assert (found.action, found.replay_fraction) == ("pass", 0.0) and "noted only" in found.reasons[
        0
    ]


def test_a_starving_training_set_is_noted_before_training_and_changes_nothing():
    for recipe in (GOLD, LABELLESS):
        recipe = recipe.model_copy(
            update={"dataset": recipe.dataset.model_copy(update={"min_examples": 1})}
        )
        found = check(pool({"column": 0.004, "jump": 0.004}, 0.5), audit(0.0), PLAN, recipe, 0.01)
        assert (
            found.action == "pass"
            and "below 0.02 kept per sample" in found.reasons[0]
            and found.replay_fraction == 0.0
        )
        assert found.starved
        enough = check(pool({"column": 0.03, "jump": 0.03}, 0.5), audit(0.0), PLAN, recipe, 0.01)
        assert not enough.reasons and not enough.starved


def test_fewer_samples_than_a_training_takes_are_noted_unless_something_makes_up_for_them():
    """A handful of samples, of which any yield is likely.

    Before, such a round trained nothing and no reason was reported.
    """
    few = pool({"column": 0.5, "jump": 0.5}, 0.5, num_problems=6)
    reason = (
        f"{few.kept.sum()} of 24 samples kept, fewer than the 16 that a training takes: the"
        " training set starves"
    )
    for recipe in (
        GOLD,
        resolve({"name": "x", "dataset": {"policy": "accumulate_subsample"}}),
    ):  # which trains on as many as the round kept
        found = check(few, audit(0.0), PLAN, recipe, 0.01)
        assert found.action == "pass" and found.reasons == (reason,) and found.starved
    for dataset in (
        {"min_examples": 5},
        {"gold": True},
        {"policy": "accumulate"},
        {"policy": "accumulate_subsample", "size": 200},
    ):
        recipe = resolve({"name": "x", "dataset": dataset})
        assert not check(few, audit(0.0), PLAN, recipe, 0.01).reasons


def shortcut(num, rng):
    answer = np.array([f"{i // 4}" for i in range(num)], dtype=object)
    answer[rng.random(num) < 0.06] = "42"
    return answer


def test_one_answer_to_many_problems_that_the_filter_likes_is_capped_before_it_spreads():
    """6 % of the samples answer 42 and always pass, the others half of the time.

    The check sees it one round ahead of any probe.
    """
    drawn = pool({"column": 0.5, "jump": 0.5}, 0.5, shortcut)
    drawn = replace(drawn, kept=drawn.kept | (drawn.answer == "42"))
    found = check(drawn, audit(0.0), PLAN, LABELLESS, 0.005)
    assert (
        found.action == "adjust" and found.per_answer == 0.02 and "answer '42'" in found.reasons[0]
    )
    assert check(drawn, audit(0.0), PLAN, LABELLESS, 0.2).per_answer is None, (
        "an answer as common as that from the start is no shortcut"
    )


def test_nothing_kept_is_left_to_the_decision_rule():
    empty = pool({"column": 0.0, "jump": 0.0}, 0.5)
    found = check(empty, None, PLAN, GOLD, float("nan"))
    assert found.action == "pass" and found.starved
