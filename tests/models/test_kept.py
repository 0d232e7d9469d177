"""Model folders in the cache: made once, whole or not at all, by one process at a time."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from fake_model import start_python

from ouroloop.loop.errors import CheckpointError
from ouroloop.loop.models import kept

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OUROLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


class Maker:
    """Writes one file, and counts how often it is asked."""

    def __init__(self, text: str = "weights") -> None:
        self.text, self.num_calls = text, 0

    def __call__(self, folder: Path) -> dict[str, str]:
        self.num_calls += 1
        assert list(folder.iterdir()) == []
        (folder / "model.safetensors").write_text(self.text)
        return {"source": "here"}


def test_a_folder_is_made_once_with_the_sums_of_its_files(cache: Path) -> None:
    make = Maker()
    assert kept.made_once("m", make) == kept.made_once("m", make) == cache / "m"
    assert make.num_calls == 1
    record = json.loads((cache / "m.json").read_text())
    assert record["source"] == "here"
    assert record["files"]["model.safetensors"]["bytes"] == len("weights")
    assert len(record["files"]["model.safetensors"]["sha256"]) == 64


def test_an_interrupted_making_leaves_nothing_that_counts(cache: Path) -> None:
    def interrupted(folder: Path) -> dict[str, str]:
        (folder / "model.safetensors").write_text("wei")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.made_once("m", interrupted)
    assert not kept.is_whole("m") and not (cache / "m").exists()
    assert (kept.made_once("m", Maker()) / "model.safetensors").read_text() == "weights"


def test_a_folder_without_its_record_is_made_again(cache: Path) -> None:
    # What a process leaves that is killed between its last two steps.
    (cache / "m").mkdir(parents=True)
    (cache / "m" / "model.safetensors").write_text("wei")
    (cache / ".m.tmp").mkdir()
    assert (kept.made_once("m", Maker()) / "model.safetensors").read_text() == "weights"


@pytest.mark.parametrize("damage", ["shorter", "missing"])
def test_a_folder_that_has_changed_is_made_again(
    cache: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = kept.made_once("m", Maker()) / "model.safetensors"
    if damage == "shorter":
        file.write_text("w")
    else:
        file.unlink()
    assert (kept.made_once("m", Maker()) / "model.safetensors").read_text() == "weights"
    assert "incomplete or changed" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OUROLOOP_CACHE", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match="Set OUROLOOP_CACHE"):
        kept.made_once("m", Maker())


TWO = """
import sys, time
from pathlib import Path
from ouroloop.loop.models import kept

log = Path(sys.argv[1])

def make(folder):
    with log.open("a") as file:
        file.write("made\\n")
    time.sleep(1.5)
    (folder / "model.safetensors").write_text("weights")
    return {}

print((kept.made_once("m", make) / "model.safetensors").read_text())
"""


def test_of_two_processes_one_makes_it_and_the_other_waits(cache: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    both = [start_python(TWO, log, env=dict(os.environ)) for _ in range(2)]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in both]
    assert [(out, code) for out, _, code in ended] == [("weights\n", 0)] * 2
    assert log.read_text() == "made\n"
    assert sum("another process is making it" in err for _, err, _ in ended) <= 1


def test_a_killed_maker_holds_nobody_up(cache: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    killed = start_python(TWO.replace("1.5", "600"), log, env=dict(os.environ))
    try:
        while not log.exists():
            assert killed.poll() is None
    finally:
        killed.kill()
        killed.communicate(timeout=60)
    assert not kept.is_whole("m")
    assert (kept.made_once("m", Maker()) / "model.safetensors").read_text() == "weights"
