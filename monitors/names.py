"""The closed sets of names that decide: actions, tiers of evidence, failure modes.

Identity is never display text: code compares members of these enums, and sentences are written from
them last. Each member is also its own text, so tables and JSON files hold plain words.
"""

from __future__ import annotations

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
