"""Experiments are tested on the scripted world of the loop's own tests."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "loop")]


@pytest.fixture(scope="session", autouse=True)
def warm() -> Iterator[None]:
    """Trainers, engines and trackers start as in the tests of the loop."""
    with importlib.import_module("warm").warm_starts():
        yield
