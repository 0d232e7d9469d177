from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_run
import pytest

from ouroloop.loop.errors import UserError
from ouroloop.loop.experiments import loading
from ouroloop.loop.trackers import mlflow_arms, process
from ouroloop.loop.trackers.mlflow import MlflowTracker, ui
from ouroloop.loop.trackers.mlflow_store import default_uri, quoted
from ouroloop.loop.trackers.points import committed_at, points, sample_rows, weights_sha256
from ouroloop.loop.views.reader import read_run

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow


def test_a_round_has_fewer_than_a_hundred_points_and_none_undefined(
    arms: tuple[Path, Path],
) -> None:
    run = read_run(arms[0])
    for round in run.rounds:
        found = points(run, round)
        assert 30 < len(found) < 100
        assert all(value == value and set(name).isdisjoint("@[]") for name, value in found.items())
    assert {
        "accuracy/pass_at_1:worded",
        "accuracy/pass_at_1:worded_low",
        "accuracy/pass_at_1:longer",
        "diversity/dcp:worded_high",
        "train/seconds",
    } <= set(points(run, run.rounds[3]))
    assert "calibration/overconfidence_at_8:worded" not in points(run, run.rounds[2])


def test_a_copied_run_was_committed_when_the_run_was(
    arms: tuple[Path, Path], tmp_path: Path
) -> None:
    """Else its points would be others than those that MLflow has already."""
    found = [committed_at(round) for round in read_run(arms[0]).rounds]
    assert found == sorted(found) and found[1] - found[0] == 60_000
    # As `cp -r` does, which keeps no times.
    copied = shutil.copytree(arms[0], tmp_path / arms[0].name, copy_function=shutil.copyfile)
    for manifest in copied.rglob("MANIFEST.json"):
        os.utime(manifest, (0, 0))
    assert [committed_at(round) for round in read_run(copied).rounds] == found


def test_weights_in_several_files_have_one_digest_that_each_of_them_changes(
    arms: tuple[Path, Path],
) -> None:
    run = read_run(arms[0])

    def digest(*sums: str) -> str:
        names = ["model.safetensors"]
        if len(sums) > 1:
            names = [f"model-{n}-of-{len(sums)}.safetensors" for n in range(len(sums))]
        files = {f"checkpoint/{n}": {"sha256": s} for n, s in zip(names, sums, strict=True)}
        round = replace(run.rounds[1], manifest={"files": {**files, "plan.json": {"sha256": "p"}}})
        return weights_sha256(run, round, round.path / "checkpoint")

    assert digest("a" * 64) == "a" * 64
    several = {digest("a", "b"), digest("a", "c"), digest("c", "b"), digest("b", "a")}
    assert len(several) == 4 and all(len(each) == 64 for each in several)


def test_the_samples_table_shows_as_many_as_asked_spread_over_the_round(
    arms: tuple[Path, Path],
) -> None:
    round = read_run(arms[0]).rounds[1]
    rows = list(sample_rows(round, 12))
    assert 10 <= len(rows) <= 12 and len({row["problem"] for row in rows}) > 8
    assert {row["verdict"] for row in rows} == {"kept", "rejected"}
    revised = [row for row in rows if row["revision"]]
    assert revised and all(row["critique"] and row["final"] == row["revision"] for row in revised)
    assert list(sample_rows(round, 0)) == []


def test_the_pages_of_an_unrecorded_folder_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ouroloop sync"):
        ui(tmp_path)


class Note:
    """A tracker of somebody's own: it leaves a line per sync."""

    def __init__(self, file: str = "note.txt", fails: bool = False) -> None:
        self.file, self.fails = file, fails

    def sync(self, run_path: Path) -> None:
        if self.fails:
            raise ConnectionError("nobody\nanswers")
        with (run_path / self.file).open("a") as note:
            note.write(f"{len(read_run(run_path).rounds)} rounds\n")


def tracked_by(path: Path, *trackers: dict[str, Any]) -> None:
    """Change which trackers the run's recipe asks for."""
    recipe = json.loads((path / "recipe.json").read_text())
    recipe["tracking"] = {"mlflow": False, "trackers": trackers}
    (path / "recipe.json").write_text(json.dumps(recipe))


def test_a_tracker_of_ones_own_is_made_with_its_options_and_a_failing_one_stops_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fake_run.make_run(tmp_path, "own", rounds=1)
    use = f"{__name__}:Note"
    tracked_by(
        path,
        {"use": use, "options": {"fails": True}},
        {"use": "no_such_module:Tracker"},
        {"use": use, "options": {"file": "other.txt"}},
    )
    failures = process.sync(path)
    assert failures[0] == f"{use}: ConnectionError: nobody answers"
    assert failures[1].startswith("tracking.trackers: no_such_module:Tracker: no_such_module can")
    assert len(failures) == 2 and "Traceback" in capsys.readouterr().err
    assert (path / "other.txt").read_text() == "2 rounds\n"


def test_a_tracker_whose_package_is_missing_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fake_run.make_run(tmp_path, "without", rounds=1)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    (failure,) = process.sync(path)
    assert failure == (
        "tracking by mlflow needs mlflow, which is not installed: pip install 'ouroloop[mlflow]'"
    )


@pytest.mark.slow
def test_a_run_waits_for_no_tracker_and_reports_what_failed_on_one_line(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "untracked", rounds=1)
    tracked_by(path, {"use": "no_such_module:Tracker"})
    message = process.safe_sync(path, seconds=None)
    assert message is not None and message.startswith("tracking.trackers: no_such_module:Tracker")
    assert "\n" not in message and "ouroloop sync" in message
    tracked_by(path)
    assert process.safe_sync(path, seconds=None) is None


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of two rounds, recorded once in this process."""
    import mlflow

    before = mlflow.get_tracking_uri()
    path = fake_run.make_run(tmp_path_factory.mktemp("tracked"), "tracked", rounds=2)
    MlflowTracker(traces=4).sync(path)
    yield path
    mlflow.set_tracking_uri(before)


def everything(path: Path) -> dict[str, Any]:
    """All that MLflow holds for a folder of runs, in comparable form."""
    import mlflow

    client = mlflow.MlflowClient(default_uri(path.parent))
    experiment = client.get_experiment_by_name("ouroloop")
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    history = {
        (r.info.run_name, key): [
            (m.step, m.value) for m in client.get_metric_history(r.info.run_id, key)
        ]
        for r in runs
        for key in r.data.metrics
    }
    models = client.search_logged_models([experiment.experiment_id])
    champions = {m.name: m.aliases for m in client.search_registered_models()}
    return {
        "runs": {r.info.run_id: r for r in runs},
        "history": history,
        "models": {m.model_id for m in models},
        "champions": champions,
    }


def ids(path: Path) -> dict[str, Any]:
    return json.loads((path / "tracking.json").read_text())


@pytest.mark.slow
def test_a_campaign_is_a_parent_with_a_point_per_round_and_a_child_per_round(
    recorded: Path,
) -> None:
    import mlflow

    found, run = everything(recorded), read_run(recorded)
    parent = found["runs"][ids(recorded)["parent"]]
    assert (
        parent.info.status == "FINISHED"
        and parent.data.params["rounds"] == "2"
        and parent.data.tags["best_round"] == str(run.best_round)
    )
    assert found["history"]["tracked", "1_headline/01 pass_at_1"] == [
        (r.number, r.score("pass@1")[0]) for r in run.rounds
    ]
    assert found["history"]["round-01", "accuracy/pass_at_1:worded"][0] == (
        1,
        run.rounds[1].score("pass@1")[0],
    )
    children = [
        r
        for r in found["runs"].values()
        if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    ]
    assert sorted(r.info.run_name for r in children) == ["round-00", "round-01", "round-02"]
    last = next(r for r in children if r.info.run_name == "round-02")
    assert (
        last.data.tags["decision"] == "continue"
        and last.data.tags["decision.carried_out"] == "true"
    )
    assert {(d.dataset.name, d.tags[0].value) for d in last.inputs.dataset_inputs} == {
        ("tracked-r02-train", "train"),
        ("tracked-probe-set", "probe"),
    }
    assert len(found["history"]["round-02", "train/loss"]) == len(run.rounds[2].train["loss"])
    client = mlflow.MlflowClient(default_uri(recorded.parent))
    artifacts = {a.path for a in client.list_artifacts(last.info.run_id)} | {
        a.path for a in client.list_artifacts(last.info.run_id, "figures")
    }
    assert {
        "decision.json",
        "samples.json",
        "figures/reliability.png",
        "figures/strategies.png",
    } <= artifacts
    assert (recorded.parent / "mlartifacts" / last.info.run_id).is_dir()


@pytest.mark.slow
def test_the_alias_champion_leads_to_the_best_rounds_checkpoint(recorded: Path) -> None:
    import mlflow

    run, client = read_run(recorded), mlflow.MlflowClient(default_uri(recorded.parent))
    version = client.get_model_version_by_alias("ouroloop-tracked", "champion")
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    weights = run.path / "rounds" / f"{run.best_round:03d}" / "checkpoint" / "model.safetensors"
    assert Path(model.params["path"]) == weights.parent
    assert (
        model.params["sha256"]
        == run.rounds[run.best_round or 0].manifest["files"]["checkpoint/model.safetensors"][
            "sha256"
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["nothing", "the note that a round is done", "tracking.json"])
def test_recording_again_doubles_nothing(recorded: Path, lost: str) -> None:
    before = everything(recorded)
    if lost == "tracking.json":
        (recorded / "tracking.json").unlink()
    elif lost != "nothing":
        known = ids(recorded)
        del known["rounds"]["2"]["done"]
        (recorded / "tracking.json").write_text(json.dumps(known))
    MlflowTracker(traces=4).sync(recorded)
    after = everything(recorded)
    assert after["runs"].keys() == before["runs"].keys()
    assert after["history"] == before["history"]
    assert after["champions"] == before["champions"]
    assert after["models"] == before["models"]


@pytest.mark.slow
def test_a_run_that_has_grown_is_continued(recorded: Path) -> None:
    path = recorded.parent / "growing"
    fake_run.make_run(recorded.parent, "growing", rounds=2)
    hidden = path / "rounds" / "002" / "MANIFEST.json"
    manifest = hidden.read_text()
    hidden.unlink()
    MlflowTracker(traces=4).sync(path)
    parent = ids(path)["parent"]
    assert sorted(ids(path)["rounds"]) == ["0", "1"]
    hidden.write_text(manifest)
    MlflowTracker(traces=4).sync(path)
    assert ids(path)["parent"] == parent and sorted(ids(path)["rounds"]) == ["0", "1", "2"]
    assert [
        step for step, _ in everything(path)["history"]["growing", "1_headline/01 pass_at_1"]
    ] == [
        0,
        1,
        2,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [0, 1])
def test_a_failed_run_is_failed_with_its_reason_until_it_is_resumed(
    recorded: Path, rounds: int
) -> None:
    path = fake_run.make_failed_run(recorded.parent, f"broken-{rounds}", rounds=rounds)
    if rounds == 0:
        (path / "rounds" / "000" / "MANIFEST.json").unlink()  # before its first round was finished
    reason = "EngineError: the engine ended CUDA <out of memory>"
    MlflowTracker(traces=4).sync(path)
    parent = ids(path)["parent"]
    run = everything(path)["runs"][parent]
    assert (
        run.info.status == "FAILED"
        and run.data.tags["failure"] == reason
        and reason in run.data.tags["mlflow.note.content"]
    )
    fake_run.add_events(path, fake_run.STARTED, fake_run.FINISHED)
    MlflowTracker(traces=4).sync(path)
    run = everything(path)["runs"][parent]
    assert run.info.status == "FINISHED" and "failure" not in run.data.tags
    assert reason not in run.data.tags["mlflow.note.content"]


@pytest.mark.slow
def test_every_column_of_every_reproduction_is_taken_and_an_arm_recorded_again_is_one_run(
    tmp_path: Path,
) -> None:
    import mlflow

    experiments = [loading.load(path) for path in loading.available()]
    names = [name for made in experiments for name in made.columns]
    assert len(names) > 50
    table = tmp_path / "report.md"
    table.write_text("table")
    for value in (1.0, 2.0):
        mlflow_arms.record_arms(
            tmp_path / "new",
            "reproduce-all",
            {"nobody's": ({"model": "m"}, dict.fromkeys(names, value), [table])},
            [],
        )
    client = mlflow.MlflowClient(default_uri(tmp_path / "new"))
    (run,) = client.search_runs([client.get_experiment_by_name("reproduce-all").experiment_id])
    assert set(run.data.metrics) == {mlflow_arms.metric_name(name) for name in names} and set(
        run.data.metrics.values()
    ) == {2.0}


@pytest.mark.slow
def test_a_store_that_fails_is_one_line_of_text_and_hurts_nothing(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "untracked", rounds=1)
    recipe = json.loads((path / "recipe.json").read_text())
    recipe["tracking"]["uri"] = "sqlite:////dev/null/nowhere/mlflow.db"
    (path / "recipe.json").write_text(json.dumps(recipe))
    before = {p: p.stat().st_mtime_ns for p in (path / "rounds").rglob("*")}
    message = process.safe_sync(path, seconds=None)
    assert (
        message is not None
        and message.startswith("mlflow: ")
        and "\n" not in message
        and "ouroloop sync" in message
    )
    assert {p: p.stat().st_mtime_ns for p in (path / "rounds").rglob("*")} == before


@pytest.mark.slow
def test_the_loop_does_not_wait_and_one_process_works_on_a_folder_at_a_time(recorded: Path) -> None:
    twin = shutil.copytree(
        recorded, recorded.parent / "twin", ignore=shutil.ignore_patterns("tracking.*")
    )
    began = time.monotonic()
    first, second = process.start_sync(recorded), process.start_sync(twin)
    assert time.monotonic() - began < 1 and first is second and first.poll() is None
    assert process.safe_sync(twin, seconds=None) is None
    assert first.poll() == 0 and sorted(ids(twin)["rounds"]) == ["0", "1", "2"]


@pytest.mark.parametrize("folder", ["/runs/demo", "/data/o'brien/runs/demo"])
def test_a_folder_is_found_again_whatever_it_is_called(folder: str) -> None:
    from mlflow.utils.search_utils import SearchUtils

    (found,) = SearchUtils.parse_search_filter(f"tags.`ouroloop.folder` = {quoted(folder)}")
    assert found["value"] == folder
