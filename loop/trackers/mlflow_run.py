"""What MLflow shows of a run, and of each of its rounds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ouroloop.loop.round import Round
from ouroloop.loop.trackers.mlflow_models import log_checkpoint, move_aliases, registered_name
from ouroloop.loop.trackers.mlflow_store import RunStore
from ouroloop.loop.trackers.mlflow_traces import link, log_traces
from ouroloop.loop.trackers.page import digest_of
from ouroloop.loop.trackers.points import (
    committed_at,
    curve,
    ended,
    points,
    sample_rows,
    tags,
)
from ouroloop.loop.trackers.trace_drafts import drafts
from ouroloop.loop.views import figures, steering
from ouroloop.loop.views.measures import common_strategies
from ouroloop.loop.views.reader import RoundData, RunData

# MLflow takes a thousand metrics in a batch at most.
MAX_METRICS_PER_BATCH = 500

# How a run stands -> MLflow's word for it. A stopped run can be resumed, and is then running again.
STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}

NOTE = "mlflow.note.content"
# On one line: MLflow shows a line break as one. The address is one of its own pages.
WHERE_TO_LOOK = (
    "**Where to look.** *Model metrics*: `1_headline`; `decision/action` (0 continue, 1 reinject,"
    " 2 rollback, 3 halt); `evidence/watch` and `evidence/halt` (log e) with their limits;"
    " `tolerance` (room of each guarded quantity in tolerances, 0 is the limit). *Traces*: samples"
    " of each round from draft to verdict. *Artifacts*: `report.html`. *Child runs*: everything"
    " else of each round. *Model registry*: [{model}](#/models/{model}), the checkpoint to take as"
    " `{model}@champion`."
)

# The columns of a round's tables that a person reads in the preview of a dataset.
READ_COLUMNS = (
    "problem_id",
    "problem",
    "family",
    "slice",
    "correct",
    "text",
    "chosen",
    "rejected",
    "origin",
    "round",
    "strategy",
    "probability",
)


class RunRecorder:
    """A `Page` that is MLflow's: the run as a parent, and each of its rounds as a child.

    Recording twice changes nothing: metric points carry the time at which the round was committed,
    and MLflow stores equal points once.

    Args:
        run: what is recorded.
        store: where.
        table_rows: samples in a round's table.
        traces: samples of a round as traces.
    """

    def __init__(self, run: RunData, store: RunStore, table_rows: int, traces: int) -> None:
        self.run, self.store, self.client = run, store, store.client
        self.memory = store.memory
        self.where_to_look = WHERE_TO_LOOK.format(model=registered_name(run))
        self.table_rows, self.traces = table_rows, traces

    def log_round(self, round: RoundData, numbers: Mapping[str, float]) -> None:
        """See `Page.log_round`; and all the rest of the round, on a page of its own."""
        import mlflow

        child = self.store.open_round(round.number)
        measured = _metrics(points(self.run, round), round.number, committed_at(round))
        with mlflow.start_run(run_id=child):
            # Before there are numbers: MLflow asks for the history of each that a model's run has.
            log_checkpoint(self.run, round, self.store, child)
            self.client.log_batch(child, metrics=measured, tags=_tags(tags(self.run, round)))
            self._log_training(round, child)
            self._log_artifacts(round, child)
            self._log_datasets(round, child)
        # After the run's own data: a trace links to its run, and a cut-off sync repeats both.
        self._log_traces(round, child)
        self.client.set_terminated(child, "FINISHED", end_time=committed_at(round))
        # The parent's charts have one point per round: few of them, those that are read first.
        shown = _metrics(numbers, round.number, committed_at(round))
        self.client.log_batch(self.store.parent, metrics=shown)
        # A round takes seconds here: a sync that is cut off shall not begin with the first again.
        self.memory.entry(round.number)["done"] = True
        self.memory.save()

    def write(self, note: str, decisions: Mapping[int, str]) -> None:
        """See `Page.write`: the description of the run's page, and of each round's."""
        self.client.set_tag(self.store.parent, NOTE, note)
        for number, decision in decisions.items():
            entry = self.memory.entry(number)
            # Compared by hash, here: one request for each round at every sync would make it slow.
            digest = digest_of(decision)
            if entry.get("note") != digest:
                self.client.set_tag(entry["run_id"], NOTE, decision)
                entry["note"] = digest

    def attach(self, report: Path) -> None:
        """See `Page.attach`; and the figures of the whole run."""
        run, parent = self.run, self.store.parent
        self.client.log_artifact(parent, str(report))
        names = common_strategies(run.rounds, len(figures.BANDS))
        if names:
            areas = figures.strategy_areas(run, names, legend=True, marks=steering.marks(run))
            self.client.log_figure(parent, areas, "figures/strategies.png")
        chosen = {
            r.number: r for r in (run.rounds[0], run.round(run.best_round), run.rounds[-1]) if r
        }
        lines = [(f"round {number}", round) for number, round in chosen.items()]
        diagram = figures.reliability_diagram(lines, legend=True)
        self.client.log_figure(parent, diagram, "figures/reliability.png")

    def close(self) -> None:
        """See `Page.close`: status and tags of the run's page; and the aliases move."""
        run, parent = self.run, self.store.parent
        shown = {"best_round": str(run.best_round)}
        if run.rounds:
            shown["decision"] = run.rounds[-1].action
        if run.failure:
            shown["failure"] = run.failure
        elif "failure" in self.client.get_run(parent).data.tags:
            # The failure of an attempt that has since been resumed.
            self.client.delete_tag(parent, "failure")
        self.client.log_batch(parent, tags=_tags(shown))
        move_aliases(run, self.store)
        if run.state == "running":
            self.client.update_run(parent, status="RUNNING")
            return
        self.client.set_terminated(parent, STATUS[run.state], end_time=ended(run))

    def _log_training(self, round: RoundData, child: str) -> None:
        """The training curve."""
        steps: list[Any] = []
        for step, values in curve(round):
            steps += _metrics(values, step, committed_at(round))
        for start in range(0, len(steps), MAX_METRICS_PER_BATCH):
            batch = steps[start : start + MAX_METRICS_PER_BATCH]
            self.client.log_batch(child, metrics=batch)

    def _log_datasets(self, round: RoundData, child: str) -> None:
        """What was learnt from and what was measured on, on the round's page and the run's."""
        learnt, file = round.examples, Round.examples.file
        if len(round.pairs):
            learnt, file = round.pairs, Round.pairs.file
        train = _dataset(learnt, round, file, f"{self.run.name}-r{round.number:02d}-train")
        probe = _dataset(round.probe, round, Round.probe.file, f"{self.run.name}-probe-set")
        found = {"train": train, "probe": probe}
        for context, dataset in found.items():
            if dataset is None:
                continue
            given = _dataset_input(dataset, context)
            self.client.log_inputs(child, [given])
            # The probe set is the same in every round; round 0's answers stand for it.
            if context == "train" or round.number == 0:
                self.client.log_inputs(self.store.parent, [given])

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

    def _log_traces(self, round: RoundData, child: str) -> None:
        """Samples from draft to verdict: on the round's page, and on the run's."""
        seed = int(self.run.recipe.get("seed", 0))
        found = drafts(round, self.traces, seed)
        ids = log_traces(self.run, round, found, self.store.uri, self.store.experiment, child)
        link(self.client, ids, self.store.parent)


def _dataset(table: Any, round: RoundData, file: str, name: str) -> Any:
    """A round's Parquet table as MLflow names it; None for an empty one."""
    import mlflow

    if not len(table):
        return None
    columns = [column for column in READ_COLUMNS if column in table]
    # MLflow finds two ways to read a local path, warns, and takes the right one.
    with warnings.catch_warnings(action="ignore"):
        return mlflow.data.from_pandas(
            table[columns].astype(str), source=str(round.path / file), name=name
        )


def _dataset_input(dataset: Any, context: str) -> Any:
    from mlflow.entities import DatasetInput, InputTag

    tag = InputTag("mlflow.data.context", context)
    return DatasetInput(dataset._to_mlflow_entity(), [tag])


def _metrics(values: Mapping[str, float], step: int, at: int) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(name, value, at, step) for name, value in values.items()]


def _tags(values: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(name, value) for name, value in values.items()]
