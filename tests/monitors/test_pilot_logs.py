"""Four logged loops of a small language model: one drifts, two lose strategies, one is healthy. Directions only."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from monitors.guards import Quantity

DATA = Path(os.environ.get("OUROLOOP_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
LEVEL = 0.05 / (4 * 12)


def first_alarms(loop):
    """Guarded quantity -> first round in which it is beyond its tolerance against round 0."""
    path = DATA / "pilot" / f"lm_{loop}_0.json"
    if not path.exists():
        pytest.skip(f"needs {path}: set OUROLOOP_DATA to the folder that holds pilot/")
    log = json.loads(path.read_text())
    out = {}
    for key, tolerance, relative in (("id_acc_v", 0.02, False), ("tail_acc_v", 0.02, False), ("id_dcp_v", 0.1, True),
                                     ("tail_dcp_v", 0.1, True)):
        scores = [{str(i): v for i, v in enumerate(entry[key])} for entry in log]
        for entry, now in zip(log[1:], scores[1:], strict=True):
            guard = Quantity(key, now, scores[0], tolerance, "", relative).guard()
            assert guard is not None and np.isfinite(guard.p_beyond)
            if guard.tier(LEVEL, 0.5) == "halt":
                out.setdefault(key, entry["round"])
    return out


def test_the_healthy_loop_never_alarms():
    assert first_alarms("healthy") == {}


def test_the_drifting_loop_alarms_early_on_accuracy():
    assert first_alarms("replace")["id_acc_v"] <= 3


def test_the_sharpening_loop_alarms_on_diversity_no_later_than_on_accuracy():
    alarms = first_alarms("sharpen")
    assert alarms["id_dcp_v"] <= 3
    assert alarms["id_dcp_v"] <= alarms.get("id_acc_v", 99)


def test_the_verified_loop_alarms_on_diversity_while_accuracy_never_does():
    alarms = first_alarms("verify")
    assert {"id_dcp_v", "tail_dcp_v"} & set(alarms)
    assert not {"id_acc_v", "tail_acc_v"} & set(alarms)
