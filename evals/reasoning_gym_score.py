"""Scoring by reasoning-gym itself (extra `verify`).

Imported by sandbox workers only: some of its scorers evaluate what they are given.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from reasoning_gym import create_dataset


def score(name: str, config: dict[str, Any], answer: str, entry: dict[str, Any]) -> float:
    """The score in [0, 1] that data set `name` gives to an extracted answer.

    Only 1.0 is right: wrong answers get partial credit.
    """
    return float(_dataset(name, tuple(sorted(config.items(), key=repr)))(answer, entry))


@cache
def _dataset(name: str, config: tuple[tuple[str, Any], ...]) -> Any:
    return create_dataset(name, size=1, seed=0, **dict(config)).score_answer
