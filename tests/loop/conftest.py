"""A test's files need not survive a power cut: without fsync the whole loop takes a second."""

import os

import pytest
from scripted_world import Model, carry, recipe

from ouroloop.loop.round import Round


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def finished_run(shared):
    """(last decision, folder) of the scripted recipe as it stands. Tests only read it."""
    settings = recipe()

    def make(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda descriptor: None)
            carry(folder, Model(), settings)

    path = shared("finished", make) / settings.name
    return Round.of(path, settings.rounds).decision, path
