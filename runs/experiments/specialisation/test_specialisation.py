"""The arms of the specialisation study, what is read of a round, and its goals on made-up rows."""

import math
from pathlib import Path

import pytest

from ouroloop.loop.experiments import tables
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from ouroloop.loop.views.reader import RoundData
from ouroloop.monitors.base import Reading
from ouroloop.monitors.decision.guarded import QuantityId
from ouroloop.monitors.decision.records import Decision, GuardReading, StreamId, TierEvidence
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.names import Action, Tier
from runs.experiments.specialisation import findings, measure, study

STUDY = study.EXPERIMENT.study


def test_the_arms_have_the_same_teacher_problems_and_training_and_differ_in_real_data_or_guard():
    found = {arm: resolve(STUDY.keys(arm, 1)) for arm in STUDY.arms}
    base = found["replay_0"]
    for recipe in found.values():
        same = {"name": "", "dataset": base.dataset, "monitors": base.monitors}
        assert recipe.model_copy(update=same) == base.model_copy(update=same)
        assert not recipe.sampling.student and recipe.teachers == ("arithmetic/teacher",)
    assert [
        found[arm].dataset.replay_fraction
        for arm in ("replay_0", "replay_10", "replay_30", "guarded")
    ] == [0.0, 0.1, 0.3, 0.0]
    assert [arm for arm in found if found[arm].monitors.guard] == ["guarded"]


def test_one_family_is_practised_all_are_probed_and_real_data_asks_no_held_out_question():
    setting = prepare(resolve(STUDY.keys("replay_30", 0)))
    assert {p.family for p in setting.problems} == {"sum2"}
    assert {p.family for p in setting.probe_set.problems} == {
        "sum2",
        *findings.STRUCTURES,
        *findings.SKILLS,
    }
    assert {p.family for p in setting.demonstrations} == {
        "sum2",
        *findings.STRUCTURES,
        *findings.SKILLS,
    }
    assert not {p.question for p in setting.probe_set.problems} & {
        p.question for p in (*setting.problems, *setting.demonstrations)
    }


LIMIT = 3.0


def decided(action, log_e, change=None, loss=1.5):
    """A round whose rule has this log evidence per quantity; the acting limit is `LIMIT`."""
    reading = Reading(
        Estimand("accuracy/pass@1", "others"),
        0.3,
        0.2,
        0.4,
        "share",
        "up",
        details={"change": change},
    )
    guard = GuardReading(
        quantity=QuantityId.OTHER_FAMILIES,
        baseline=0,
        name="pass@1 of the other families",
        before=0.4,
        after=0.3,
        change=-0.1,
        low=-0.15,
        high=-0.05,
        level=0.95,
        relative=False,
        up_is_better=True,
        num_problems=100,
        tolerance=0.066,
        loss_in_tolerances=loss,
    )
    streams = {StreamId(name): value for name, value in log_e.items()}
    driver = max(streams, key=streams.get) if streams else None
    evidence = TierEvidence(max(log_e.values(), default=0), LIMIT, 0.05, driver, 1, streams)
    # A sentence may name the quantity for any reason: it must not count.
    sentence = f"nearest to its limit: {guard.name}"
    decision = Decision(2, action, (sentence,), evidence={Tier.WATCH: evidence}, guards=(guard,))
    raw = decision.to_json()
    return RoundData(2, Path("run/rounds/002"), "", {}, raw, {"status": "trained"}, {}, (reading,))


def test_the_readings_and_the_loss_of_the_other_families_are_read():
    change = {"value": -0.1, "low": -0.15, "high": -0.05}
    found = measure.general(decided(Action.ROLLBACK, {}, change))
    assert (found["general"], found["change_high"], found["loss_in_tolerances"]) == (
        0.3,
        -0.05,
        1.5,
    )
    assert math.isnan(measure.general(decided(Action.CONTINUE, {}))["change_high"])


@pytest.mark.parametrize(
    ("action", "log_e", "loss", "expected"),
    [
        # It drives the evidence.
        (Action.REINJECT, {"other_families": 4.0, "accuracy": 1.0}, 1.5, 1.0),
        # Another quantity drives it, but its own evidence is enough.
        (Action.REINJECT, {"other_families": 4.0, "accuracy": 5.0}, 1.5, 1.0),
        # Its evidence is from earlier rounds: no loss is left, and another one drives.
        (Action.REINJECT, {"other_families": 4.0, "accuracy": 5.0}, -0.5, 0.0),
        # Another quantity alone calls for the action.
        (Action.REINJECT, {"other_families": 1.0, "accuracy": 5.0}, 1.5, 0.0),
        # No tier acts: a starved training set calls for the action.
        (Action.REINJECT, {"other_families": 2.0, "accuracy": 1.0}, 1.5, 0.0),
        (Action.CONTINUE, {"other_families": 2.0, "accuracy": 1.0}, 1.5, 0.0),
    ],
)
def test_the_loss_counts_as_a_reason_only_where_the_rule_acts_on_its_evidence(
    action, log_e, loss, expected
):
    assert measure.general(decided(action, log_e, loss=loss))["named"] == expected


def run(general, target=(0.5, 0.8, 0.9), named=1, apart=0.0):
    target = (*target[:-1], target[-1] + apart)
    families = (*findings.STRUCTURES, *findings.SKILLS)
    return [
        {
            "round": float(i),
            "pass_1": t,
            "greedy": t,
            "general": g,
            "general_greedy": g,
            "change_high": g - general[0],
            "named": float(i == named),
            "action": "reinject" if i == named else "continue",
            "driver": "x",
            **{f"{family}_pass_1": g for family in families},
        }
        for i, (g, t) in enumerate(zip(general, target, strict=True))
    ]


def test_goals_are_met_or_missed_as_the_rows_say():
    lost = {seed: run((0.4, 0.2, 0.1 + 0.01 * seed), apart=0.001 * seed) for seed in range(3)}
    kept = {
        seed: run((0.4, 0.4, 0.39 + 0.015 * seed), (0.5, 0.8, 0.89), named=9) for seed in range(3)
    }
    found = findings.goals({"replay_0": lost, "replay_30": kept})
    assert [g.met for g in found if g.has_result] == [True] * 6
    assert found[6].found.value == pytest.approx(0.295)
    late = {
        seed: run((0.4, 0.2, 0.1 + 0.01 * seed), named=2, apart=0.001 * seed) for seed in range(3)
    }
    dear = {seed: run((0.4, 0.2, 0.1 - 0.01 * seed), (0.5, 0.8, 0.86)) for seed in range(3)}
    missed = findings.goals({"replay_0": late, "replay_30": dear})
    assert [g.met for g in missed if g.has_result] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert (
        findings.seen(lost[0]),
        findings.named(lost[0]),
        tables.alarmed(kept[0]) != tables.alarmed(kept[0]),
    ) == (1.0, 1.0, True)
    assert "reinject" in "\n".join(findings.notes({"replay_0": lost}))
