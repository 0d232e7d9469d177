"""What `CollapseMonitor` says while it measures; and the example with GRPOTrainer, as it is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from ouroloop.loop.callback.progress import Progress, lasting, measurements_left

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "grpo.py"


class Clock:
    """Seconds that pass only when somebody says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def slow_rows(clock, num, seconds):
    for number in range(num):
        clock.now += seconds
        yield {"problem": number}


def test_a_long_measurement_says_how_many_are_done_and_how_long_the_rest_takes():
    lines, clock = [], Clock()
    progress = Progress(lines.append, clock)
    rows = list(progress.watched(slow_rows(clock, 60, 0.5), 20, 60))
    assert [row["problem"] for row in rows] == list(range(60))
    assert lines == [
        "step 20: sampling 60 answers",
        "step 20: 20 of 60 answers, 20 s left",
        "step 20: 40 of 60 answers, 10 s left",
        "step 20: 60 of 60 answers, 0.0 s left",
    ]


def test_of_a_function_that_knows_no_total_what_is_done_is_said():
    lines, clock = [], Clock()
    list(Progress(lines.append, clock).watched(slow_rows(clock, 3, 6.0), 0, None))
    assert lines[0].startswith("step 0: sampling answers of the model before training")
    assert lines[1:] == ["step 0: 2 answers after 12 s"]


def test_after_the_baseline_comes_a_forecast_and_at_the_end_the_share_of_the_time():
    lines, clock = [], Clock()
    progress = Progress(lines.append, clock)
    progress.measured(0, 40.0, "continue: the baseline")
    progress.forecast(10, 0.25, 40.0)
    progress.forecast(10, None, 40.0)
    progress.measured(20, 9.0, "halt: lost")
    clock.now += 490.0
    progress.over()
    assert lines == [
        "step 0: continue: the baseline (40 s)",
        "10 more measurements to come, about 10 s each, 100 s in all",
        "10 more measurements to come; the first one shows what they take",
        "step 20: halt: lost (9.0 s)",
        "2 measurements took 49 s, 10% of the training's time",
    ]


@pytest.mark.parametrize(
    ("every", "step", "max_steps", "left"),
    [(20, 0, 200, 10), (20, 0, 210, 11), (20, 40, 200, 8), (None, 0, 200, None), (5, 0, 0, None)],
)
def test_measurements_to_come_are_counted_with_the_last_one(every, step, max_steps, left):
    assert measurements_left(every, step, max_steps) == left


def test_durations_are_short_texts():
    assert [lasting(s) for s in (0.44, 12, 150, 9000)] == ["0.4 s", "12 s", "2 min", "2.5 h"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("max_steps", "asked", "every"), [(200, None, 20), (12, None, 2), (200, 7, 7)]
)
def test_without_a_wish_it_measures_ten_times_over_the_training(max_steps, asked, every):
    from ouroloop.loop.callback.monitor import CollapseMonitor

    monitor = CollapseMonitor(lambda *_: [], every_steps=asked)
    monitor._choose_steps(SimpleNamespace(max_steps=max_steps))
    assert (monitor.every_steps, monitor.each_epoch) == (every, False)
    by_epoch = CollapseMonitor(lambda *_: [], each_epoch=True)
    by_epoch._choose_steps(SimpleNamespace(max_steps=max_steps))
    assert (by_epoch.every_steps, by_epoch.each_epoch) == (None, True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_example_with_grpo_trains_measures_and_says_what_it_does(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("grpo_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monitor = example.main(["--steps", "2", "--probe", "6", "--out", str(tmp_path)])
    assert monitor.steps == [0, 1, 2]
    trained = [entry for entry in monitor.trainer.state.log_history if "collapse/action" in entry]
    assert [entry["step"] for entry in trained] == [0, 1, 2]
    assert trained[0]["collapse/accuracy/pass@1:default"] > 0.2, "the model solves such sums"
    said = [line for line in capsys.readouterr().err.splitlines() if "collapse monitor: " in line]
    expected = [
        r"step 0: sampling 192 answers of the model before training, with which later ones are",
        r"step 0: continue: .*baseline.* \(\d.* s\)$",
        r"2 more measurements to come, about .* s each, .* s in all$",
        r"step 1: sampling 48 answers$",
        r"step 1: continue: .* \(\d.* s\)$",
        r"step 2: sampling 48 answers$",
        r"step 2: continue: .* \(\d.* s\)$",
        r"3 measurements took .* s, \d+% of the training's time$",
    ]
    # A loaded machine adds lines of progress in between.
    found = [line for line in said if not re.search(r"answers, .* left$", line)]
    assert len(found) == len(expected)
    for line, pattern in zip(found, expected, strict=True):
        assert re.search(rf"collapse monitor: {pattern}", line), line
