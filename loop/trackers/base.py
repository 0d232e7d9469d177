"""What a tracker is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """Shows a run somewhere: on a server, in a database, in a chat.

    It is made with the options of the recipe, in a child process (`process`), so that it may take
    its time, raise, or die.
    """

    def sync(self, run_path: Path) -> None:
        """Bring what is shown up to date with the run's committed rounds.

        Called after every round and at the end; called again after it failed. A round that is shown
        already must not be shown twice.

        Args:
            run_path: The run's folder; `ouroloop.loop.views.reader.read_run` reads it.
        """
        ...
