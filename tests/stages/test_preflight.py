"""The preflight check: what it blocks, what it adjusts, what it only notes."""

from dataclasses import replace

import numpy as np
import pytest

from ouroloop.loop.recipe_file import resolve
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
    said = check(pool({"column": 0.5, "jump": 0.5}, 0.5), audit(0.1), PLAN, LABELLESS, 0.01)
    assert (said.action, said.reasons, said.replay_fraction) == ("pass", (), 0.0)


def test_a_verifier_that_accepts_what_is_wrong_blocks_training_with_numbers():
    said = check(pool({"column": 0.5, "jump": 0.5}, 0.5), audit(0.8), PLAN, LABELLESS, 0.01)
    assert (
        said.action == "block"
        and "80% of the planted wrong items (at least 68%; tolerated 50%)" in said.reasons[0]
    )
    assert (
        check(pool({"column": 0.5, "jump": 0.5}, 0.5), audit(0.55), PLAN, LABELLESS, 0.01).action
        == "pass"
    ), "no evidence, no block"


def test_an_unverified_strategy_that_would_take_over_raises_the_fresh_share_to_what_holds_it_back():
    said = check(pool({"column": 0.8, "jump": 0.2}, 0.5), audit(0.0), PLAN, LABELLESS, 0.01)
    assert said.action == "adjust" and said.replay_fraction == pytest.approx(
        1 - 0.5 / 0.8, abs=0.05
    )
    assert (
        "'column'" in said.reasons[0]
        and adjusted(PLAN, said, guard=True).replay_fraction == said.replay_fraction
    )
    assert adjusted(PLAN, said, guard=False) == PLAN
    held = check(
        pool({"column": 0.8, "jump": 0.2}, 0.5),
        audit(0.0),
        replace(PLAN, replay_fraction=0.5),
        LABELLESS,
        0.01,
    )
    assert held.action == "pass", "a fresh share of one half holds a ratio of 1.6 back"


def test_a_verified_strategy_is_noted_only():
    said = check(pool({"column": 0.8, "jump": 0.2}, 0.5), audit(0.0), PLAN, GOLD, 0.01)
    assert (said.action, said.replay_fraction) == ("pass", 0.0) and "noted only" in said.reasons[0]


def test_a_starving_training_set_is_noted_before_training_and_changes_nothing():
    for recipe in (GOLD, LABELLESS):
        recipe = recipe.model_copy(
            update={"dataset": recipe.dataset.model_copy(update={"min_examples": 1})}
        )
        said = check(pool({"column": 0.004, "jump": 0.004}, 0.5), audit(0.0), PLAN, recipe, 0.01)
        assert (
            said.action == "pass"
            and "below 0.02 kept per sample" in said.reasons[0]
            and said.replay_fraction == 0.0
        )
        assert not check(
            pool({"column": 0.03, "jump": 0.03}, 0.5), audit(0.0), PLAN, recipe, 0.01
        ).reasons


def test_fewer_samples_than_a_training_takes_are_noted_unless_something_makes_up_for_them():
    """A handful of samples, of which any yield is likely.

    Before, such a round trained nothing and nobody said why.
    """
    few = pool({"column": 0.5, "jump": 0.5}, 0.5, num_problems=6)
    told = (
        f"{few.kept.sum()} of 24 samples kept, fewer than the 16 that a training takes: the"
        " training set starves"
    )
    for recipe in (
        GOLD,
        resolve({"name": "x", "dataset": {"policy": "accumulate_subsample"}}),
    ):  # which trains on as many as the round kept
        said = check(few, audit(0.0), PLAN, recipe, 0.01)
        assert said.action == "pass" and said.reasons == (told,)
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
    """6 % of the samples say 42 and always pass, the others half of the time.

    One round ahead of any probe.
    """
    found = pool({"column": 0.5, "jump": 0.5}, 0.5, shortcut)
    found = replace(found, kept=found.kept | (found.answer == "42"))
    said = check(found, audit(0.0), PLAN, LABELLESS, 0.005)
    assert said.action == "adjust" and said.per_answer == 0.02 and "answer '42'" in said.reasons[0]
    assert check(found, audit(0.0), PLAN, LABELLESS, 0.2).per_answer is None, (
        "an answer as common as that from the start is no shortcut"
    )


def test_nothing_kept_is_for_the_decision_rule_to_say():
    empty = pool({"column": 0.0, "jump": 0.0}, 0.5)
    assert check(empty, None, PLAN, GOLD, float("nan")).action == "pass"
