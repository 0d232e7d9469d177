"""A command is told each event once, in order, and what it fails to take again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import fake_run
import pytest
import yaml

from ouroloop.evals.errors import DataError
from ouroloop.loop.trackers import process
from ouroloop.loop.trackers.command import EVENTS, CommandTracker
from ouroloop.loop.views.reader import read_run

APPEND = 'cat >> "$OUROLOOP_PATH/told.jsonl"; echo >> "$OUROLOOP_PATH/told.jsonl"'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of each kind, made once."""
    folder = tmp_path_factory.mktemp("made")
    fake_run.make_run(folder, "guarded", rounds=3)
    fake_run.make_run(folder, "unguarded", rounds=3, guarded=False)
    fake_run.make_failed_run(folder, rounds=1)
    return folder


@pytest.fixture
def guarded(made: Path, tmp_path: Path) -> Path:
    """A run of its own, which went to its end."""
    return shutil.copytree(made / "guarded", tmp_path / "guarded")


@pytest.fixture
def failed(made: Path, tmp_path: Path) -> Path:
    """A run of its own, which failed after round 1."""
    return shutil.copytree(made / "broken", tmp_path / "broken")


def told(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "told.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_each_event_is_told_once_and_in_order(guarded: Path) -> None:
    path, run = guarded, read_run(guarded)
    tracker = CommandTracker(APPEND, events=EVENTS)
    tracker.sync(path)
    tracker.sync(path)
    found = told(path)
    assert [each["event"] for each in found] == [*(r.action for r in run.rounds), "finished"]
    assert [each["round"] for each in found] == [*(r.number for r in run.rounds), 3]
    assert all(each["text"].startswith(each["title"]) for each in found)
    assert f"ouroloop explain {path.resolve()} --round 1" in found[1]["text"]


def test_what_continues_is_not_told_unless_asked(guarded: Path) -> None:
    CommandTracker(APPEND).sync(guarded)
    steered = [r.action for r in read_run(guarded).rounds if r.action != "continue"]
    assert steered and [each["event"] for each in told(guarded)] == [*steered, "finished"]


def test_an_unguarded_decision_is_told_as_not_done(made: Path) -> None:
    path = made / "unguarded"
    CommandTracker(APPEND).sync(path)
    steered = [each for each in told(path) if each["event"] != "finished"]
    assert steered and all(each["title"].endswith("(not done)") for each in steered)


def test_a_failure_is_told_with_its_reason_and_what_goes_on_with_it(failed: Path) -> None:
    CommandTracker(APPEND, events=["failed"]).sync(failed)
    (message,) = told(failed)
    assert message["title"] == "broken: failed after round 1"
    assert read_run(failed).failure in message["text"] and "ouroloop resume" in message["text"]


def test_a_text_of_a_run_is_never_read_by_the_shell(failed: Path) -> None:
    hostile = "'; touch gone; $(touch gone) `touch gone` \x00 \x1b[31m"
    fake_run.add_events(failed, {"event": "run_failed", "time": 9e9, "error": hostile})
    CommandTracker(f'echo "$OUROLOOP_TEXT" > /dev/null; {APPEND}').sync(failed)
    (message,) = told(failed)
    assert "$(touch gone)" in message["text"] and "\x1b" not in message["text"]
    assert not Path("gone").exists()


def test_what_a_command_failed_to_take_is_told_again_and_nothing_twice(guarded: Path) -> None:
    # Fails at the end of the run, until a file says that it may.
    broken = (
        f'test "$OUROLOOP_EVENT" != finished || test -f "$OUROLOOP_PATH/up" || exit 7; {APPEND}'
    )
    tracker = CommandTracker(broken, events=EVENTS)
    with pytest.raises(DataError, match="exit code 7"):
        tracker.sync(guarded)
    rounds = [each["event"] for each in told(guarded)]
    assert len(rounds) == 4
    (guarded / "up").touch()
    tracker.sync(guarded)
    assert [each["event"] for each in told(guarded)] == [*rounds, "finished"]


def test_a_command_that_hangs_is_ended(guarded: Path) -> None:
    with pytest.raises(DataError, match=r"not over after 0\.2 s"):
        CommandTracker("exec sleep 60", seconds=0.2).sync(guarded)


def test_two_commands_of_a_recipe_are_told_apart(failed: Path) -> None:
    path = failed
    recipe = json.loads((path / "recipe.json").read_text())
    both = [{"use": "command", "options": {"command": f"{APPEND} # {i}"}} for i in (1, 2)]
    wrong = {"use": "command", "options": {"command": "exit 3"}}
    recipe["tracking"] = {"mlflow": False, "trackers": [*both, wrong]}
    (path / "recipe.json").write_text(json.dumps(recipe))
    assert process.sync(path) == ["tracking.trackers: command: exit code 3: exit 3"]
    assert [each["event"] for each in told(path)] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"command": " "}, "expected a line for the shell"),
        ({"command": ["mail", "me"]}, "expected a line for the shell"),
        ({"command": "mail", "events": "halt"}, "expected a list"),
        ({"command": "mail", "events": ["halted"]}, "Did you mean 'halt'"),
        ({"command": "mail", "seconds": 0}, "expected more than 0"),
    ],
)
def test_wrong_options_are_one_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        CommandTracker(**options)


def test_the_recipe_of_the_page_makes_its_trackers() -> None:
    """YAML reads some plain words, such as `on`, as true or false: none may be an option."""
    page = (Path(__file__).parents[2] / "docs" / "trackers.md").read_text(encoding="utf-8")
    block = page.partition("<!-- file: told.yaml -->\n```yaml\n")[2].partition("```")[0]
    entries = yaml.safe_load(block)["tracking"]["trackers"]
    made = [CommandTracker(**entry["options"]) for entry in entries]
    assert [tracker.events[-1] for tracker in made] == ["failed", "failed"]
    assert {field.name for field in dataclasses.fields(CommandTracker)}.isdisjoint({"on", "off"})
