"""MLflow, and the only file that imports it.

A run directory is copied into MLflow round by round. No run waits or fails for it.

One parent run per campaign holds a metric point per round; one nested child run per round holds its
dataset, samples, figures, SFT curve and decision. The ids are kept in the run's tracking.json, so
syncing again continues. Recording a round twice changes nothing: metric points carry the manifest's
time, and MLflow stores equal points once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ouroloop.loop.errors import UserError
from ouroloop.loop.trackers.points import (
    began,
    committed_at,
    curve,
    ended,
    flat,
    plain,
    points,
    sample_rows,
    tags,
    weights_sha256,
)
from ouroloop.loop.views import figures
from ouroloop.loop.views.account import sentences
from ouroloop.loop.views.measures import BY_KEY, strategy_shares
from ouroloop.loop.views.progress import rounds_table
from ouroloop.loop.views.reader import Json, RoundData, RunData, read_run

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
LOG = "tracking.log"
_running: dict[Path, subprocess.Popen[bytes]] = {}


def start_sync(run_path: Path) -> subprocess.Popen[bytes]:
    """Sync in a child process and return at once.

    While one works on this folder of runs, that one is returned instead; the next call, or
    `safe_sync`, brings what it missed.
    """
    root = run_path.resolve().parent
    running = _running.get(root)
    if running is None or running.poll() is not None:
        with (run_path / LOG).open("wb") as log:
            command = [
                sys.executable,
                "-m",
                "ouroloop.loop.trackers.mlflow",
                str(run_path.resolve()),
            ]
            running = _running[root] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**QUIET, **os.environ},
            )
    return running


def safe_sync(run_path: Path) -> str | None:
    """Sync everything and wait for it.

    Returns None, or in one line why it failed (more in the run's tracking.log).
    """
    try:
        running = _running.get(run_path.resolve().parent)
        if running is not None:
            running.wait()
        if start_sync(run_path).wait() == 0:
            return None
        lines = (run_path / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = lines[-1] if lines else "the sync process ended without a word"
        return (
            f"MLflow: {said} (all of it: {run_path / LOG}). The run itself is whole; try again with"
            " `ouroloop sync`."
        )
    except OSError as error:
        return f"MLflow: {error}"


def sync(run_path: Path) -> None:
    """Bring MLflow up to date with a run, in this process.

    May raise anything: who must not fail uses `safe_sync`.
    """
    run = read_run(run_path.resolve())
    settings = run.recipe.get("tracking") or {}
    root = run.path.parent
    with _alone(root):
        tracker = Tracker(run, settings.get("uri") or default_uri(root), settings)
        for round in run.rounds:
            tracker.log_round(round)
        tracker.close()


def default_uri(root: Path) -> str:
    """The database in the folder of all runs.

    Absolute, for MLflow's own default depends on the working directory.
    """
    return f"sqlite:///{root.resolve() / 'mlflow.db'}"


def ui(root: Path, port: int = 5000, uri: str | None = None) -> NoReturn:
    """Serve MLflow's pages on 127.0.0.1 until interrupted.

    This process becomes the server, so that a signal reaches it.

    Raises:
        UserError: nothing has been recorded in `root` yet.
    """
    if uri is None and not (root / "mlflow.db").exists():
        raise UserError(
            f"{root}: no mlflow.db here: no run has been recorded yet. Start one with `ouroloop"
            " run`, or `ouroloop sync RUN`."
        )
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        uri or default_uri(root),
        "--artifacts-destination",
        str(root.resolve() / "mlartifacts"),
    ]
    for experiment in sorted(
        {
            json.loads(p.read_text(encoding="utf-8"))["experiment_id"]
            for p in root.glob("*/tracking.json")
        }
    ):
        # MLflow opens an experiment on its pages for chat applications; this address leads to the
        # training runs
        print(
            "runs:"
            f" http://127.0.0.1:{port}/#/experiments/{experiment}/runs?workflowType=machine_learning",
            flush=True,
        )
    os.execve(sys.executable, command, {**QUIET, **os.environ})


class Tracker:
    """One run's place in MLflow: opens or continues its parent run, then takes rounds."""

    def __init__(self, run: RunData, uri: str, settings: Mapping[str, Any]) -> None:
        import mlflow

        self.run, self.file = run, run.path / "tracking.json"
        self.table_rows = int(settings.get("table_rows", 64))
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        self.client = mlflow.MlflowClient()
        self.experiment = self._experiment(str(settings.get("experiment") or "ouroloop"), uri)
        mlflow.set_experiment(experiment_id=self.experiment)
        self.known = self._known(uri) or self._new(uri)
        self._save()

    def log_round(self, round: RoundData) -> None:
        """Record a committed round, unless it is recorded already."""
        import mlflow

        entry = self.known["rounds"].setdefault(str(round.number), {})
        if entry.get("done"):
            return
        marks = {"mlflow.parentRunId": self.known["parent"], "ouroloop.round": str(round.number)}
        child = entry["run_id"] = self._open(
            f"round-{round.number:02d}", marks, {}, began(self.run, round.number)
        )
        measured = _metrics(points(self.run, round), round.number, committed_at(round))
        with mlflow.start_run(run_id=child):
            self.client.log_batch(child, metrics=measured, tags=_tags(tags(self.run, round)))
            self._training(round, child)
            self._artifacts(round, child)
            self._checkpoint(round, child)
        self.client.set_terminated(child, "FINISHED", end_time=committed_at(round))
        self.client.log_batch(self.known["parent"], metrics=measured)
        entry["done"] = True
        self._save()

    def close(self) -> None:
        """Say on the parent how the run stands, in words and tags.

        Move `champion` to the best checkpoint.
        """
        run, parent = self.run, self.known["parent"]
        told = {
            "mlflow.note.content": "\n\n".join([*sentences(run), rounds_table(run)]),
            "best_round": str(run.best_round),
        }
        if run.rounds:
            told["decision"] = run.rounds[-1].action
        if run.failure:
            told["failure"] = run.failure
        elif "failure" in self.client.get_run(parent).data.tags:  # of an earlier attempt
            self.client.delete_tag(parent, "failure")
        self.client.log_batch(parent, tags=_tags(told))
        self._champion()
        if run.state == "running":
            self.client.update_run(parent, status="RUNNING")
        else:
            status = {"finished": "FINISHED", "failed": "FAILED"}.get(run.state, "KILLED")
            self.client.set_terminated(parent, status, end_time=ended(run))

    def _training(self, round: RoundData, child: str) -> None:
        import mlflow

        steps = [
            metric
            for step, values in curve(round)
            for metric in _metrics(values, step, committed_at(round))
        ]
        for start in range(0, len(steps), 500):
            self.client.log_batch(child, metrics=steps[start : start + 500])
        if len(round.examples):
            columns = [
                c
                for c in ("problem_id", "text", "origin", "round", "strategy")
                if c in round.examples
            ]
            name, source = (
                f"{self.run.name}-r{round.number:02d}-train",
                str(round.path / "examples.parquet"),
            )
            with warnings.catch_warnings(
                action="ignore"
            ):  # MLflow finds two ways to read a local path and takes the right one
                data = mlflow.data.from_pandas(
                    round.examples[columns].astype(str), source=source, name=name
                )
            mlflow.log_input(data, context="train")

    def _artifacts(self, round: RoundData, child: str) -> None:
        import mlflow

        mlflow.log_dict(round.decision, "decision.json")
        rows = list(sample_rows(round, self.table_rows))
        if rows and not any(
            a.path == "samples.json" for a in self.client.list_artifacts(child)
        ):  # MLflow would append to it
            mlflow.log_table({key: [row[key] for row in rows] for key in rows[0]}, "samples.json")
        if len(round.probe):
            names = list(
                dict.fromkeys(name for r in self.run.rounds for name in strategy_shares(r))
            )
            areas = figures.strategy_areas(self.run, names, upto=round.number, legend=True)
            mlflow.log_figure(areas, "figures/strategies.png")
            diagram = figures.reliability_diagram([(f"round {round.number}", round)], legend=True)
            mlflow.log_figure(diagram, "figures/reliability.png")

    def _checkpoint(self, round: RoundData, child: str) -> None:
        """A LoggedModel that names the checkpoint's place and fingerprint.

        The weights stay where they are.
        """
        import mlflow

        path, value = self.run.checkpoint(round.number), round.score("pass@1")[0]
        if path is None or self._model(child) is not None:
            return
        name = f"{self.run.name}-round-{round.number:02d}"
        params = {"path": str(path), "sha256": weights_sha256(self.run, round, path)}
        model = mlflow.create_external_model(name=name, source_run_id=child, params=params)
        if value == value:
            at = committed_at(round)
            mlflow.log_metric(
                plain(BY_KEY["pass@1"].of(round).id),
                value,
                timestamp=at,
                step=round.number,
                model_id=model.model_id,
            )

    def _champion(self) -> None:
        """One registered model per run, one version per round that was ever best.

        The alias is what moves, back too.
        """
        from mlflow.exceptions import MlflowException

        best = self.run.best_round
        child = self.known["rounds"].get(str(best), {}).get("run_id")
        model = self._model(child) if child and self.known.get("champion") != best else None
        if model is None:
            return
        name = f"ouroloop-{self.run.name}"
        with contextlib.suppress(MlflowException):
            self.client.create_registered_model(name)
        versions = self.client.search_model_versions(f"name = '{name}' and run_id = '{child}'")
        made = {
            "source": f"models:/{model}",
            "run_id": child,
            "model_id": model,
            "description": f"Round {best}: {self.run.checkpoint(best)}",
        }
        found = versions[0] if versions else self.client.create_model_version(name, **made)
        self.client.set_registered_model_alias(name, "champion", found.version)
        self.known["champion"] = best
        self._save()

    def _model(self, child: str) -> str | None:
        """The id of the LoggedModel of a round's run."""
        query = f"source_run_id = '{child}'"
        found = self.client.search_logged_models(
            [self.experiment], filter_string=query, max_results=1
        )
        return str(found[0].model_id) if found else None

    def _experiment(self, name: str, uri: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        local = (
            (self.run.path.parent / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None
        )
        return str(self.client.create_experiment(name, artifact_location=local))

    def _open_parent(self) -> str:
        run = self.run
        marks = {
            "ouroloop.run": f"{run.env.get('fingerprint', '')[:12]}-{run.env.get('started', '')}",
            "ouroloop.folder": str(run.path),
        }
        parent = self._open(
            run.name, marks, {"arm": "guarded" if run.guarded else "unguarded"}, began(run)
        )
        from mlflow.entities import Param

        params = [Param(key, value[:6000]) for key, value in flat(run.recipe)]
        for start in range(0, len(params), 100):
            self.client.log_batch(parent, params=params[start : start + 100])
        return parent

    def _open(
        self, name: str, marks: Mapping[str, str], tags: Mapping[str, str], started: int | None
    ) -> str:
        """The id of the run that bears these marks.

        Found again when an earlier sync was cut off, else new.
        """
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in marks.items())
        for found in self.client.search_runs([self.experiment], filter_string=query, max_results=1):
            return str(found.info.run_id)
        made = self.client.create_run(
            self.experiment, run_name=name, tags={**marks, **tags}, start_time=started
        )
        return str(made.info.run_id)

    def _new(self, uri: str) -> Json:
        return {
            "uri": uri,
            "experiment_id": self.experiment,
            "parent": self._open_parent(),
            "rounds": {},
        }

    def _known(self, uri: str) -> Json | None:
        """The ids of an earlier sync, if they still lead anywhere."""
        from mlflow.exceptions import MlflowException

        if not self.file.is_file():
            return None
        known = dict(json.loads(self.file.read_text(encoding="utf-8")))
        if known.get("uri") != uri:
            return None
        try:
            alive = self.client.get_run(known["parent"]).info.lifecycle_stage == "active"
        except MlflowException:
            return None
        return known if alive else None

    def _save(self) -> None:
        new = self.file.with_suffix(".json.tmp")
        new.write_text(json.dumps(self.known, indent=1), encoding="utf-8")
        new.replace(self.file)


Arm = tuple[dict[str, Any], Mapping[str, float], list[Path]]
"""Recipe keys, metrics, files."""


def record_arms(root: Path, experiment: str, arms: Mapping[str, Arm], shared: list[Path]) -> None:
    """One run per arm of a study in an experiment of the folder of runs.

    Recorded again, an arm's run takes the new numbers.

    shared: files that every arm's run gets. May raise anything.
    """
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    import mlflow

    with _alone(root):
        mlflow.set_tracking_uri(default_uri(root))
        client = mlflow.MlflowClient()
        found = client.get_experiment_by_name(experiment)
        place = (root / "mlartifacts").resolve().as_uri()
        number = (
            found.experiment_id
            if found
            else client.create_experiment(experiment, artifact_location=place)
        )
        for arm, (params, metrics, files) in arms.items():
            known = client.search_runs(
                [number], filter_string=f"attributes.run_name = '{arm}'", max_results=1
            )
            again = (
                {"run_id": known[0].info.run_id}
                if known
                else {"experiment_id": number, "run_name": arm}
            )
            with mlflow.start_run(**again):
                mlflow.set_tags({f"recipe.{key}": value[:5000] for key, value in flat(params)})
                mlflow.log_metrics({metric_name(name): value for name, value in metrics.items()})
                for file in (*files, *shared):
                    mlflow.log_artifact(str(file))


def metric_name(column: str) -> str:
    """A table's column as MLflow takes it.

    Some characters only, and no dots at the front (a path's).
    """
    return re.sub(r"[^\w\-. /]", "_", column.replace("@", "_at_")).lstrip(". ")


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One writer per folder of runs at a time.

    SQLite takes no two, least of all while the database is being made.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / "mlflow.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _metrics(values: Mapping[str, float], step: int, at: int) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(name, value, at, step) for name, value in values.items()]


def _tags(values: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in values.items()]


def main(arguments: list[str]) -> int:
    """The child process of `start_sync`: its last line says what went wrong."""
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    sync(Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
