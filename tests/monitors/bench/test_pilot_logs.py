"""Four logged loops of a small language model under the rule.

One drifts, two lose strategies, one is healthy.
"""

import json

import pytest

from ouroloop.monitors.bench import pilot

SHARES = pilot.SHARES


def alarms(loop, baseline=0, rule="exact"):
    """(rounds of the alarm, drivers) at the tolerance, a half and a quarter of it."""
    if not (pilot.DATA / "pilot" / f"lm_{loop}_0.json").exists():
        pytest.skip(f"needs {pilot.DATA}/pilot: set OUROLOOP_DATA to the folder that holds pilot/")
    found = [pilot.one(rule, loop, baseline, share) for share in SHARES]
    return [a.alarm for a in found], {a.driver for a in found}


@pytest.mark.parametrize("baseline", [0, 2])
def test_the_healthy_loop_never_alarms(baseline):
    assert alarms("healthy", baseline) == ([0, 0, 0], {""})


def test_the_drifting_loop_alarms_on_accuracy_in_its_second_round():
    assert alarms("replace") == ([2, 2, 2], {"id_acc"})


def test_the_sharpening_loop_alarms_on_pairs_long_before_its_accuracy_recovers():
    rounds, drivers = alarms("sharpen")
    assert rounds == [3, 3, 3] and "id_dcp" in drivers
    assert pilot.one("exact", "sharpen", 0, 0.25).driver == "id_dcp"


def test_the_verified_loop_alarms_on_the_tails_pairs_although_accuracy_only_rises():
    for baseline, latest in ((0, 8), (2, 7)):
        rounds, drivers = alarms("verify", baseline)
        assert (
            drivers == {"tail_dcp"}
            and 0 < max(rounds) <= latest
            and rounds == sorted(rounds, reverse=True)
        )


@pytest.mark.parametrize(
    ("loop", "baseline", "rounds", "driver"),
    [
        ("replace", 0, [2, 1, 1], "id_acc"),
        ("sharpen", 0, [3, 2, 2], "id_dcp"),
        ("healthy", 0, [0, 0, 0], ""),
        ("verify", 0, [7, 7, 5], "tail_dcp"),
        ("verify", 2, [5, 4, 4], "tail_dcp"),
        ("healthy", 2, [0, 0, 0], ""),
    ],
)
def test_the_normal_e_process_comes_out_as_when_the_logs_were_first_read(
    loop,
    baseline,
    rounds,
    driver,
):
    found, drivers = alarms(loop, baseline, "normal")
    assert found == rounds and drivers == {driver}
    exact, _ = alarms(loop, baseline)
    assert all(0 <= late - soon <= 2 for late, soon in zip(exact, found, strict=True)), (
        "the exact rule pays for the noise of the baseline"
    )


def log(num_rounds, accuracy):
    """A made-up log: 50 problems, the same value for all in a round."""
    return [
        {name: [accuracy(t) if name.endswith("acc_v") else 0.25] * 50 for name in pilot.STREAMS}
        for t in range(num_rounds)
    ]


def test_a_log_is_followed_without_the_pilots_data(tmp_path, monkeypatch):
    steady, falling = log(6, lambda t: 0.5), log(6, lambda t: 0.5 - 0.125 * min(t, 2))
    assert pilot.follow(steady, "steady", 1.0).alarm == 0
    found = pilot.follow(falling, "falling", 1.0)
    assert 0 < found.alarm <= 3 and found.driver.endswith("acc")
    (tmp_path / "pilot").mkdir()
    (tmp_path / "pilot" / "lm_falling_0.json").write_text(json.dumps(falling))
    monkeypatch.setattr(pilot, "DATA", tmp_path)
    assert pilot.one("exact", "falling", 0, 1.0) == found
