import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from simulated_panel import joined, pool, samples, view

from ouroloop.loop.config import MonitorConfig
from ouroloop.monitors.base import Pool, Reading, RoundView
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.estimators.stats import binomial
from ouroloop.monitors.registry import measure_all

PANEL = DecisionRule(main_family="main")


def rounds(num_problems=120, **model):
    """Round 0 and a later round of another model on the same problems."""
    first, second = np.random.default_rng(0), np.random.default_rng(1)
    return view(first, 0, 32, num_problems=num_problems), view(
        second, 1, num_problems=num_problems, **model
    )


def decide(second, first, panel=PANEL, history=()):
    decision = panel.decide(second, first, measure_all(second, first), history)
    json.dumps(decision.details, allow_nan=False)
    return decision


def past(*actions):
    return [SimpleNamespace(round=-9 + i, action=a, details={}) for i, a in enumerate(actions)]


def a_round(number, seed, num_problems=120, num_samples=8, **model):
    return view(
        np.random.default_rng(seed), number, num_samples, num_problems=num_problems, **model
    )


def test_tolerances_have_the_names_and_defaults_of_the_recipe():
    fields = {f.name: f.default for f in dataclasses.fields(DecisionRule)}
    shared = [name for name in MonitorConfig.model_fields if name in fields]
    assert len(shared) == 11
    assert {name: fields[name] for name in shared} == {
        name: MonitorConfig.model_fields[name].default for name in shared
    }


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="alpha"):
        DecisionRule("main", alpha=0)


def test_round_0_continues():
    first, _ = rounds()
    decision = decide(first, None)
    assert decision.action == "continue" and "anchor" in decision.reasons[0]


NAMES = [
    "pass@1",
    "distinct-correct-pair probability",
    "pass@4 of the tail",
    "distinct-correct-pair probability of the tail",
    "rare-strategy mass",
    "over-confidence of majority votes",
    "share of the most repeated wrong answer",
    "pass@1 of the other families",
    "share of unscored samples",
]


def test_an_unchanged_model_continues_and_says_what_lies_nearest_to_its_limit():
    first, second = rounds()
    decision = decide(second, first)
    assert (decision.action, decision.mode) == ("continue", None)
    assert "nearest to its limit" in decision.reasons[0]
    assert (
        [g["name"] for g in decision.details["guards"]]
        == NAMES
        == list(decision.details["factors"]["watch"])
    )
    assert (
        decision.details["halt"]["log_e"]
        < decision.details["halt"]["log_limit"]
        == pytest.approx(-np.log(0.04 * 6 / np.pi**2))
    )


def test_a_better_model_continues_although_it_is_less_diverse_among_all():
    first, second = rounds(accuracy=0.85)
    assert decide(second, first).action == "continue"


def test_silent_loss_of_strategies_rolls_back_as_mode_b_with_numbers_in_the_reasons():
    first, second = rounds(accuracy=0.6, shares=(0.97, 0.01, 0.01, 0.01))
    decision = decide(second, first)
    assert (decision.action, decision.mode) == ("rollback", "B")
    reason = decision.reasons[0]
    guard = next(
        g for g in decision.details["guards"] if g["name"] == "distinct-correct-pair probability"
    )
    assert (
        "HALT: evidence e = 1e" in reason
        and "beyond its tolerance: distinct-correct-pair probability" in reason
    )
    assert (
        f"{guard['before']:.3f} -> {guard['after']:.3f} ({100 * guard['change']:+.0f} %," in reason
        and "tolerated -10 %" in reason
    )
    assert guard["low"] < guard["change"] < guard["high"] < -0.5
    assert not any("pass@1 0." in r for r in decision.reasons)


def test_drift_rolls_back_as_mode_a():
    first, second = rounds(accuracy=0.3)
    decision = decide(second, first)
    assert (decision.action, decision.mode) == ("rollback", "A")
    assert any("pass@1 0." in r and "tolerated -0.010" in r for r in decision.reasons)


def test_one_answer_to_everything_is_mode_c():
    first, second = rounds()
    stuck = (second.probe.family == "main") & (
        np.random.default_rng(2).random(len(second.probe)) < 0.4
    )
    probe = dataclasses.replace(
        second.probe,
        answer=np.where(stuck, "42", second.probe.answer),
        correct=np.where(stuck, 0.0, second.probe.correct),
    )
    decision = decide(dataclasses.replace(second, probe=probe), first)
    assert (decision.action, decision.mode) == ("rollback", "C")


def test_loss_in_the_tail_alone_is_mode_d():
    first, second = rounds()
    tail = (second.probe.family == "main") & (second.probe.slice == "tail")
    probe = dataclasses.replace(
        second.probe, correct=np.where(tail, second.probe.correct * 0.0, second.probe.correct)
    )
    decision = decide(dataclasses.replace(second, probe=probe), first)
    assert (decision.action, decision.mode) == ("rollback", "D")
    assert any("of the tail" in r for r in decision.reasons)


def test_a_loss_in_another_family_is_seen():
    first, second = rounds()
    copy = second.probe.family == "copy"
    probe = dataclasses.replace(second.probe, correct=np.where(copy, 0.0, second.probe.correct))
    decision = decide(dataclasses.replace(second, probe=probe), first)
    assert decision.action == "rollback" and "pass@1 of the other families" in decision.reasons[0]


def test_a_loss_within_the_tolerance_but_beyond_a_quarter_of_it_reinjects():
    first, second = rounds(num_problems=400, accuracy=0.45)
    tolerant = DecisionRule(
        "main",
        accuracy_loss=0.2,
        diversity_loss_share=0.9,
        rare_loss_share=0.9,
        overconfidence_gain=0.9,
    )
    decision = decide(second, first, tolerant)
    assert decision.action == "reinject"
    assert (
        decision.reasons[0].startswith("WATCH: evidence e = ")
        and "beyond 25% of its tolerance" in decision.reasons[0]
    )


def test_a_slow_loss_that_no_round_shows_alone_is_seen_over_rounds():
    first, history = a_round(0, 0, num_samples=32), []
    for number in range(1, 6):
        now = a_round(number, number, accuracy=0.475)
        assert PANEL.decide(now, first).action != "rollback"
        history.append(PANEL.decide(now, first, (), history))
    assert "rollback" in [d.action for d in history]


def test_after_an_action_that_was_carried_out_the_evidence_begins_anew_and_a_recovery_is_shown():
    first = a_round(0, 0, num_samples=32)
    bad = a_round(1, 1, shares=(0.97, 0.01, 0.01, 0.01))
    tolerant = DecisionRule("main", diversity_loss_share=0.3)
    history = [decide(bad, first, tolerant)]
    assert history[0].action == "rollback"
    for number in range(2, 8):
        history.append(tolerant.decide(a_round(number, number), first, (), history))
        assert history[-1].details["halt"]["since"] > 1 and history[-1].action == "continue"
    audit = history[-1].details["audits"][0]
    assert audit["quantity"].startswith("distinct-correct-pair probability") and audit["recovered"]
    assert history[1].details["halt"]["alpha"] == pytest.approx(0.05 * 6 / (2 * np.pi) ** 2)
    assert "back within its tolerance" in history[-1].reasons[0]


def test_a_fall_from_a_later_height_is_seen_when_that_round_was_to_be_an_anchor():
    """Round 1 is better than round 0, round 2 falls back to round 0's level.

    No loss against the start, a large one against the height.
    """
    first, high = (
        a_round(0, 0, num_samples=32, accuracy=0.45),
        a_round(1, 1, num_samples=32, accuracy=0.75),
    )
    back, two = a_round(2, 2, accuracy=0.5), dataclasses.replace(PANEL, num_baselines=2)
    history = [two.decide(high, [first])]
    assert (
        history[0].action == "continue"
        and two.decide(back, [first], (), history).action == "continue"
    )
    decision = two.decide(back, [first, high], (), history)
    assert (decision.action, decision.mode) == ("rollback", "A")
    assert "since round 1" in decision.reasons[0]
    assert set(decision.details["factors"]["halt"]) == {
        *NAMES,
        *(f"{name}, since round 1" for name in NAMES),
    }


def test_an_action_that_was_only_recorded_changes_nothing():
    first = a_round(0, 0, num_samples=32)
    history = []
    for number in range(1, 4):
        decision = decide(
            a_round(number, number, shares=(0.97, 0.01, 0.01, 0.01)), first, history=history
        )
        history.append(
            dataclasses.replace(decision, details={**decision.details, "carried_out": False})
        )
    assert [d.action for d in history] == ["rollback"] * 3 and history[-1].details["halt"][
        "log_e"
    ] > history[0].details["halt"]["log_e"] + 5


def test_growing_over_confidence_is_seen():
    first, second = (
        a_round(i, i, n, accuracy=0.5, spread=0.5, confusion=c)
        for i, n, c in ((0, 400, 40), (1, 400, 1))
    )
    decision = decide(second, first)
    assert len(decision.reasons) == 1
    assert (
        "over-confidence of majority votes" in decision.reasons[0]
        and "tolerated +0.050" in decision.reasons[0]
    )


@pytest.mark.slow
def test_an_under_confident_start_may_become_calibrated():
    first, second = rounds(accuracy=0.9, spread=0.05)
    before, after = (
        next(r for r in measure_all(v, None) if r.name == "calibration/overconfidence@8")
        for v in (first, second)
    )
    assert before.value < -0.2 and after.value > before.value + 0.1
    decision = decide(second, first)
    assert decision.action == "continue"
    guard = next(g for g in decision.details["guards"] if g["name"].startswith("over-confidence"))
    assert guard["before"] == 0.0 and guard["after"] == pytest.approx(after.value, abs=0.05)


def test_used_up_rollbacks_halt_and_the_reason_counts_them():
    first, second = rounds(accuracy=0.3)
    assert (
        decide(second, first, history=past("rollback", "continue", "reinject")).action == "rollback"
    )
    decision = decide(second, first, history=past("rollback", "continue", "rollback"))
    assert decision.action == "halt" and decision.reasons[-1] == "2 of 2 rollbacks are used up"
    assert decide(second, first, DecisionRule("main", max_rollbacks=0)).action == "halt"


def test_a_round_after_a_rollback_starts_with_a_clean_slate():
    first, second = rounds()
    assert decide(second, first, history=past("rollback", "rollback")).action == "continue"


def test_an_error_reading_halts_even_in_round_0():
    first, second = rounds()
    broken = Reading(
        "diversity",
        float("nan"),
        status="error",
        reason="monitor diversity failed in round 1: boom",
    )
    for now, then in ((second, first), (first, None)):
        decision = PANEL.decide(now, then, [broken])
        assert decision.action == "halt" and "boom" in decision.reasons[0]


def test_nothing_kept_halts_with_the_plain_sentence():
    first, second = rounds()
    raw = second.pool
    gold = np.array(["gold"] * 400, dtype=object)
    dead = Pool(raw.problem, raw.strategy, raw.answer, raw.correct, np.zeros(400, dtype=bool), gold)
    decision = decide(dataclasses.replace(second, pool=dead), first)
    assert decision.action == "halt"
    assert decision.reasons == (
        "nothing passes: 0 of 400 samples kept; reasons: gold 400: there is nothing to train on",
    )


def test_a_starving_filter_reinjects():
    first, second = rounds()
    thin = pool(np.random.default_rng(0), 300, 4, kept=0.003)
    decision = decide(dataclasses.replace(second, pool=thin), first)
    assert decision.action == "reinject" and "below 0.02 kept per sample" in decision.reasons[0]


def test_too_few_samples_to_train_on_reinject_where_the_yield_alone_does_not_tell():
    first, second = rounds()
    few = dataclasses.replace(second, pool=pool(np.random.default_rng(0), 20, 4, kept=0.1))
    kept = int(few.pool.kept.sum())
    assert decide(few, first).action == "continue"
    assert decide(few, first, dataclasses.replace(PANEL, min_kept=kept)).action == "continue"
    decision = decide(few, first, dataclasses.replace(PANEL, min_kept=kept + 1))
    assert decision.action == "reinject" and decision.reasons[0].startswith(
        f"{kept} of 80 samples kept, fewer than the {kept + 1}"
    )


def test_a_family_that_vanished_from_the_panel_halts():
    first, second = rounds()
    probe = second.probe.where(second.probe.family != "copy")
    decision = decide(dataclasses.replace(second, probe=probe), first)
    assert (
        decision.action == "halt"
        and "pass@1 of the other families was measured at the anchor" in decision.reasons[0]
    )


def test_what_round_0_could_not_measure_is_named_and_not_guarded():
    blind = [
        dataclasses.replace(
            v, probe=dataclasses.replace(v.probe, strategy=np.full(len(v.probe), None))
        )
        for v in rounds()
    ]
    decision = decide(blind[1], blind[0])
    assert decision.action == "continue"
    pairs = "distinct-correct-pair probability"
    assert set(decision.details["unmeasured"]) == {
        pairs,
        f"{pairs} of the tail",
        "rare-strategy mass",
    }


def test_a_round_with_one_sample_per_problem_goes_on_and_keeps_the_evidence_of_what_needs_more():
    first = a_round(0, 0, num_samples=32)
    fallen = PANEL.decide(a_round(1, 1, shares=(0.8, 0.1, 0.05, 0.05)), first)
    history = [dataclasses.replace(fallen, details={**fallen.details, "carried_out": False})]
    decision = PANEL.decide(a_round(2, 2, num_samples=1), first, (), history)
    pairs = "distinct-correct-pair probability"
    assert (
        decision.details["unmeasured"][pairs]
        == "fewer than two problems have the 2 scored samples that it needs in this round"
    )
    assert (
        "no half to pick the answer on"
        in decision.details["unmeasured"]["share of the most repeated wrong answer"]
    )
    assert {"pass@1", "share of unscored samples"} <= {
        g["name"] for g in decision.details["guards"]
    }
    assert set(decision.details["factors"]["halt"]) == set(NAMES) and not any(
        decision.details["factors"]["halt"][pairs]
    )
    before, after = (d.details["watch"]["by_name"][pairs] for d in (history[0], decision))
    assert after == pytest.approx(before, abs=0.2) and before > 5
    assert decision.details["watch"]["driver"] == history[0].details["watch"]["driver"] == pairs
    assert f"{pairs} (not measured in this round), e = " in decision.reasons[0]


def test_one_sample_per_problem_everywhere_guards_what_one_sample_can_show():
    first, second = (a_round(i, i, num_samples=1) for i in range(2))
    decision = decide(second, first)
    assert decision.action == "continue"
    assert {g["name"] for g in decision.details["guards"]} == {
        "pass@1",
        "pass@1 of the other families",
        "share of unscored samples",
    }
    reason = decision.details["unmeasured"]["over-confidence of majority votes"]
    assert reason == "at most 1 scored sample per problem at the anchor, and 2 are needed"


def healthy_run(seed, num_rounds=6):
    """Actions of a run in which nothing ever changes, with one shared, noisy anchor."""
    rng = np.random.default_rng(seed)

    def one(number, num_samples):
        main = samples(rng, 60, num_samples, problem_seed=seed)
        other = samples(
            rng,
            24,
            num_samples,
            family="other",
            accuracy=0.9,
            problem_seed=seed + 1,
            strategies=None,
        )
        return RoundView(number, joined(main, other))

    first, history = one(0, 32), []
    for number in range(1, num_rounds + 1):
        history.append(PANEL.decide(one(number, 8), first, (), history))
    return [d.action for d in history]


def test_a_few_healthy_runs_are_left_alone():
    assert sum(any(a != "continue" for a in healthy_run(seed)) for seed in range(8)) <= 2


@pytest.mark.slow
def test_no_more_than_alpha_of_runs_in_which_nothing_changes_are_rolled_back():
    """200 runs of 6 rounds at no change.

    Far from the boundary of what is tolerated, so far fewer than alpha.
    """
    runs = [healthy_run(seed) for seed in range(200)]
    assert sum(any(a in ("rollback", "halt") for a in run) for run in runs) <= 4
    assert (
        binomial(sum(any(a != "continue" for a in run) for run in runs), 200).low
        < PANEL.watch_alpha
    )
