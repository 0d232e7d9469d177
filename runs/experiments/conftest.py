"""Experiments are tested on the scripted world of the loop's own tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "loop")]

from warm import warm_starts  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def warm() -> Iterator[None]:
    """As for the tests of the loop."""
    with warm_starts():
        yield
