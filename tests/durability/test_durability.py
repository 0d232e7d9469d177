"""The short form of `make test-durability`: some of the faults, once."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import crash_points

RUN = Path(__file__).with_name("run.py")


@pytest.mark.slow
def test_a_kill_at_any_operation_on_a_file_leaves_a_run_that_goes_on_as_if_nothing_had_been(
    tmp_path,
):
    whole, states, setting = crash_points.record(tmp_path)
    assert len(states) > 150, "the recorder looks at every file"
    # A fifth of them, and not the same part of every file's writing; `run.py` tries all.
    faults = [crash_points.fault_of(state, whole, setting) for state in states[::5]]
    assert [fault for fault in faults if fault] == []


@pytest.mark.slow
@pytest.mark.long
def test_faults_brought_about_on_purpose_lose_no_row(tmp_path):
    # A process of its own: runs are forks of it, which threads of other tests would break.
    command = [sys.executable, str(RUN), "--quick", "--cache", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 6
    for name, tried, survived, lost, *_ in rows:
        assert int(tried) == int(survived) > 0, name
        assert lost in ("0", "-"), name


def test_the_page_says_of_every_fault_how_it_is_brought_about_and_has_room_for_the_table():
    page = (RUN.parents[2] / "RELIABILITY.md").read_text(encoding="utf-8")
    before, _, after = page.partition("<!-- generated: begin -->\n")
    assert before and after.rstrip().endswith("<!-- generated: end -->")
