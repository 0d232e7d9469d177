"""The benchmark says so when a ratio gets worse; its processor-time cases are really run."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.bench import __main__ as bench  # noqa: E402
from tools.bench import cases, traces  # noqa: E402
from tools.bench.measuring import (  # noqa: E402
    MARGIN,
    Cost,
    Line,
    Measured,
    both_clocks,
    row,
    tree_cpu,
    whole,
    worsened,
)
from tools.bench.rounds import seconds_by_stage  # noqa: E402

LINE = Line("a/b", "work", "other", (3.0, 1.2, 1.0), (2.0, 1.0, 1.0), goal=1.05)


def test_the_ratio_is_the_median_over_turns_and_not_that_of_the_sums() -> None:
    assert LINE.ratios == (1.5, 1.2, 1.0) and LINE.ratio == 1.2
    shown = row(Measured(LINE, "abc", "2026-11-29", 0.4))
    assert shown == (
        "| work | other | 1.2 s | 1 s | **1.20** | 1.00 to 1.50 | at most 1.05: missed | 0 |"
    )


def test_a_goal_is_met_up_to_its_limit_by_the_ratio_or_by_the_seconds_themselves() -> None:
    assert replace(LINE, goal=1.2).verdict == "at most 1.2: met"
    seconds = replace(LINE, goal=None, limit=1.1, unit="s CPU")
    assert seconds.verdict == "at most 1.1 s CPU: missed"
    assert replace(seconds, limit=1.2).verdict == "at most 1.2 s CPU: met"
    assert replace(LINE, goal=None).verdict == ""


def test_a_comparison_is_given_by_the_clock_and_by_processor_seconds() -> None:
    ours, theirs = [Cost(6, 9) + Cost(2, 1)], [Cost(4, 4)]
    by_clock, by_cpu = both_clocks("a", "work", "other", ours, theirs, goal=2)
    assert (by_clock.name, by_clock.unit, by_clock.ratio) == ("a", "s", 2)
    assert (by_cpu.name, by_cpu.unit, by_cpu.ratio) == ("a/cpu", "s CPU", 2.5)


def test_the_seconds_of_a_rounds_stages_add_up_to_the_round(tmp_path: Path) -> None:
    def event(time: float, name: str, **facts: object) -> str:
        return json.dumps({"time": time, "event": name, **facts})

    def progress(time: float, stage: str, done: int) -> str:
        return event(time, "progress", stage=stage, done=done, total=9)

    lines = [
        progress(1, "probing", 9),
        event(2, "round_started", round=2),
        progress(3, "sampling", 0),
        progress(5, "sampling", 5),
        progress(8, "sampling", 9),
        progress(12, "training", 1),
        progress(17, "training", 9),
        event(23, "round_committed", round=2),
        event(24, "round_started", round=3),
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(lines))
    found = seconds_by_stage(tmp_path / "events.jsonl", 2)
    assert found == {
        "sampling, start": 1,
        "sampling": 5,
        "training, start": 4,
        "training": 5,
        "round_committed": 6,
    }
    assert sum(found.values()) == 23 - 2


def test_a_ratio_beyond_the_margin_is_said_to_have_worsened_and_one_within_it_is_not() -> None:
    assert worsened([LINE], {"a/b": 1.2 / (1 + MARGIN) + 0.01}) == []
    (said,) = worsened([LINE], {"a/b": 1.2 / (1 + MARGIN) - 0.01})
    assert said.startswith("a/b: ratio 1.20, 0.95 in the last results; expected at most 1.19.")
    assert worsened([LINE], {}) == [], "without an earlier result there is nothing to compare with"


def test_the_command_keeps_its_results_and_fails_on_a_worse_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ratio = 1.0
    monkeypatch.setattr(bench, "PAGE", tmp_path / "BENCHMARKS.md")
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results.json")
    case = {"one": lambda options: iter([Line("x", "w", "o", (ratio,), (1.0,))])}
    monkeypatch.setattr(bench, "CASES", case)
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--write"])
    assert bench.main() == 0
    assert bench.kept(json.loads(bench.RESULTS.read_text()), "quick")["x"].line.ratio == 1.0
    page = bench.PAGE.read_text()
    assert "**1.00**" in page and re.search(r"\d+ cores", page) and str(ROOT) not in page
    ratio = 1.3
    monkeypatch.setattr(sys, "argv", ["bench", "--quick"])
    assert bench.main() == 1 and "WORSE: x" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["bench"])
    assert bench.main() == 0, "large work has other ratios, and is compared with its own"
    # What was measured before stays when another case is.
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--write"])
    case["one"] = lambda options: iter([Line("y", "other work", "o", (2.0,), (1.0,))])
    assert bench.main() == 0
    page = bench.PAGE.read_text()
    assert "| w | o |" in page and "| other work | o |" in page
    # Nor does a case that fails take the others with it.
    case["none"] = lambda options: whole([sys.executable, "-S", "-c", "raise SystemExit(7)"])
    case["last"] = lambda options: iter([Line("z", "last work", "o", (2.0,), (1.0,))])
    capsys.readouterr()
    assert bench.main() == 1 and "FAILED: none: " in capsys.readouterr().err
    assert "| last work | o |" in bench.PAGE.read_text()


def test_made_traces_are_the_same_in_every_run_and_new_in_every_round() -> None:
    first, again, second = (list(traces.rows(5, round)) for round in (0, 0, 1))
    assert first == again != second and len(first) == 5 * traces.SAMPLES
    assert {row["problem"] for row in first} == {row["problem"] for row in second}
    assert len({row["strategy"] for row in first}) > 1 and {True, False} == {
        row["correct"] for row in first
    }


def test_the_processor_time_of_a_tree_counts_children_at_work_and_ended_ones() -> None:
    busy = "import time\nwhile time.process_time() < 0.15: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])\ninput()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert child.stdin is not None
    try:
        while (used := tree_cpu(child.pid)) < 0.15 and child.poll() is None:
            pass
        assert used >= 0.15
    finally:
        child.stdin.close()
        child.wait()


def test_a_whole_command_is_measured_with_its_children_and_its_memory() -> None:
    held = whole([sys.executable, "-S", "-c", "x = bytearray(60 * 2**20)"])
    assert held.peak_mib > 60 and 0 < held.cpu < 5
    with pytest.raises(RuntimeError, match="exit 7"):
        whole([sys.executable, "-S", "-c", "raise SystemExit(7)"])


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("case", ["start_up", "monitors", "training", "sampling", "rounds"])
def test_no_ratio_of_processor_times_is_worse_than_in_the_last_results(
    tmp_path: Path, case: str
) -> None:
    """Ratios by the clock need an idle machine: `make bench` compares those."""
    before = bench.kept(json.loads(bench.RESULTS.read_text()), "quick")
    found = getattr(cases, case)(cases.Options(tmp_path, turns=2, quick=True))
    lines = [line for line in found if line.unit == "s CPU"]
    assert lines and {line.name for line in lines} <= set(before), "the results hold every case"
    assert worsened(lines, {name: one.line.ratio for name, one in before.items()}) == []


def test_the_script_for_a_gpu_says_what_it_would_run_and_refuses_what_is_not_there(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"question": "q", "solution": "s"}\n')
    model = ROOT / "evals/worlds/arithmetic/base"

    def script(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "tools/gpu_bench.sh", "--dry-run", *arguments]
        environment = {**os.environ, "OUT": str(tmp_path / "out"), "TOKENS": "99"}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    done = script(str(model), str(data))
    assert done.returncode == 0, done.stderr
    names = ("gpu", "vllm_bench", "sampling", "hand_over", "training")
    assert re.findall(r"would run \((\w+)\)", done.stderr) == list(names)
    assert "--output-len 99" in done.stderr and "--max-tokens 99" in done.stderr
    assert "no config.json" in script(str(tmp_path), str(data)).stderr
    assert "no such file" in script(str(model), "nowhere.jsonl").stderr
