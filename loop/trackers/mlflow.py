"""MLflow: a run directory is copied into it round by round.

One parent run per campaign holds the headline numbers, a point per round, and the report; one
nested child run per round holds everything else of it. `mlflow_run` says what is recorded,
`mlflow_traces` and `mlflow_models` the samples and checkpoints, `mlflow_store` where, `mlflow_arms`
records a study. docs/mlflow.md says where each answer stands.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NoReturn

from ouroloop.loop.errors import UserError
from ouroloop.loop.trackers.mlflow_run import RunRecorder
from ouroloop.loop.trackers.mlflow_store import (
    ENVIRONMENT,
    RunStore,
    default_uri,
    one_writer,
    refuse_damaged_store,
    set_environment,
)
from ouroloop.loop.trackers.page import bring_up_to_date
from ouroloop.loop.views.reader import read_run


class MlflowTracker:
    """A `Tracker` that records runs in MLflow.

    Args:
        uri: MLflow's tracking URI; default: a database in the folder of all runs.
        experiment: The experiment's name.
        table_rows: Samples in a round's table.
        traces: Samples of a round as traces.
    """

    # The keys of the recipe's section `tracking` that are its options.
    OPTIONS = ("uri", "experiment", "table_rows", "traces")

    def __init__(
        self,
        uri: str | None = None,
        experiment: str = "ouroloop",
        table_rows: int = 64,
        traces: int = 48,
    ) -> None:
        self.uri, self.experiment = uri, experiment
        self.table_rows, self.traces = table_rows, traces

    def sync(self, run_path: Path) -> None:
        """See `Tracker.sync`. May raise anything that MLflow does."""
        set_environment()
        run = read_run(run_path.resolve())
        root = run.path.parent
        uri = self.uri or default_uri(root)
        with one_writer(root):
            refuse_damaged_store(uri)
            store = RunStore(run, uri, self.experiment)
            bring_up_to_date(run, RunRecorder(run, store, self.table_rows, self.traces))


def ui(root: Path, port: int = 5000) -> NoReturn:
    """Serve MLflow's pages on 127.0.0.1 until interrupted.

    This process becomes the server, so that a signal reaches it.

    Raises:
        UserError: nothing has been recorded in `root` yet.
    """
    if not (root / "mlflow.db").exists():
        raise UserError(
            f"{root}: no mlflow.db here: no run has been recorded yet. Start one with `ouroloop"
            " run`, or `ouroloop sync RUN`."
        )
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
        "--backend-store-uri": default_uri(root),
        "--artifacts-destination": str(root.resolve() / "mlartifacts"),
    }
    command = [sys.executable, "-m", "mlflow", "server"]
    for name, value in options.items():
        command += [name, value]
    for experiment in _experiments(root):
        # MLflow opens an experiment on its pages for chat applications; this address leads to the
        # training runs.
        page = f"http://127.0.0.1:{port}/#/experiments/{experiment}"
        print(f"runs: {page}/runs?workflowType=machine_learning", flush=True)
        # Without the last part the list hides what is older than a week.
        query = "workflowType=machine_learning&startTimeLabel=ALL"
        print(f"samples: {page}/traces?{query}", flush=True)
    os.execve(sys.executable, command, {**ENVIRONMENT, **os.environ})


def _experiments(root: Path) -> list[str]:
    """The experiments that the runs of a folder were recorded in."""
    files = root.glob("*/tracking.json")
    known = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return sorted({str(entry["experiment_id"]) for entry in known})
