"""What MLflow shows of a run, and of each of its rounds."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping
from typing import Any

from ouroloop.loop.round import Round
from ouroloop.loop.trackers.mlflow_store import RunStore
from ouroloop.loop.trackers.points import (
    committed_at,
    curve,
    ended,
    plain,
    points,
    sample_rows,
    tags,
    weights_sha256,
)
from ouroloop.loop.views import figures
from ouroloop.loop.views.account import sentences
from ouroloop.loop.views.measures import BY_KEY, common_strategies
from ouroloop.loop.views.progress import rounds_table
from ouroloop.loop.views.reader import RoundData, RunData

# MLflow takes a thousand metrics in a batch at most.
MAX_METRICS_PER_BATCH = 500

# How a run stands -> MLflow's word for it. A stopped run can be resumed, and is then running again.
STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}

# The columns of examples.parquet or pairs.parquet that a person reads in the dataset's preview.
READ_COLUMNS = (
    "problem_id",
    "text",
    "chosen",
    "rejected",
    "origin",
    "round",
    "strategy",
    "probability",
)


class RunRecorder:
    """Records committed rounds, then how the whole run stands.

    Recording twice changes nothing: metric points carry the time at which the round was committed,
    and MLflow stores equal points once.
    """

    def __init__(self, run: RunData, store: RunStore, table_rows: int) -> None:
        self.run, self.store, self.client = run, store, store.client
        self.table_rows = table_rows

    def log_round(self, round: RoundData) -> None:
        """Record a committed round, unless it is recorded already."""
        import mlflow

        entry = self.store.entry(round.number)
        if entry.get("done"):
            return
        child = self.store.open_round(round.number)
        measured = _metrics(points(self.run, round), round.number, committed_at(round))
        with mlflow.start_run(run_id=child):
            self.client.log_batch(child, metrics=measured, tags=_tags(tags(self.run, round)))
            self._log_training(round, child)
            self._log_artifacts(round, child)
            self._log_checkpoint(round, child)
        self.client.set_terminated(child, "FINISHED", end_time=committed_at(round))
        # The parent's charts have one point per round.
        self.client.log_batch(self.store.parent, metrics=measured)
        entry["done"] = True
        self.store.save()

    def close(self) -> None:
        """Write on the parent how the run stands, in words and tags.

        Move `champion` to the best checkpoint.
        """
        run, parent = self.run, self.store.parent
        shown = {
            "mlflow.note.content": "\n\n".join([*sentences(run), rounds_table(run)]),
            "best_round": str(run.best_round),
        }
        if run.rounds:
            shown["decision"] = run.rounds[-1].action
        if run.failure:
            shown["failure"] = run.failure
        elif "failure" in self.client.get_run(parent).data.tags:
            # The failure of an attempt that has since been resumed.
            self.client.delete_tag(parent, "failure")
        self.client.log_batch(parent, tags=_tags(shown))
        self._move_champion()
        if run.state == "running":
            self.client.update_run(parent, status="RUNNING")
        else:
            self.client.set_terminated(parent, STATUS[run.state], end_time=ended(run))

    def _log_training(self, round: RoundData, child: str) -> None:
        """The training curve, and what was learnt from as a dataset."""
        import mlflow

        steps: list[Any] = []
        for step, values in curve(round):
            steps += _metrics(values, step, committed_at(round))
        for start in range(0, len(steps), MAX_METRICS_PER_BATCH):
            batch = steps[start : start + MAX_METRICS_PER_BATCH]
            self.client.log_batch(child, metrics=batch)
        learnt, file = round.examples, Round.examples.file
        if len(round.pairs):
            learnt, file = round.pairs, Round.pairs.file
        if not len(learnt):
            return
        columns = [column for column in READ_COLUMNS if column in learnt]
        # MLflow finds two ways to read a local path, warns, and takes the right one.
        with warnings.catch_warnings(action="ignore"):
            data = mlflow.data.from_pandas(
                learnt[columns].astype(str),
                source=str(round.path / file),
                name=f"{self.run.name}-r{round.number:02d}-train",
            )
        mlflow.log_input(data, context="train")

    def _log_artifacts(self, round: RoundData, child: str) -> None:
        """The decision, some samples as a table, and two figures."""
        import mlflow

        mlflow.log_dict(round.decision, "decision.json")
        rows = list(sample_rows(round, self.table_rows))
        # MLflow would append to a table that an interrupted sync has left there.
        is_there = any(a.path == "samples.json" for a in self.client.list_artifacts(child))
        if rows and not is_there:
            table = {key: [row[key] for row in rows] for key in rows[0]}
            mlflow.log_table(table, "samples.json")
        if len(round.probe):
            # Strategies of all rounds, so that a colour means the same in every round's figure.
            names = common_strategies(self.run.rounds, len(figures.BANDS))
            areas = figures.strategy_areas(self.run, names, upto=round.number, legend=True)
            mlflow.log_figure(areas, "figures/strategies.png")
            diagram = figures.reliability_diagram([(f"round {round.number}", round)], legend=True)
            mlflow.log_figure(diagram, "figures/reliability.png")

    def _log_checkpoint(self, round: RoundData, child: str) -> None:
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
        if value == value:  # NaN is undefined, and MLflow's charts would break on it
            mlflow.log_metric(
                plain(BY_KEY["pass@1"].of(round).id),
                value,
                timestamp=committed_at(round),
                step=round.number,
                model_id=model.model_id,
            )

    def _move_champion(self) -> None:
        """One registered model per run, one version per round that was ever best.

        The alias is what moves, back too.
        """
        from mlflow.exceptions import MlflowException

        known, best = self.store.known, self.run.best_round
        child = known["rounds"].get(str(best), {}).get("run_id")
        if not child or known.get("champion") == best:
            return
        model = self._model(child)
        if model is None:
            return
        name = f"ouroloop-{self.run.name}"
        with contextlib.suppress(MlflowException):  # it exists already
            self.client.create_registered_model(name)
        versions = self.client.search_model_versions(f"name = '{name}' and run_id = '{child}'")
        if versions:
            version = versions[0]
        else:
            version = self.client.create_model_version(
                name,
                source=f"models:/{model}",
                run_id=child,
                model_id=model,
                description=f"Round {best}: {self.run.checkpoint(best)}",
            )
        self.client.set_registered_model_alias(name, "champion", version.version)
        known["champion"] = best
        self.store.save()

    def _model(self, child: str) -> str | None:
        """The id of the LoggedModel of a round's run."""
        query = f"source_run_id = '{child}'"
        found = self.client.search_logged_models(
            [self.store.experiment], filter_string=query, max_results=1
        )
        return str(found[0].model_id) if found else None


def _metrics(values: Mapping[str, float], step: int, at: int) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(name, value, at, step) for name, value in values.items()]


def _tags(values: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in values.items()]
