"""The arms of a study in MLflow: one run per arm, with its numbers and its tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ouroloop.loop.trackers.mlflow_store import (
    default_uri,
    one_writer,
    quoted,
    set_environment,
)
from ouroloop.loop.trackers.points import flat

# Recipe keys, metrics, files.
Arm = tuple[dict[str, Any], Mapping[str, float], list[Path]]

# MLflow takes 8,000 characters; a value beyond this is a text that nobody compares.
MAX_TAG_LENGTH = 5000


def record_arms(root: Path, experiment: str, arms: Mapping[str, Arm], shared: list[Path]) -> None:
    """One run per arm of a study, in an experiment of the folder of runs.

    Recorded again, an arm's run takes the new numbers. May raise anything.

    Args:
        root: The folder of all runs.
        experiment: The experiment's name.
        arms: Name of each arm -> what is recorded of it.
        shared: Files that every arm's run gets.
    """
    set_environment()
    import mlflow

    with one_writer(root):
        mlflow.set_tracking_uri(default_uri(root))
        client = mlflow.MlflowClient()
        number = _experiment(client, experiment, root)
        for arm, (params, metrics, files) in arms.items():
            # Parameters cannot be changed once they are logged; tags can.
            with mlflow.start_run(**_run_of(client, number, arm)):
                values = {f"recipe.{key}": value for key, value in flat(params)}
                mlflow.set_tags({key: value[:MAX_TAG_LENGTH] for key, value in values.items()})
                mlflow.log_metrics({metric_name(name): value for name, value in metrics.items()})
                for file in (*files, *shared):
                    mlflow.log_artifact(str(file))


def _experiment(client: Any, name: str, root: Path) -> str:
    found = client.get_experiment_by_name(name)
    if found:
        return str(found.experiment_id)
    place = (root / "mlartifacts").resolve().as_uri()
    return str(client.create_experiment(name, artifact_location=place))


def _run_of(client: Any, experiment_id: str, arm: str) -> dict[str, str]:
    """What `mlflow.start_run` takes to continue the arm's run, or to make it."""
    query = f"attributes.run_name = {quoted(arm)}"
    # An arm that is recorded a second time replaces its numbers, and gets no second run.
    for known in client.search_runs([experiment_id], filter_string=query, max_results=1):
        return {"run_id": known.info.run_id}
    return {"experiment_id": experiment_id, "run_name": arm}


def metric_name(column: str) -> str:
    """A table's column as MLflow takes it.

    Some characters only, and no dots at the front (a path's).
    """
    return re.sub(r"[^\w\-. /]", "_", column.replace("@", "_at_")).lstrip(". ")
