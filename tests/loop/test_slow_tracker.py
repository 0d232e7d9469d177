"""No round waits for a tracker, however slow it is."""

import time
from functools import partial
from pathlib import Path

import pytest
from scripted_world import Model, no_training, small

from ouroloop.loop import runner
from ouroloop.loop.controller import Campaign
from ouroloop.loop.trackers.process import safe_sync
from ouroloop.loop.views.reader import read_run

# In a file of its own: the process that tracks imports nothing of the tests.
SLOW = """
import time
from ouroloop.loop.views.reader import read_run

class Slow:
    def sync(self, run_path):
        (run_path / "begun.txt").touch()
        until = time.monotonic() + 120
        while not (run_path / "go.txt").exists() and time.monotonic() < until:
            time.sleep(0.02)
        (run_path / "shown.txt").write_text(str(len(read_run(run_path).rounds)))
"""


@pytest.mark.slow
def test_rounds_are_committed_while_a_tracker_is_still_at_work_on_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    tracking = {"mlflow": False, "trackers": [f"{tmp_path / 'slow.py'}:Slow"]}
    settings = small(rounds=2, tracking=tracking)
    monkeypatch.setattr(runner, "build_engine", lambda recipe, log: Model().engine)
    monkeypatch.setattr(runner, "Campaign", partial(Campaign, trainer=no_training))
    monkeypatch.setattr(runner, "safe_sync", partial(safe_sync, seconds=0.05))
    outcome = runner.run(settings, tmp_path / "runs")
    run = read_run(outcome.path)
    assert [round.number for round in run.rounds] == [0, 1, 2]
    assert not (outcome.path / "shown.txt").exists(), "the tracker was not over when the run was"
    assert "still at work" in str(outcome.tracking_error)
    # Its process may still be starting when so short a run ends.
    until = time.monotonic() + 60
    while not (outcome.path / "begun.txt").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert (outcome.path / "begun.txt").exists()
    # It goes on alone, and the next call has all that it missed.
    (outcome.path / "go.txt").touch()
    assert safe_sync(outcome.path, seconds=None) is None
    assert (outcome.path / "shown.txt").read_text() == "3"
