"""W&B offline and Trackio, on the real libraries; and what every page is asked to show.

Where a library is not installed its tests are skipped; what is asked of a page is tested without.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fake_run
import pytest

from ouroloop.loop.errors import RecipeError
from ouroloop.loop.trackers import page as pages
from ouroloop.loop.trackers import process
from ouroloop.loop.trackers.headline import headline
from ouroloop.loop.trackers.page import Memory, bring_up_to_date
from ouroloop.loop.trackers.trackio import TrackioTracker
from ouroloop.loop.trackers.wandb import WandbTracker, chosen_mode, metric_name
from ouroloop.loop.views.reader import RoundData, read_run

FAILURE = "EngineError: the engine ended CUDA <out of memory>"


class Paper:
    """A page that remembers what it was asked to show."""

    where_to_look = "Where to look: here."

    def __init__(self, path: Path, breaks_at: int | None = None) -> None:
        self.run = read_run(path)
        self.memory = Memory(path / "tracking-paper.json")
        self.breaks_at = breaks_at
        self.shown: list[Any] = []

    def log_round(self, round: RoundData, numbers: Mapping[str, float]) -> None:
        if round.number == self.breaks_at:
            raise ConnectionError("nobody answers")
        self.shown.append((round.number, dict(numbers)))

    def write(self, note: str, decisions: Mapping[int, str]) -> None:
        self.shown.append((note, dict(decisions)))

    def attach(self, report: Path) -> None:
        self.shown.append(report.read_text(encoding="utf-8"))

    def close(self) -> None:
        self.shown.append(self.run.state)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every report that was drawn; drawing takes seconds, and is tested elsewhere."""
    found: list[Path] = []

    def draw(runs: list[Path], file: Path) -> Path:
        found.append(file)
        file.write_text("<title>the report</title>", encoding="utf-8")
        return file

    monkeypatch.setattr(pages, "write_report", draw)
    return found


def hide_round(path: Path, number: int) -> Path:
    """Take a round's manifest away, as if it were not committed yet; returns where it is kept."""
    kept = path / f"manifest-{number}"
    (path / "rounds" / f"{number:03d}" / "MANIFEST.json").rename(kept)
    return kept


def bring_back(path: Path, kept: Path) -> None:
    kept.rename(path / "rounds" / f"{int(kept.name[-1]):03d}" / "MANIFEST.json")


@pytest.mark.slow
def test_a_page_is_asked_only_for_what_is_new(tmp_path: Path, drawn: list[Path]) -> None:
    path = fake_run.make_run(tmp_path, "r", rounds=2)
    kept = hide_round(path, 2)
    first = Paper(path)
    bring_up_to_date(first.run, first)
    numbers = [entry for entry in first.shown if isinstance(entry[0], int)]
    assert numbers == [(r.number, headline(first.run, r)) for r in first.run.rounds]
    note, decisions = first.shown[2]
    assert note.startswith("**Checkpoint to take:** round ") and "Where to look: here." in note
    assert decisions.keys() == {0, 1} and all(text.startswith("**") for text in decisions.values())
    assert first.shown[3:] == ["<title>the report</title>", "finished"]

    again = Paper(path)
    bring_up_to_date(again.run, again)
    assert again.shown == ["finished"]

    bring_back(path, kept)
    grown = Paper(path)
    bring_up_to_date(grown.run, grown)
    assert grown.shown[0][0] == 2 and grown.shown[1][1].keys() == {0, 1, 2}
    assert len(grown.shown) == 4 and len(drawn) == 2


@pytest.mark.slow
def test_what_a_cut_off_sync_showed_is_shown_again_and_a_failure_stands_on_the_page(
    tmp_path: Path, drawn: list[Path]
) -> None:
    path = fake_run.make_failed_run(tmp_path, rounds=1)
    broken = Paper(path, breaks_at=1)
    with pytest.raises(ConnectionError):
        bring_up_to_date(broken.run, broken)
    assert [entry[0] for entry in broken.shown] == [0]
    whole = Paper(path)
    bring_up_to_date(whole.run, whole)
    assert [entry[0] for entry in whole.shown[:2]] == [0, 1]
    assert whole.shown[2][0].startswith(f"**Failed:** {FAILURE}")
    assert whole.shown[-1] == "failed" and whole.run.failure == FAILURE


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"rounds": 3}', '{"rounds": null}'])
def test_a_damaged_memory_is_an_empty_one(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "tracking-paper.json"
    file.write_text(damage)
    assert Memory(file).known == {"rounds": {}}


# -- W&B ------------------------------------------------------------------------------------------


def records(file: Path) -> list[Any]:
    """What a .wandb file holds: records in the log format of LevelDB, in blocks of 32 KB."""
    from wandb.proto import wandb_internal_pb2 as proto

    content, place, found, parts = file.read_bytes(), 7, [], b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # the rest of a block is too small for a header
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = proto.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


def kept_offline(root: Path) -> list[dict[str, Any]]:
    """Each piece that a sync left: id, notes, history by step, summary, files, exit code."""
    pieces = []
    for file in sorted(root.glob("wandb/offline-run-*/run-*.wandb")):
        piece: dict[str, Any] = {"history": [], "summary": {}, "files": [], "folder": file.parent}
        for record in records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                piece |= {"id": record.run.run_id, "notes": record.run.notes, "run": record.run}
            elif kind == "history":
                values = {item.key or item.nested_key[0]: item for item in record.history.item}
                row = {key: json.loads(item.value_json) for key, item in values.items()}
                piece["history"].append(row)
            elif kind == "summary":
                for item in record.summary.update:
                    piece["summary"]["/".join(item.nested_key) or item.key] = json.loads(
                        item.value_json
                    )
            elif kind == "files":
                piece["files"] += [one.path for one in record.files.files]
            elif kind == "exit":
                piece["exit_code"] = record.exit.exit_code
        pieces.append(piece)
    return pieces


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    # Nor one that somebody's `wandb login` has left on this machine.
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "home"))


def test_wandb_goes_online_only_with_a_key(
    no_key: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert chosen_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert (chosen_mode("auto"), chosen_mode("offline")) == ("online", "offline")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert chosen_mode("auto") == "offline"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / "home").mkdir()
    login = tmp_path / "home" / ".netrc"
    login.write_text("machine api.wandb.ai login user password k\n")
    login.chmod(0o600)  # Python reads no other
    assert chosen_mode("auto") == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert chosen_mode("auto") == "offline"
    with pytest.raises(RecipeError, match="mode is 'on'; expected auto, online, offline"):
        WandbTracker(mode="on")


def test_names_are_such_as_wandb_can_sort_and_filter() -> None:
    assert metric_name("1_headline/01 pass_at_1") == "headline/01_pass_at_1"
    assert metric_name("tolerance/accuracy") == "tolerance/accuracy"


@pytest.mark.slow
def test_wandb_offline_holds_the_rounds_the_account_the_report_and_the_state(
    tmp_path: Path, no_key: None, drawn: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="W&B is not installed: pip install 'ouroloop[wandb]'")
    monkeypatch.setenv("WANDB_API_KEY", "5ec2e7" * 7)
    path = fake_run.make_failed_run(tmp_path, "r", rounds=1)
    kept = hide_round(path, 1)
    options = {"project": "mine", "entity": "us", "mode": "offline"}
    WandbTracker(**options).sync(path)
    bring_back(path, kept)
    fake_run.add_events(path, fake_run.STARTED, fake_run.FINISHED)
    WandbTracker(**options).sync(path)
    WandbTracker(**options).sync(path)  # nothing is new: no piece is left

    run = read_run(path)
    first, second = kept_offline(tmp_path)
    assert (
        first["id"] == second["id"] == json.loads((path / "tracking-wandb.json").read_text())["id"]
    )
    assert (second["run"].project, second["run"].entity) == ("mine", "us")
    assert [row["_step"] for row in first["history"]] == [0]
    assert [row["_step"] for row in second["history"]] == [1]
    expected = {metric_name(key): value for key, value in headline(run, run.rounds[1]).items()}
    shown = second["history"][0]
    assert {key: shown[key] for key in expected} == pytest.approx(expected) and shown["round"] == 1
    assert (first["exit_code"], second["exit_code"]) == (1, 0)
    assert first["summary"]["failure"] == FAILURE and first["summary"]["state"] == "failed"
    assert first["notes"].startswith(f"**Failed:** {FAILURE}")
    assert second["notes"].startswith("**Checkpoint to take:**") and "*Files*" in second["notes"]
    assert (second["summary"]["state"], second["summary"]["failure"]) == ("finished", "")
    assert second["summary"]["decisions/001"].startswith("**")
    assert "report.html" in second["files"]
    assert "the report" in (second["folder"] / "files" / "report.html").read_text()
    everything = b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    assert b"5ec2e75ec2e7" not in everything, "the key was written down"


# -- Trackio --------------------------------------------------------------------------------------


def in_trackio(root: Path) -> dict[str, Any]:
    """What Trackio's database of the project holds: steps and metrics, alerts, by run."""
    from trackio.sqlite_storage import SQLiteStorage

    found: dict[str, Any] = {}
    for record in SQLiteStorage.get_run_records("mine"):
        logs = SQLiteStorage.get_logs("mine", record["name"], run_id=record["id"])
        alerts = SQLiteStorage.get_alerts("mine", run_name=record["name"])
        found[record["name"]] = (logs, alerts)
    return found


@pytest.mark.slow
def test_trackio_holds_the_rounds_the_account_the_report_and_a_failure(
    tmp_path: Path, drawn: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "Trackio is not installed: pip install 'ouroloop[trackio]' (it asks for pillow<13)"
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio", reason=reason)
    path = fake_run.make_failed_run(tmp_path, "r", rounds=4)
    kept = hide_round(path, 4)
    TrackioTracker(project="mine").sync(path)
    ((name, (logs, alerts)),) = in_trackio(tmp_path).items()
    run = read_run(path)
    assert [alert["text"] for alert in alerts if "failed" in alert["title"]] == [FAILURE]
    steered = [f"round {r.number}: {r.action}" for r in run.rounds if r.action != "continue"]
    assert steered and set(steered) == {a["title"] for a in alerts} - {"the run failed"}

    bring_back(path, kept)
    fake_run.add_events(path, fake_run.STARTED, fake_run.FINISHED)
    TrackioTracker(project="mine").sync(path)
    TrackioTracker(project="mine").sync(path)
    ((again, (logs, _)),) = in_trackio(tmp_path).items()
    run = read_run(path)
    assert again == name
    rounds = [row for row in logs if "decision/action" in row or "headline/01_pass_at_1" in row]
    assert [row["step"] for row in rounds] == [0, 1, 2, 3, 4]
    for row, round in zip(rounds, run.rounds, strict=True):
        expected = {metric_name(key): value for key, value in headline(run, round).items()}
        assert {key: row[key] for key in expected} == pytest.approx(expected)
    account = [row["account"]["_value"] for row in logs if "account" in row]
    assert account[-1].startswith("**Checkpoint to take:**") and "### Round 4" in account[-1]
    blobs = (tmp_path / "trackio" / "artifacts").rglob("*")
    assert any("the report" in blob.read_text() for blob in blobs if blob.is_file())
    # Its page shows a table as bars.
    assert "\n- round 3, decision reinject" in account[-1] and "\n|" not in account[-1]

    # As a sync leaves it that was cut off: what is there is not known, and is made anew.
    known = json.loads((path / "tracking-trackio.json").read_text())
    (path / "tracking-trackio.json").write_text(json.dumps({**known, "is_open": True}))
    TrackioTracker(project="mine").sync(path)
    ((_, (logs, _)),) = in_trackio(tmp_path).items()
    steps = [row["step"] for row in logs if "headline/01_pass_at_1" in row]
    assert steps == [0, 1, 2, 3, 4]


# -- in a recipe ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_whose_package_is_missing_is_one_sentence_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = fake_run.make_run(tmp_path, "r", rounds=0)
    recipe = json.loads((path / "recipe.json").read_text())
    recipe["tracking"] = {"mlflow": False, "trackers": [{"use": name, "options": {}}]}
    (path / "recipe.json").write_text(json.dumps(recipe))
    monkeypatch.setitem(sys.modules, name, None)
    assert process.sync(path) == [
        f"tracking by {name} needs {name}, which is not installed: pip install 'ouroloop[{name}]'"
    ]
