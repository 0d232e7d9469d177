"""Runs in MLflow: opened once, found again by the marks that they bear.

The ids are kept in the run's tracking.json, so that a later sync continues. Where that file is
lost, or a sync was cut off before it was written, the marks (tags) find the same runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from ouroloop.evals.errors import DataError
from ouroloop.loop.recipes.secrets import redacted
from ouroloop.loop.trackers.page import Memory
from ouroloop.loop.trackers.points import began, flat
from ouroloop.loop.views.reader import Json, RunData

# Settings of MLflow that a person may still override: no reports to anyone, and a server that does
# not answer costs seconds, not minutes.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}

# MLflow refuses longer values, and batches of more than a hundred parameters.
MAX_PARAM_LENGTH = 6000
MAX_PARAMS_PER_BATCH = 100
SQLITE_SECONDS = 5.0


def set_environment() -> None:
    """Before MLflow is imported: it reads some of its settings then."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)


def default_uri(root: Path) -> str:
    """The database in the folder of all runs.

    Absolute, for MLflow's own default depends on the working directory.
    """
    return f"sqlite:///{root.resolve() / 'mlflow.db'}"


@contextlib.contextmanager
def one_writer(root: Path) -> Iterator[None]:
    """One writer per folder of runs at a time.

    SQLite takes no two, least of all while the database is being made.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / "mlflow.lock").open("a") as lock:
        # Held by the open file, not by its existence: who is killed leaves no stale lock.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def refuse_damaged_store(uri: str) -> None:
    """Refuse an SQLite database that SQLite itself finds damaged; another store is not looked at.

    Raises:
        DataError: with the path and the remedy; MLflow's own errors are pages long.
    """
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or not path.is_file():
        return
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=SQLITE_SECONDS)) as database:
            # Not integrity_check, which also compares every index with its table: minutes in a
            # large database.
            found = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:
        # Held by another process, or not to be opened: MLflow says so itself.
        return
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise DataError(
            f"{path}: MLflow's database is damaged ({' '.join(found.split())}). Move it aside, or"
            " put a copy back; then `ouroloop sync RUN` records each run anew."
        )


def quoted(text: str) -> str:
    """A text as MLflow's search takes it: between marks of the kind that it does not hold."""
    # A folder may be called "o'brien"; MLflow knows no way to escape a mark.
    mark = '"' if "'" in text else "'"
    return f"{mark}{text}{mark}"


class RunStore:
    """One campaign's runs in MLflow: a parent, and one child per round."""

    def __init__(self, run: RunData, uri: str, experiment: str) -> None:
        import mlflow

        self.run, self.uri = run, uri
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        self.client = mlflow.MlflowClient()
        self.experiment = self._experiment(experiment)
        mlflow.set_experiment(experiment_id=self.experiment)
        file = run.path / "tracking.json"
        self.memory = Memory(file, self._known(file) or self._new())
        self.memory.save()

    @property
    def parent(self) -> str:
        """The id of the campaign's run."""
        return str(self.memory.known["parent"])

    def open_round(self, number: int) -> str:
        """The id of a round's run, opened when there is none."""
        marks = {"mlflow.parentRunId": self.parent, "ouroloop.round": str(number)}
        run_id = self._open(f"round-{number:02d}", marks, {}, began(self.run, number))
        self.memory.entry(number)["run_id"] = run_id
        return run_id

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = None
        # A server knows where its artifacts lie; a database alone would put them into the working
        # directory.
        if self.uri.startswith("sqlite:"):
            location = (self.run.path.parent / "mlartifacts").as_uri()
        return str(self.client.create_experiment(name, artifact_location=location))

    def _open_parent(self) -> str:
        from mlflow.entities import Param

        run = self.run
        marks = {
            "ouroloop.run": f"{run.env.get('fingerprint', '')[:12]}-{run.env.get('started', '')}",
            "ouroloop.folder": str(run.path),
        }
        arm = "guarded" if run.guarded else "unguarded"
        parent = self._open(run.name, marks, {"arm": arm}, began(run))
        params = [Param(key, value[:MAX_PARAM_LENGTH]) for key, value in flat(run.recipe)]
        for start in range(0, len(params), MAX_PARAMS_PER_BATCH):
            self.client.log_batch(parent, params=params[start : start + MAX_PARAMS_PER_BATCH])
        return parent

    def _open(
        self, name: str, marks: Mapping[str, str], tags: Mapping[str, str], started: int | None
    ) -> str:
        """The id of the run that bears these marks.

        Found again when an earlier sync was cut off, else new.
        """
        query = " and ".join(f"tags.`{key}` = {quoted(value)}" for key, value in marks.items())
        for found in self.client.search_runs([self.experiment], filter_string=query, max_results=1):
            return str(found.info.run_id)
        made = self.client.create_run(
            self.experiment, run_name=name, tags={**marks, **tags}, start_time=started
        )
        return str(made.info.run_id)

    def _new(self) -> Json:
        return {
            # An address may hold a password, and this file goes wherever the run's folder goes.
            "uri": redacted(self.uri),
            "experiment_id": self.experiment,
            "parent": self._open_parent(),
            "rounds": {},
        }

    def _known(self, file: Path) -> Json | None:
        """The ids of an earlier sync, if they still lead anywhere."""
        from mlflow.exceptions import MlflowException

        known = Memory(file).known
        if "parent" not in known:
            # Missing or damaged: the marks find the same runs.
            return None
        # The recipe names another store by now, where these ids lead nowhere.
        if known.get("uri") != redacted(self.uri):
            return None
        try:
            stage = self.client.get_run(known["parent"]).info.lifecycle_stage
        except MlflowException:
            # Another database of the same address: nothing there is ours.
            return None
        return known if stage == "active" else None
