"""A start from a warm process is, for whoever started it, like any other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm

from ouroloop.loop.trackers import mlflow_store

# It starts processes.
pytestmark = pytest.mark.slow

CODE = """
import json, os, sys
told = {
    "arguments": sys.argv[1:],
    "name": __name__,
    "folder": os.getcwd(),
    "path": [place for place in sys.path if place.startswith(os.getcwd())],
    "variables": dict(os.environ),
    "parent": os.getppid(),
    "leads": os.getsid(0) == os.getpid(),
    "asked": sys.stdin.readline(),
    "descriptors": sorted(os.listdir("/proc/self/fd"))[:4],
}
print(json.dumps(told, sort_keys=True), flush=True)
print("to the log", file=sys.stderr)
sys.stdin.readline()
sys.exit(3)
"""


@pytest.fixture(params=[warm.COLD, warm.Popen], ids=["cold", "warm"])
def popen(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[type[subprocess.Popen[bytes]]]:
    monkeypatch.setitem(warm.KINDS, "asked", "little")
    monkeypatch.setitem(warm.LIBRARIES, "little", ["json"])
    yield request.param
    if "little" in warm._warm:
        warm._warm.pop("little").close()


def start(
    popen: type[subprocess.Popen[bytes]], folder: Path, beside: str = "beside"
) -> subprocess.Popen[bytes]:
    (folder / "asked.py").write_text(CODE)
    with (folder / "log").open("ab") as log:
        return popen(
            [sys.executable, "-m", "asked", "one", "--two"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env={**os.environ, "OUROLOOP_MARK": folder.name, "PYTHONPATH": str(folder / beside)},
            start_new_session=True,
        )


def test_arguments_folder_environment_pipes_session_and_exit_code_are_those_asked_for(
    popen: type[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    for beside in ("one", "two"):
        child = start(popen, tmp_path, beside)
        out, _ = child.communicate(b"what?\nend\n", timeout=60)
        assert child.returncode == 3
        told = json.loads(out)
        assert told["arguments"] == ["one", "--two"] and told["name"] == "__main__"
        assert told["folder"] == str(tmp_path)
        assert told["path"] == [str(tmp_path), str(tmp_path / beside)]
        assert told["variables"]["OUROLOOP_MARK"] == tmp_path.name
        assert told["variables"]["PATH"] == os.environ["PATH"]
        assert told["parent"] == os.getpid() and told["leads"] and told["asked"] == "what?\n"
        # Standard input, output and error, and the one that lists them: nothing else is open.
        assert told["descriptors"] == ["0", "1", "2", "3"]
    assert (tmp_path / "log").read_text() == "to the log\n" * 2


def test_it_can_be_killed_with_its_group_and_another_one_starts(
    popen: type[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    for _ in range(2):
        child = start(popen, tmp_path)
        assert child.poll() is None
        os.killpg(child.pid, signal.SIGKILL)
        assert child.wait(60) == -signal.SIGKILL
        child.communicate()


def test_a_warm_process_that_was_killed_itself_is_done_without(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(warm.KINDS, "asked", "little")
        patch.setitem(warm.LIBRARIES, "little", ["json"])
        for is_killed in (False, True):
            if is_killed:
                os.kill(warm._warm["little"].pid, signal.SIGKILL)
            child = start(warm.Popen, tmp_path)
            child.communicate(b"what?\nend\n", timeout=60)
            assert child.returncode == 3
        assert "little" not in warm._warm


def test_libraries_that_would_read_other_variables_are_imported_anew(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(warm.KINDS, "asked", "little")
        patch.setitem(warm.LIBRARIES, "little", ["json"])
        command, environment = [sys.executable, "-m", "asked"], dict(os.environ)
        found = warm._warm_for(command, environment)
        assert found is not None
        assert warm._warm_for(command, {**environment, "OUROLOOP_X": "1"}) is found
        # Else every start after a test that records a run in its own process would be cold.
        assert warm._warm_for(command, {**environment, **mlflow_store.ENVIRONMENT}) is found
        assert warm._warm_for(command, {**environment, "OMP_NUM_THREADS": "7"}) is None
        assert warm._warm_for([sys.executable, "-c", "pass"], environment) is None
        warm._warm.pop("little").close()
