"""Trackio: a run's headline numbers, account, decisions and report, in a database on this machine.

Its project lies in the folder `trackio` beside the runs, unless the variable TRACKIO_DIR names
another place; `trackio show --project ouroloop` serves the pages.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ouroloop.loop.trackers.notes import without_tables
from ouroloop.loop.trackers.page import Memory, bring_up_to_date, run_id
from ouroloop.loop.trackers.points import flat
from ouroloop.loop.trackers.wandb import metric_name
from ouroloop.loop.views.reader import RoundData, RunData, read_run
from ouroloop.monitors.decision.reasons import why
from ouroloop.monitors.names import Action

WHERE_TO_LOOK = """\
**Where to look.** **Metrics**: `headline`; `decision/action` (0 continue, 1 reinject, 2 rollback,
3 halt); `evidence/watch` and `evidence/halt` (log e) with their limits; `tolerance` (room of each
guarded quantity in tolerances, 0 is the limit). **Alerts**: every round that was steered, and a
failure. **Reports**: this text, and the decisions. **Artifacts**: `report`, the whole page."""


class TrackioTracker:
    """A `Tracker` that shows runs in Trackio.

    Args:
        project: The project's name.
    """

    def __init__(self, project: str = "ouroloop") -> None:
        self.project = project

    def sync(self, run_path: Path) -> None:
        """See `Tracker.sync`. May raise anything that Trackio does."""
        run = read_run(run_path.resolve())
        # Before it is imported: it reads the variable then.
        os.environ.setdefault("TRACKIO_DIR", str(run.path.parent / "trackio"))
        page = TrackioPage(run, self.project)
        try:
            bring_up_to_date(run, page)
        finally:
            page.let_go()


class TrackioPage:
    """A `Page` in Trackio, which finds a run again by its name: run's name and a hash of its place.

    Trackio shows twice what is logged twice. So a run that a sync left half-shown is removed from
    its database and shown anew.
    """

    where_to_look = WHERE_TO_LOOK

    def __init__(self, run: RunData, project: str) -> None:
        self.run, self.project = run, project
        self.name = f"{run.name}-{run_id(run)}"
        self.memory = Memory(run.path / "tracking-trackio.json")
        known = self.memory.known
        # Of another name: the folder was copied or moved, and is another run to Trackio.
        if known.get("name") != self.name or known.get("is_open", True):
            self.memory.known = {"name": self.name, "is_open": True, "rounds": {}}
        self._opened: Any = None

    def log_round(self, round: RoundData, numbers: Mapping[str, float]) -> None:
        """See `Page.log_round`; an alert where the run was steered."""
        import trackio

        service = self._service()
        values = {metric_name(name): value for name, value in numbers.items()}
        service.log(values, step=round.number)
        if round.action == Action.CONTINUE:
            return
        level = trackio.AlertLevel.WARN
        if round.action == Action.HALT:
            level = trackio.AlertLevel.ERROR
        text = "; ".join(why(round.decided))
        service.alert(title=f"round {round.number}: {round.action}", text=text, level=level)

    def write(self, note: str, decisions: Mapping[int, str]) -> None:
        """See `Page.write`: one text, for Trackio has no notes of a run."""
        import trackio

        rounds = [f"### Round {number}\n\n{decision}" for number, decision in decisions.items()]
        account = trackio.Markdown(without_tables("\n\n".join([note, *rounds])))
        # At the next free step: whatever stands there is not of a round, and charts no text.
        self._service().log({"account": account})

    def attach(self, report: Path) -> None:
        """See `Page.attach`: the latest version of the artifact `report` of this run."""
        name = f"report-{self.name}"
        self._service().log_artifact(str(report), name=name, type="report", overwrite=True)

    def close(self) -> None:
        """See `Page.close`. Trackio knows no state of a run: an alert says that it failed."""
        run = self.run
        stand = f"{run.state} {run.failure}"
        if run.failure and self.memory.known.get("stand") != stand:
            import trackio

            level = trackio.AlertLevel.ERROR
            self._service().alert(title="the run failed", text=run.failure, level=level)
        self.let_go()
        self.memory.known |= {"stand": stand, "is_open": False}

    def let_go(self) -> None:
        """Wait until everything is written."""
        if self._opened is not None:
            self._opened.finish()
            self._opened = None

    def _service(self) -> Any:
        if self._opened is None:
            import trackio

            if self.memory.known["is_open"]:
                self._remove()
            unsure = {"name": self.name, "is_open": True, "rounds": {}}
            Memory(self.memory.file, unsure).save()
            self._opened = trackio.init(
                project=self.project,
                name=self.name,
                resume="allow",
                # Secrets are masked in the recipe of a run already.
                config=dict(flat(self.run.recipe)),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        return self._opened

    def _remove(self) -> None:
        import trackio

        # ValueError: nothing was ever shown in this project.
        with contextlib.suppress(ValueError):
            for run in trackio.Api().runs(self.project):
                if run.name == self.name:
                    run.delete()
