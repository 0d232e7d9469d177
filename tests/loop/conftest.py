"""A test's files need not survive a power cut: without fsync the whole loop takes a second."""

import os

import pytest
from scripted_world import Model, carry, recipe


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """(last decision, folder) of the scripted recipe as it stands. Tests only read it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        return carry(tmp_path_factory.mktemp("finished"), Model(), recipe())
