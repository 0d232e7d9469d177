from __future__ import annotations

from pathlib import Path

import fake_run
import pytest


@pytest.fixture(scope="session")
def arms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A guarded and an unguarded run side by side. Read-only: tests that write copy it first."""
    folder = tmp_path_factory.mktemp("runs")
    return fake_run.make_run(folder, "guarded"), fake_run.make_run(
        folder, "unguarded", guarded=False, seed=1
    )
