"""Weights & Biases: a run's headline numbers, account, decisions and report.

Nothing leaves the machine unless a key is there to send it with: without one the run is written
into files, in the folder `wandb` beside the runs, which `wandb sync` uploads later.
"""

from __future__ import annotations

import netrc
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from ouroloop.loop.errors import RecipeError
from ouroloop.loop.trackers.page import Memory, bring_up_to_date, run_id
from ouroloop.loop.trackers.points import flat
from ouroloop.loop.views.reader import RoundData, RunData, read_run

MODES = ("auto", "online", "offline")
# A server that does not answer is given up after this; the next sync sends what is missing.
INIT_SECONDS = 30
# The server's address where the variable WANDB_BASE_URL names no other.
SERVER = "https://api.wandb.ai"
WHERE_TO_LOOK = """\
**Where to look.** *Charts*: `headline`; `decision/action` (0 continue, 1 reinject, 2 rollback,
3 halt); `evidence/watch` and `evidence/halt` (log e) with their limits; `tolerance` (room of each
guarded quantity in tolerances, 0 is the limit). *Overview*, Summary: `decisions`, each in words;
`state`, `failure`, `best_round`. *Files*: `report.html`."""


class WandbTracker:
    """A `Tracker` that shows runs in Weights & Biases.

    Args:
        project: The project's name.
        entity: The team or user; default: that of the key.
        mode: `online`, `offline`, or `auto`: online where a key is set (WANDB_API_KEY, or `wandb
            login`), else offline. The variable WANDB_MODE has the last word over `auto`.

    Raises:
        RecipeError: no such mode.
    """

    def __init__(
        self, project: str = "ouroloop", entity: str | None = None, mode: str = "auto"
    ) -> None:
        if mode not in MODES:
            raise RecipeError(f"wandb: mode is {mode!r}; expected {', '.join(MODES)}.")
        self.project, self.entity, self.mode = project, entity, mode

    def sync(self, run_path: Path) -> None:
        """See `Tracker.sync`. May raise anything that wandb does."""
        run = read_run(run_path.resolve())
        # Reports of W&B's own errors, to W&B, also offline. Read when it is imported.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        page = WandbPage(run, self.project, self.entity, chosen_mode(self.mode))
        try:
            bring_up_to_date(run, page)
        finally:
            page.let_go()


def chosen_mode(asked: str) -> str:
    """`asked`, with `auto` decided."""
    if asked != "auto":
        return asked
    return os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")


def metric_name(name: str) -> str:
    """A headline's name as W&B can sort and filter it: letters, digits, `_`, `/`, no digit first.

    `1_headline/01 pass_at_1` becomes `headline/01_pass_at_1`.
    """
    return re.sub(r"[^\w/.-]", "_", re.sub(r"^\d+_", "", name))


class WandbPage:
    """A `Page` in W&B. The service is started by the first thing that is new.

    The run's id follows from the run's folder and start, so that every sync continues the same run;
    offline each sync leaves a piece of it, and `wandb sync` puts the pieces together in order.
    """

    where_to_look = WHERE_TO_LOOK

    def __init__(self, run: RunData, project: str, entity: str | None, mode: str) -> None:
        self.run, self.project, self.entity, self.mode = run, project, entity, mode
        self.memory = Memory(run.path / "tracking-wandb.json")
        self.id: str = self.memory.known.setdefault("id", run_id(run))
        self._opened: Any = None

    def log_round(self, round: RoundData, numbers: Mapping[str, float]) -> None:
        """See `Page.log_round`. W&B itself leaves out a step that it has already."""
        values = {metric_name(name): value for name, value in numbers.items()}
        self._service().log({"round": round.number, **values}, step=round.number)

    def write(self, note: str, decisions: Mapping[int, str]) -> None:
        """See `Page.write`: the run's notes, and a line of its summary for each decision.

        Not the history, which takes nothing more at a step that it has.
        """
        service = self._service()
        service.notes = note
        service.summary.update({f"decisions/{n:03d}": text for n, text in decisions.items()})

    def attach(self, report: Path) -> None:
        """See `Page.attach`: among the run's files."""
        service = self._service()
        # A copy, and in its own folder: W&B links a file from elsewhere, and the report goes away.
        kept = shutil.copy(report, Path(service.dir) / report.name)
        service.save(kept, base_path=service.dir, policy="now")

    def close(self) -> None:
        """See `Page.close`."""
        run = self.run
        stand = f"{run.state} {run.failure}"
        if self._opened is None and self.memory.known.get("stand") == stand:
            return
        service = self._service()
        service.summary.update(
            {"state": run.state, "failure": run.failure, "best_round": run.best_round}
        )
        self.let_go(exit_code=int(run.state in ("failed", "stopped")))
        self.memory.known["stand"] = stand

    def let_go(self, exit_code: int = 1) -> None:
        """End the service's process, if there is one: it would outlive a sync that failed."""
        if self._opened is not None:
            self._opened.finish(exit_code=exit_code)
            self._opened = None

    def _service(self) -> Any:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> Any:
        import wandb

        root = self.run.path.parent
        settings = wandb.Settings(
            silent=True,
            console="off",
            init_timeout=INIT_SECONDS,
            # Of the machine, its user and the working directory's repository nothing is sent.
            disable_code=True,
            disable_git=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        )
        opened = wandb.init(
            project=self.project,
            entity=self.entity,
            id=self.id,
            name=self.run.name,
            resume="allow" if self.mode == "online" else None,
            mode=_literal(self.mode),
            dir=str(root),
            # Secrets are masked in the recipe of a run already.
            config=dict(flat(self.run.recipe)),
            settings=settings,
        )
        opened.define_metric("round", hidden=True)
        opened.define_metric("*", step_metric="round")
        return opened


def _literal(mode: str) -> Literal["online", "offline", "disabled", "shared"]:
    known: dict[str, Literal["online", "offline", "disabled", "shared"]]
    known = {"online": "online", "offline": "offline", "disabled": "disabled", "shared": "shared"}
    if mode not in known:
        raise RecipeError(f"WANDB_MODE is {mode!r}; expected {', '.join(known)}.")
    return known[mode]


def _has_key() -> bool:
    """Whether W&B would find a key: in the environment, or where `wandb login` has put it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or SERVER).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
