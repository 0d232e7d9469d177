"""What scoring round 0's answers costs every round."""

from __future__ import annotations

from pathlib import Path

from ouroloop.loop.checks.findings import Finding, Level
from ouroloop.loop.setup import Setting
from ouroloop.loop.stages.traces import costs


def check(setting: Setting, run_path: Path) -> list[Finding]:
    """One finding: the cost; nothing where none are scored."""
    found = costs(setting.recipe.probe, len(setting.probe_set.problems))
    return [Finding(Level.OK, "traces", what) for what in found]
