"""Records as JSON and back, whatever their fields are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan, nan

import pytest

from ouroloop.monitors.decision.reasons import latest
from ouroloop.monitors.decision.records import (
    Audit,
    Decision,
    GuardReading,
    RoundBets,
    StreamId,
    TierEvidence,
    Unmeasured,
)
from ouroloop.monitors.names import Action, FailureMode, Tier
from ouroloop.monitors.records import from_json, to_json


@dataclass(frozen=True)
class Inner:
    tier: Tier
    numbers: tuple[float, ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    value: float
    inner: Inner | None = None
    by_stream: Mapping[StreamId, float] = field(default_factory=dict)
    many: tuple[Inner, ...] = ()


FULL = Outer("x", 0.5, Inner(Tier.HALT, (1.0, 2.0)), {StreamId("a", 3): 1.5}, (Inner(Tier.WATCH),))


@pytest.mark.parametrize("record", [Outer("x", 0.5), FULL])
def test_a_record_is_read_back_from_its_json(record):
    assert from_json(Outer, json.loads(json.dumps(to_json(record), allow_nan=False))) == record


def test_json_is_plain_and_undefined_is_null():
    assert to_json(FULL)["inner"] == {"tier": "halt", "numbers": [1.0, 2.0]}
    assert to_json(FULL)["by_stream"] == {"a@3": 1.5}
    assert to_json(Outer("x", nan))["value"] is None
    assert isnan(from_json(Outer, {"name": "x", "value": None}).value)


def test_unknown_keys_are_left_out_and_missing_ones_are_refused():
    assert from_json(Outer, {"name": "x", "value": 1, "new": 2}) == Outer("x", 1.0)
    with pytest.raises(TypeError, match="value"):
        from_json(Outer, {"name": "x"})
    with pytest.raises(ValueError, match="never"):
        from_json(Inner, {"tier": "never"})


@pytest.mark.parametrize("text", ["", "accuracy", "@0", "accuracy@", "accuracy@x", "accuracy@-1"])
def test_a_text_that_is_no_stream_id_is_refused(text):
    with pytest.raises(ValueError, match="no stream id"):
        StreamId.parse(text)


GUARD = GuardReading(
    quantity="accuracy",
    baseline=1,
    name="pass@1, since round 1",
    before=0.5,
    after=0.25,
    change=-0.25,
    low=-0.3,
    high=-0.2,
    level=0.99,
    relative=False,
    up_is_better=True,
    num_problems=40,
    tolerance=0.01,
    loss_in_tolerances=25.0,
    estimand="accuracy/pass@1:main",
    note="a note",
)


def test_every_part_of_a_decision_survives_its_file():
    stream = StreamId("accuracy", 1)
    bets = {stream: (0.1, -0.2)}
    decision = Decision(
        4,
        Action.ROLLBACK,
        ("why",),
        FailureMode.TAIL_NARROWING,
        {Tier.HALT: TierEvidence(9.0, 3.0, 0.05, stream, 2, {stream: 9.0})},
        (GUARD,),
        RoundBets(bets, bets, bets),
        (Audit("shortcut", 0, "shortcut", 2, Action.REINJECT, 1.0, 2, False),),
        (Unmeasured("rare_strategies", 0, "rare-strategy mass", "none"),),
        True,
        False,
    )
    written = json.loads(json.dumps(decision.to_json(), allow_nan=False))
    assert to_json(Decision.from_json(written)) == written
    assert (written["mode"], written["action"]) == ("tail_narrowing", "rollback")
    assert decision.driver_name(Tier.HALT) == "pass@1, since round 1"
    assert decision.driver_name(Tier.WATCH) == ""


def test_a_name_with_an_insertion_ends_it_in_a_sentence() -> None:
    """`pass@1, since round 1, is`, and not `pass@1, since round 1 is`."""
    for name in ("pass@1, since round 1", "pass@1"):
        audit = Audit("accuracy", 1, name, 2, Action.REINJECT, 1.0, 2, False)
        (sentence,) = latest([audit])
        assert f"the {name}{', is' if ',' in name else ' is'} not yet shown" in sentence
