from __future__ import annotations

import dataclasses
import fcntl
import io
import json
import os
import threading
import time
from pathlib import Path

import fake_run
import pytest
from rich.console import Console

from ouroloop.loop.__main__ import main
from ouroloop.loop.errors import RunStateError, UserError
from ouroloop.loop.views import progress as progress_module
from ouroloop.loop.views.card import release
from ouroloop.loop.views.compare import compare, compare_table
from ouroloop.loop.views.endings import closing_text, next_steps
from ouroloop.loop.views.explain import round_of
from ouroloop.loop.views.printable import printable
from ouroloop.loop.views.progress import LiveProgress, clock, duration, notes, rounds_table
from ouroloop.loop.views.reader import read_run
from ouroloop.loop.views.report import write_report
from ouroloop.loop.views.watch import seconds_left, stage_line, standing, watch


def plain() -> Console:
    return Console(file=io.StringIO(), width=200)


def written(console: Console) -> str:
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_piped_progress_is_plain_lines_one_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    console = plain()
    logged: list[tuple[str, int, int, str]] = []
    with LiveProgress(
        console, every_seconds=5, log=lambda *event: logged.append(event)
    ) as progress:
        for done in range(0, 101):
            progress("sampling", done, 100)
            now[0] += 0.2
        progress("training", 3, 10, "loss 0.4")
    lines = written(console).splitlines()
    assert lines[0].split() == ["sampling", "0/100", "(0%)"]
    assert "25/100 (25%), 15 s left" in lines[1]
    assert "100/100 (100%), took 20 s" in lines[4]
    assert lines[5:] == [
        f"{'training':<18} 3/10 (30%)  loss 0.4",
        f"{'training':<18} 3/10 (30%), took 0 s  loss 0.4",
    ]
    assert logged[0] == ("sampling", 0, 100, "") and logged[4] == ("sampling", 100, 100, "")
    assert "\x1b" not in written(console) and "\r" not in written(console)


def test_time_left_counts_only_what_this_process_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    console = plain()
    with LiveProgress(console, every_seconds=5) as progress:
        progress("sampling", 900, 1000)  # a resumed round
        now[0] = 10.0
        progress("sampling", 950, 1000)
    assert "950/1000 (95%), 10 s left" in written(console)


def test_a_terminal_shows_one_bar_with_counts_and_keeps_one_line_per_stage() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, highlight=False)
    with LiveProgress(console) as progress:
        for stage in ("sampling", "training"):
            for done in range(3):
                progress(stage, done, 2)
    text = written(console)
    assert (
        text.count("2/2 (100%), took") == 2 and text.count("\x1b[?25h") == 1
    )  # the cursor comes back


def test_durations_read_like_a_clock() -> None:
    assert [clock(s) for s in (3.4, 59.4, 185, 7800)] == ["3 s", "59 s", "3:05", "2:10:00"]


def test_durations_in_a_sentence_name_their_units() -> None:
    assert [duration(s) for s in (3.4, 423, 7800)] == ["3 s", "7 min 3 s", "2 h 10 min"]


@pytest.mark.slow
def test_the_table_of_rounds_marks_the_best_and_explains_every_dash(
    arms: tuple[Path, Path],
) -> None:
    run = read_run(arms[1])
    lines = rounds_table(run).splitlines()
    assert len({len(line) for line in lines[: len(run.rounds) + 2]}) == 1
    starred = [line for line in lines if " * " in line]
    assert len(starred) == 1 and starred[0].startswith(f"| {run.best_round} *")
    assert "rollback (not done)" in lines[-2]
    assert (
        lines[-1]
        == "– round 2: Over-confidence, worded is undefined: no probe sample has a readable answer"
    )
    best, checkpoint, spent = closing_text(run).splitlines()
    assert best.startswith(f"* best round: {run.best_round}, pass@1")
    assert checkpoint == f"  checkpoint: {run.path}/rounds/{run.best_round:03d}/checkpoint"
    assert spent.endswith("% only to measure.")


def test_a_run_without_a_finished_round_has_a_sentence_for_a_table(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "young", rounds=0)
    (path / "rounds" / "000" / "MANIFEST.json").unlink()
    assert rounds_table(read_run(path)) == "young: no round is finished yet."
    assert closing_text(read_run(path)) == "No round is fit to be called best."


def test_a_run_that_failed_at_once_is_no_run_to_be_watched(tmp_path: Path) -> None:
    path = fake_run.make_failed_run(tmp_path, rounds=0)
    (path / "rounds" / "000" / "MANIFEST.json").unlink()
    run = read_run(path)
    with pytest.raises(RunStateError) as refused:
        round_of(run, None)
    assert f"The run failed: {run.failure}" in str(refused.value) and "resume" in str(refused.value)
    with pytest.raises(UserError, match="no round of this run has trained"):
        release(run)
    page = write_report([path], tmp_path / "r.html").read_text()
    assert "the engine ended" in page and "Over the rounds" not in page and "{n}" not in page


@pytest.mark.slow
def test_in_markdown_a_note_is_no_row_of_the_table_above_it(arms: tuple[Path, Path]) -> None:
    run = read_run(arms[0])
    assert rounds_table(run, "\n\n").split("\n\n")[1:] == notes(run) != []


@pytest.mark.slow
def test_the_last_lines_say_what_to_do_next(
    arms: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = read_run(arms[0])
    acted = [round.number for round in run.rounds if round.action != "continue"][-1]
    monkeypatch.setenv("OUROLOOP_RUNS", str(arms[0].parent))
    lines = next_steps(run)
    assert f"ouroloop explain {run.name} --round {acted} " in lines
    assert f"ouroloop report {run.name} " in lines and "A halted run" not in lines
    assert f"ouroloop publish {run.name} --dry-run " in lines
    # Where the name alone finds nothing, the folder does.
    monkeypatch.setenv("OUROLOOP_RUNS", str(arms[0]))
    assert f"ouroloop report {run.path} " in next_steps(run)
    last = run.rounds[-1]
    halt = dataclasses.replace(last, decision={**last.decision, "action": "halt"})
    halted = next_steps(dataclasses.replace(run, rounds=(*run.rounds[:-1], halt)))
    assert f"--round {last.number} " in halted and "A halted run is over" in halted
    assert next_steps(dataclasses.replace(run, rounds=())) == ""


@pytest.mark.slow
def test_comparing_puts_rounds_side_by_side_and_is_strict_json(arms: tuple[Path, Path]) -> None:
    both = compare(arms)
    assert json.loads(json.dumps(both, allow_nan=False)) == both
    assert both["runs"]["guarded"]["rounds"]["0"]["yield"]["value"] is None
    assert (
        both["runs"]["guarded"]["rounds"]["0"]["yield"]["reason"] == "round 0 has no training pool"
    )
    table = compare_table(both).splitlines()
    assert table[0].count("guarded: pass@1 %") == 2  # also within "unguarded: ..."
    assert len(table) == 2 + 8 + 2 and "best round" in table[-1]


@pytest.mark.slow
def test_comparing_runs_of_different_length_leaves_dashes(
    arms: tuple[Path, Path], tmp_path: Path
) -> None:
    short = fake_run.make_run(tmp_path, "short", rounds=1)
    last = compare_table(compare([arms[0], short])).splitlines()[9]
    assert last.startswith("| 7 ") and last.count("–") == 6


def test_watching_follows_a_run_to_its_end(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "live", rounds=1, finished=False)
    console, lock = plain(), (path / "LOCK").open("w")
    lock.write(str(os.getpid()))
    lock.flush()
    fcntl.flock(lock, fcntl.LOCK_EX)
    watcher = threading.Thread(target=watch, args=(path, console, 0.05))
    watcher.start()
    _until(lambda: "sampling: 40 of 200" in written(console))
    assert "The run" not in written(console)
    with (path / "events.jsonl").open("a") as file:
        file.write(json.dumps({"time": fake_run.CLOCK, "event": "run_finished"}) + "\n")
    watcher.join(20)
    lock.close()
    text = written(console)
    assert not watcher.is_alive() and "The run has finished." in text
    assert [
        line.split()[1]
        for line in text.splitlines()
        if line.startswith("round ") and "pass@1" in line
    ] == ["0", "1"]


def test_watching_a_failed_run_says_why_it_failed_and_how_to_go_on(tmp_path: Path) -> None:
    path, console = fake_run.make_failed_run(tmp_path), plain()
    assert watch(path, console).state == "failed"
    text = written(console)
    assert "The run failed: EngineError: the engine ended CUDA <out of memory>\n" in text
    assert f"`ouroloop resume {path}`" in text and "stopped" not in text


@pytest.mark.slow
def test_comparing_names_the_reason_of_a_failed_run(
    arms: tuple[Path, Path], tmp_path: Path
) -> None:
    path = fake_run.make_failed_run(tmp_path)
    both = compare([arms[0], path])
    reason = "EngineError: the engine ended CUDA <out of memory>"
    assert [(r["state"], r["failure"]) for r in both["runs"].values()] == [
        ("finished", None),
        ("failed", reason),
    ]
    assert compare_table(both).splitlines()[-1] == f"broken: failed: {reason}"
    fake_run.add_events(path, fake_run.STARTED, fake_run.FINISHED)
    again = compare([arms[0], path])
    assert again["runs"]["broken"]["failure"] is None and "failed" not in compare_table(again)


def test_the_stage_line_reads_the_latest_event(tmp_path: Path) -> None:
    run = read_run(fake_run.make_run(tmp_path, "live", rounds=0, finished=False))
    assert stage_line(run) == "round 1 sampling: 40 of 200"


def _until(true, seconds: float = 20.0) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred\x1b[0m", "a\ufffdred\ufffd"),
        ("\x1b]0;new title\x07b", "\ufffdb"),
        ("\x1b]8;;http://x\x1b\\link", "\ufffdlink"),
        ("never ended \x1b]0;title", "never ended \ufffd"),
        ("\x9b2Jc\r\x08d\x00", "\ufffd2Jc\ufffd\ufffdd\ufffd"),
        ("gpj.\u202eexe", "gpj.\ufffdexe"),
        ("a\tb\nüß 日本 😀 [bold]", "a\tb\nüß 日本 😀 [bold]"),
    ],
)
def test_a_terminal_obeys_nothing_that_a_model_wrote(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("force_terminal", [False, True])
def test_a_strategy_with_an_escape_sequence_is_shown_without_it(
    tmp_path: Path, force_terminal: bool
) -> None:
    path = fake_run.make_run(tmp_path, "hostile", rounds=1)
    decision = path / "rounds" / "001" / "decision.json"
    raw = json.loads(decision.read_text())
    hostile = "\x1b]0;owned\x07strategy \x9b2J lost"
    decision.write_text(json.dumps({**raw, "action": "halt", "reasons": [hostile]}))
    fake_run.seal(decision.parent)
    fake_run.add_events(path, {"event": "run_failed", "error": hostile})
    console = Console(file=io.StringIO(), width=200, force_terminal=force_terminal)
    watch(path, console=console)
    assert "strategy" in written(console)
    assert "owned" not in written(console) and "\x9b" not in written(console)


def test_watching_says_how_the_run_stands(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "live", rounds=3, finished=False)
    recipe = json.loads((path / "recipe.json").read_text()) | {"rounds": 7}
    (path / "recipe.json").write_text(json.dumps(recipe))
    folder = path / "rounds" / "003"
    decision = json.loads((folder / "decision.json").read_text())
    tier = {"log_e": 1.0, "log_limit": 1.83, "by_quantity": {}}
    decision["evidence"] = {"watch": tier, "halt": tier | {"log_limit": 3.71}}
    (folder / "decision.json").write_text(json.dumps(decision))
    fake_run.seal(folder)
    with (path / "LOCK").open("w") as lock:
        lock.write(str(os.getpid()))
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = read_run(path)
        # A round of the story takes 41.5 s; four are to come, one of them just begun.
        assert seconds_left(run) == pytest.approx(4 * 41.5)
        lines = standing(run)
    assert (
        lines[0]
        == "evidence after round 3: WATCH e = 2.72 (limit 6.23), HALT e = 2.72 (limit 40.9)"
    )
    assert lines[1].startswith("reinject: distinct correct pairs fell by 12 %")
    assert lines[2] == "about 2:46 left for 7 rounds, at the pace of the last ones"
    assert seconds_left(read_run(path)) is None, "nobody works on it any more"


@pytest.mark.slow
@pytest.mark.parametrize("command", [pytest.param("report", marks=pytest.mark.slow), "compare"])
def test_an_output_that_cannot_be_written_is_one_sentence(
    command: str, arms: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out.csv"
    folder.mkdir()
    assert main([command, str(arms[0]), "--out", str(folder)]) == 2
    said = f"{command} --out {folder}: cannot be written (Is a directory)"
    assert said in capsys.readouterr().err
