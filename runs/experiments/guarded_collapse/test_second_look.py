"""Falls judged again by fresh samples: where it is asked, what is drawn, and what it changes."""

import asyncio
import math
from collections import Counter

import pytest

from ouroloop.loop.experiments import afterwards, tables
from runs.experiments.guarded_collapse import second_look


def rows(scores, actions, fresh=()):
    """A run's rows; fresh: the fresh measurements of rounds 0, 1, ..."""
    out = [
        {"round": i, "pass_1": s, "tail_pass_k": 0.9, "action": a}
        for i, (s, a) in enumerate(zip(scores, actions, strict=True))
    ]
    for row, value in zip(out, fresh, strict=False):
        row |= {"fresh_pass_1": value, "fresh_tail_pass_k": 0.9}
    return out


CALM = "continue"


def test_a_second_look_is_asked_only_of_rounds_seen_lower_that_a_warning_may_have_missed():
    def asked(scores, *actions):
        return second_look.doubtful(rows(scores, actions))

    assert asked((0.5, 0.49, 0.6, 0.4), CALM, CALM, CALM, CALM) == [1, 3]
    assert asked((0.5, 0.49, 0.6, 0.4), CALM, CALM, CALM, "reinject") == [1]
    assert (
        asked((0.5, 0.49, 0.4, 0.4), CALM, CALM, "rollback", CALM) == []
    )  # one round later is in time
    assert asked((0.5, 0.51, 0.52, 0.4), CALM, CALM, CALM, "halt") == []


def test_fresh_samples_outweigh_what_the_probe_saw_and_are_compared_with_those_of_round_0():
    calm = (CALM,) * 3
    assert second_look.fell(rows((0.55, 0.52, 0.5), calm)) == 1
    assert second_look.fell(rows((0.55, 0.52, 0.5), calm, (0.55, 0.537))) == 2
    assert second_look.fell(rows((0.55, 0.545, 0.55), calm, (0.55, 0.52))) == 1
    assert second_look.fell(rows((0.55, 0.52, 0.55), calm, (0.53, 0.52))).__class__ is float
    assert math.isnan(second_look.fell(rows((0.55, 0.52, 0.55), calm, (0.53, 0.52))))
    assert second_look.below_best(rows((0.5, 0.7, 0.6), calm)) == 2 and math.isnan(
        second_look.fell(rows((0.5, 0.7, 0.6), calm))
    )


@pytest.mark.slow
def test_a_run_that_fell_is_asked_again_and_its_rows_hold_the_new_measurements(
    tmp_path, monkeypatch
):
    from scripted_world import Model, carry, recipe

    monkeypatch.setattr(second_look, "SAMPLES", 960)
    monkeypatch.setattr(afterwards.training, "weight_sync_of", lambda checkpoint, *rest: checkpoint)
    model = Model(skill=lambda number: (0.7, 0.6, 0.6)[number])
    _, path = carry(tmp_path, model, recipe(rounds=2, monitors={"guard": False}))
    monkeypatch.setattr(second_look, "doubtful", lambda run: [2])  # this probe set warns at once
    asked = [2]
    assert all(math.isnan(row["fresh_pass_1"]) for row in second_look.table(path))
    model.engine.requests.clear()
    asyncio.run(second_look.look_again(path, model.engine))
    drawn = len(model.engine.requests)
    assert len(set(Counter(r.id.split("/")[2] for r in model.engine.requests).values())) == 1, (
        "every problem as often"
    )
    found = second_look.table(path)
    assert drawn == 960 * (1 + len(asked))
    assert (
        found[0]["fresh_pass_1"] == pytest.approx(0.7, abs=0.07) and found[0]["fresh_change"] == 0
    )
    after = found[asked[0]]
    assert after["fresh_change_low"] < after["fresh_change"] < after["fresh_change_high"] < 0
    assert (
        after["fresh_change"]
        == pytest.approx(after["fresh_pass_1"] - found[0]["fresh_pass_1"])
        == pytest.approx(-0.1, abs=0.08)
    )
    assert 0.9 < after["fresh_tail_pass_k"] <= found[0]["fresh_tail_pass_k"] + 0.1
    asyncio.run(second_look.look_again(path, model.engine))
    assert len(model.engine.requests) == drawn, "what is there is not drawn again"


@pytest.mark.slow
def test_a_guarded_run_is_not_asked(tmp_path):
    from scripted_world import Model, carry, recipe

    model = Model(skill=lambda number: (0.7, 0.3)[number])
    _, path = carry(tmp_path, model, recipe(rounds=1, monitors={"guard": True}))
    model.engine.requests.clear()
    asyncio.run(second_look.look_again(path, model.engine))
    assert not model.engine.requests


def test_the_first_alarm_is_that_of_any_kind_or_of_those_named():
    run = rows((0.5,) * 4, (CALM, "reinject", CALM, "halt"))
    assert (
        tables.alarmed(run) == 1
        and tables.alarmed(run, "halt") == 3
        and math.isnan(tables.alarmed(run[:1]))
    )
