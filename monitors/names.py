"""The closed sets of names that decide: actions, tiers of evidence, failure modes.

Identity is never display text: code compares members of these enums, and sentences are written from
them last. Each member is also its own text, so tables and JSON files hold plain words.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Action(StrEnum):
    """What should happen after a round, from harmless to final."""

    # In this order: a later one includes what an earlier one would do.
    CONTINUE = "continue"
    REINJECT = "reinject"
    ROLLBACK = "rollback"
    HALT = "halt"


class Tier(StrEnum):
    """How much evidence there is: WATCH is calibrated and cheap to act on, HALT is exact."""

    WATCH = "watch"
    HALT = "halt"


class FailureMode(StrEnum):
    """The kind of collapse: what a decline looks like, and what remedies are made for."""

    DRIFT = "drift"
    SHARPENING = "sharpening"
    SHORTCUT = "shortcut"
    TAIL_NARROWING = "tail_narrowing"
    CANNED = "canned_response"


NAMED_RIGHTLY: Mapping[FailureMode, float] = {
    FailureMode.DRIFT: 0.944,
    FailureMode.SHARPENING: 0.990,
    FailureMode.SHORTCUT: 1.00,
    FailureMode.TAIL_NARROWING: 0.040,
}
"""Mode -> the share of the simulated alarms with this name that it was right for.

Of scored samples alone: how often a name of unscored text is right was not measured.

V4, 120 x 8, 200 runs of each of twelve regimes. Of ten real drifting runs none was named so.
"""


def mode_label(mode: FailureMode) -> str:
    """A mode's name for a heading; what the name is worth stands in the decision's reasons."""
    return f"looks like {mode.replace('_', ' ')}"
