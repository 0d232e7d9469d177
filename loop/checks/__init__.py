"""What can be known of a run before it begins: `ouroloop run RECIPE --check`.

`prepare` refuses what is wrong in itself. These checks compare what is right in itself: the model
with the machine, the data with the sampling and the filters, the probe set with what it is to show.
`CHECKS` is the table.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ouroloop.loop.checks import copies, data, judge, lengths, model, probe_set, storage, traces
from ouroloop.loop.checks.findings import Finding, Level, as_text
from ouroloop.loop.setup import Setting

__all__ = ["CHECKS", "Finding", "Level", "as_text", "check"]


# (a setting, the folder of its run) -> findings, in the order in which they are printed.
CHECKS: tuple[Callable[[Setting, Path], list[Finding]], ...] = (
    data.check,
    copies.check,
    lengths.check,
    probe_set.check,
    traces.check,
    judge.check,
    model.check,
    storage.check,
)


def check(setting: Setting, run_path: Path) -> list[Finding]:
    """Everything that the checks find.

    Args:
        setting: What `prepare` made of a recipe.
        run_path: The folder of the recipe's run, which need not exist.
    """
    return [finding for look in CHECKS for finding in look(setting, run_path)]
