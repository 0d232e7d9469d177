from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fake_run
import pytest


@pytest.fixture(scope="session")
def arms(shared: Callable[..., Path]) -> tuple[Path, Path]:
    """A guarded and an unguarded run side by side. Read-only: tests that write copy it first."""

    def make(folder: Path) -> None:
        fake_run.make_run(folder, "guarded")
        fake_run.make_run(folder, "unguarded", guarded=False, seed=1)

    folder = shared("arms", make)
    return folder / "guarded", folder / "unguarded"
