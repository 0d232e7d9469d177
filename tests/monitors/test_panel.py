import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from simulated_panel import joined, pool, samples, view

from loop.config import MonitorConfig
from monitors.base import Pool, Reading, RoundView
from monitors.guards import Quantity
from monitors.panel import Panel
from monitors.registry import measure_all
from monitors.stats import binomial

PANEL = Panel(main_family="main")


def rounds(num_problems=120, **model):
    """Round 0 and a later round of another model on the same problems."""
    first, second = np.random.default_rng(0), np.random.default_rng(1)
    return view(first, 0, num_problems=num_problems), view(second, 1, num_problems=num_problems, **model)


def decide(second, first, panel=PANEL, history=()):
    decision = panel.decide(second, first, measure_all(second, first), history)
    json.dumps(decision.details, allow_nan=False)
    return decision


def past(*actions):
    return [SimpleNamespace(action=a) for a in actions]


def test_tolerances_have_the_names_and_defaults_of_the_recipe():
    fields = {f.name: f.default for f in dataclasses.fields(Panel)}
    for name in ("alpha", "accuracy_loss", "diversity_loss_share", "rare_loss_share", "overconfidence_gain", "min_yield"):
        assert fields[name] == MonitorConfig.model_fields[name].default


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="alpha"):
        Panel("main", alpha=0)


def test_round_0_continues():
    first, _ = rounds()
    decision = decide(first, None)
    assert decision.action == "continue" and "reference" in decision.reasons[0]


def test_an_unchanged_model_continues_and_the_level_is_split_over_quantities_and_rounds():
    first, second = rounds()
    decision = decide(second, first)
    assert (decision.action, decision.mode) == ("continue", None)
    assert "nearest to its limit" in decision.reasons[0]
    names = [g["name"] for g in decision.details["guards"]]
    assert names == ["pass@1 of family main", "pass@1 of family main, slice tail", "pass@1 of family copy",
                     "distinct-correct-pair probability", "rare-strategy mass", "over-confidence of majority votes"]
    assert decision.details["level"] == pytest.approx(0.05 / (7 * 6))


def test_a_better_model_continues_although_it_is_less_diverse_among_all():
    first, second = rounds(accuracy=0.85)
    assert decide(second, first).action == "continue"


def test_silent_loss_of_strategies_rolls_back_as_mode_b_with_numbers_in_the_reasons():
    first, second = rounds(accuracy=0.6, shares=(0.97, 0.01, 0.01, 0.01))
    decision = decide(second, first)
    assert (decision.action, decision.mode) == ("rollback", "B")
    reason = next(r for r in decision.reasons if r.startswith("distinct-correct-pair probability"))
    guard = next(g for g in decision.details["guards"] if g["name"] == "distinct-correct-pair probability")
    assert f"{guard['before']:.3f} -> {guard['after']:.3f} ({100 * guard['change']:+.0f} %, 95 % interval" in reason
    assert "tolerance -10 %: beyond the tolerance (p = " in reason
    assert not any("pass@1" in r for r in decision.reasons)


def test_drift_rolls_back_as_mode_a():
    first, second = rounds(accuracy=0.3)
    decision = decide(second, first)
    assert (decision.action, decision.mode) == ("rollback", "A")
    assert any(r.startswith("pass@1 of family main 0.") and "tolerance -0.020" in r for r in decision.reasons)


def test_one_answer_to_everything_is_mode_c():
    first, second = rounds()
    stuck = (second.probe.family == "main") & (np.random.default_rng(2).random(len(second.probe)) < 0.4)
    probe = dataclasses.replace(
        second.probe, answer=np.where(stuck, "42", second.probe.answer), correct=np.where(stuck, 0.0, second.probe.correct))
    decision = decide(dataclasses.replace(second, probe=probe), first)
    assert (decision.action, decision.mode) == ("rollback", "C")


def test_loss_in_the_tail_alone_is_mode_d():
    first, second = rounds()
    tail = (second.probe.family == "main") & (second.probe.slice == "tail")
    probe = dataclasses.replace(second.probe, correct=np.where(tail, second.probe.correct * 0.0, second.probe.correct))
    decision = decide(dataclasses.replace(second, probe=probe), first)
    assert (decision.action, decision.mode) == ("rollback", "D")
    assert any("slice tail" in r for r in decision.reasons)


def test_a_loss_in_another_family_is_seen():
    first, second = rounds()
    copy = second.probe.family == "copy"
    probe = dataclasses.replace(second.probe, correct=np.where(copy, 0.0, second.probe.correct))
    decision = decide(dataclasses.replace(second, probe=probe), first)
    assert decision.action == "rollback" and decision.reasons[0].startswith("pass@1 of family copy")


def test_a_clear_loss_within_the_tolerance_reinjects():
    first, second = rounds(num_problems=400, accuracy=0.43)
    tolerant = Panel("main", accuracy_loss=0.15, diversity_loss_share=0.9, rare_loss_share=0.9, overconfidence_gain=0.9)
    decision = decide(second, first, tolerant)
    assert decision.action == "reinject"
    assert any("clearly worse than round 0" in r for r in decision.reasons)


def test_growing_over_confidence_is_seen():
    first = view(np.random.default_rng(0), 0, num_problems=120, accuracy=0.5, spread=0.5, confusion=40)
    second = view(np.random.default_rng(1), 1, num_problems=120, accuracy=0.5, spread=0.5, confusion=1)
    decision = decide(second, first)
    assert len(decision.reasons) == 1
    reason = next(r for r in decision.reasons if r.startswith("over-confidence"))
    assert "tolerance +0.050" in reason


def test_an_under_confident_start_may_become_calibrated():
    first, second = rounds(accuracy=0.9, spread=0.05)
    before, after = (next(r for r in measure_all(v, None) if r.name == "calibration/overconfidence") for v in (first, second))
    assert before.value < -0.2 and after.value > before.value + 0.1
    decision = decide(second, first)
    assert decision.action == "continue"
    guard = next(g for g in decision.details["guards"] if g["name"].startswith("over-confidence"))
    assert guard["before"] == 0.0 and guard["after"] == pytest.approx(after.value, abs=0.05)


def test_used_up_rollbacks_halt_and_the_reason_counts_them():
    first, second = rounds(accuracy=0.3)
    assert decide(second, first, history=past("rollback", "continue", "reinject")).action == "rollback"
    decision = decide(second, first, history=past("rollback", "continue", "rollback"))
    assert decision.action == "halt" and decision.reasons[-1] == "2 of 2 rollbacks are used up"
    assert decide(second, first, Panel("main", max_rollbacks=0)).action == "halt"


def test_a_round_after_a_rollback_starts_with_a_clean_slate():
    first, second = rounds()
    assert decide(second, first, history=past("rollback", "rollback")).action == "continue"


def test_an_error_reading_halts_even_in_round_0():
    first, second = rounds()
    broken = Reading("diversity", float("nan"), status="error", reason="monitor diversity failed in round 1: boom")
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
    assert decision.reasons == ("nothing passes: 0 of 400 samples kept; reasons: gold 400: there is nothing to train on",)


def test_a_starving_filter_reinjects():
    first, second = rounds()
    thin = pool(np.random.default_rng(0), 300, 4, kept=0.003)
    decision = decide(dataclasses.replace(second, pool=thin), first)
    assert decision.action == "reinject" and "below 0.02 kept per sample" in decision.reasons[0]


def test_a_family_that_vanished_from_the_panel_halts():
    first, second = rounds()
    probe = second.probe.where(second.probe.family != "copy")
    decision = decide(dataclasses.replace(second, probe=probe), first)
    assert decision.action == "halt" and "pass@1 of family copy was measured at round 0" in decision.reasons[0]


def test_what_round_0_could_not_measure_is_named_and_not_guarded():
    blind = [
        dataclasses.replace(v, probe=dataclasses.replace(v.probe, strategy=np.full(len(v.probe), None))) for v in rounds()
    ]
    decision = decide(blind[1], blind[0])
    assert decision.action == "continue"
    assert set(decision.details["unmeasured"]) == {"distinct-correct-pair probability", "rare-strategy mass"}
    assert decision.details["num_tests"] == 7


def test_two_problems_that_flip_are_no_alarm():
    flip = Quantity("x", {"a": 0.0, "b": 0.0}, {"a": 1.0, "b": 1.0}, 0.02, "").guard()
    assert flip.worse == 1.0 and flip.tier(0.05 / 42, 0.5) == "ok"


def healthy_run(seed, num_rounds=6):
    """Actions of a run in which nothing ever changes, with one shared, noisy round 0."""
    rng = np.random.default_rng(seed)

    def one(number):
        main = samples(rng, 60, 8, problem_seed=seed)
        other = samples(rng, 24, 8, family="other", accuracy=0.9, problem_seed=seed + 1, strategies=None)
        return RoundView(number, joined(main, other))

    first = one(0)
    return [PANEL.decide(one(r), first, []).action for r in range(1, num_rounds + 1)]


def test_a_few_healthy_runs_are_left_alone():
    assert sum(any(a != "continue" for a in healthy_run(seed)) for seed in range(8)) <= 2


@pytest.mark.slow
def test_false_alarms_stay_within_alpha_over_whole_runs():
    """200 runs of 6 rounds at no change: any action but "continue" in at most alpha of them, up to the noise of 200 runs."""
    alarms = sum(any(a != "continue" for a in healthy_run(seed)) for seed in range(200))
    assert binomial(alarms, 200).low < PANEL.alpha
    assert alarms <= 16
