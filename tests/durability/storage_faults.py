"""Disks, folders, locks and databases that fail: one sentence, and the run goes on afterwards."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import test_damaged_files as damaged
from faults import HANGING_TRACKERS
from scripted_world import Model, carry, no_training, recipe
from trials import Fault, Trial
from worlds import (
    NAME,
    Child,
    finished,
    lost_rows,
    play,
    recovery,
    reference,
    repeated,
    write_recipe,
)

from ouroloop.loop.__main__ import main

MIB = 2**20
NEW_NETWORK, NEW_HOST_NAME = 0x40000000, 0x04000000


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """A disk of its own at `folder`, of so many bytes; False where it may not be mounted."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "durability", str(folder)]
    is_mounted = shutil.which("mount") is not None
    is_mounted = is_mounted and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a small disk."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def ended_well(name: str, number: int, root: Path, child: Child, faults: list[str]) -> Trial:
    """Resume the run to its end, and compare it with the undisturbed one."""
    before = reference()
    if not finished(child.wait()):
        faults.append(f"not resumed: {child.text()[-300:]}")
    lost = lost_rows(root / "runs" / NAME, before.path)
    is_fine = not faults and not lost
    repeats, times = repeated(root, before), recovery(root, child.started)
    return Trial(name, number, 1, int(is_fine), lost, repeats, times, "; ".join(faults))


def one_sentence(child: Child, code: int | None, says: str) -> list[str]:
    """What is wrong with the end of a process that should end with one sentence."""
    said = child.text()
    if code == 2 and says in said and "Traceback" not in said:
        return []
    return [f"ended with {code}: {said[-300:]}"]


def full_disk(folder: Path, seed: str, number: int) -> Trial:
    """The disk is full at some moment of the run; then there is room again."""
    before, rng = reference(), random.Random(seed)
    size = sum(path.stat().st_size for path in before.path.rglob("*") if path.is_file())
    root = folder / "run"
    write_recipe(root)
    with small_disk(root / "runs", int(rng.uniform(0.2, 0.7) * size)) as is_mounted:
        if not is_mounted:
            return Trial("disk full", number, 0, 0, note="a disk may not be mounted here")
        child = Child.of(root, lambda: play(root))
        faults = one_sentence(child, child.wait(), "the disk is full")
        remount(root / "runs", f"size={4 * size + 64 * MIB}")
        again = Child.of(root, lambda: play(root))
        return ended_well("disk full", number, root, again, faults)


def read_only(folder: Path, seed: str, number: int) -> Trial:
    """A killed run is resumed in a folder that cannot be written to; then it can."""
    before, rng = reference(), random.Random(seed)
    root = folder / "run"
    write_recipe(root)
    with small_disk(root / "runs", 512 * MIB) as is_mounted:
        if not is_mounted:
            return Trial("read-only folder", number, 0, 0, note="a disk may not be mounted here")
        child = Child.of(root, lambda: play(root))
        child.wait(rng.uniform(0.3, 0.8) * before.seconds)
        child.end()
        remount(root / "runs", "ro")
        child = Child.of(root, lambda: play(root))
        faults = one_sentence(child, child.wait(), "read-only")
        remount(root / "runs", "rw")
        again = Child.of(root, lambda: play(root))
        return ended_well("read-only folder", number, root, again, faults)


def damaged_files(folder: Path, seed: str, number: int) -> Trial:
    """Every file of a finished run, damaged in every way: named, and never gone on from."""

    def train(job: Any, round_folder: Path, report: Any) -> Any:
        facts = no_training(job, round_folder, report)
        (round_folder / "checkpoint" / "model.safetensors").write_bytes(bytes(range(256)))
        return facts

    whole = carry(folder, Model(), recipe(rounds=2), train)[1]
    tried, missed = 0, []
    for file in damaged.files_of(whole):
        for damage in damaged.DAMAGES:
            run = shutil.copytree(whole, folder / "damaged" / "run")
            damage(run / file)
            tried += 1
            case = f"{damage.__name__} {file}"
            try:
                code, text = damaged.called("verify", run)
                assert code == 2 and Path(file).name in text, case
                damaged.assert_refused_or_repaired(run, file, case)
            except (Exception, AssertionError) as error:
                missed.append(f"{case}: {error}"[:120])
            shutil.rmtree(run)
    return Trial(
        "damaged files", number, tried, tried - len(missed), len(missed), note="; ".join(missed[:3])
    )


def two_hosts(folder: Path, seed: str, number: int) -> Trial:
    """A second host tries to resume what a first one works on; then the first one dies."""
    before, rng = reference(), random.Random(seed)
    root = folder / "run"
    write_recipe(root)
    lock = root / "runs" / NAME / "LOCK"
    first = Child.of(root, lambda: on_host("first", root))
    until = time.monotonic() + 60
    while not (lock.exists() and lock.read_text()) and time.monotonic() < until:
        time.sleep(0.01)
    first.wait(rng.uniform(0.2, 0.6) * before.seconds)
    other = folder / "second"
    other.mkdir()
    second = Child.of(other, lambda: on_host("second", root))
    faults = one_sentence(second, second.wait(), "held by process")
    if first.wait(0) is not None:
        return Trial("two hosts", number, 0, 0, note="the first one had finished")
    first.end()
    third = Child.of(other, lambda: on_host("second", root))
    return ended_well("two hosts", number, root, third, faults)


def on_host(name: str, root: Path) -> int:
    """Play the run with a network and a host name of its own. In a child."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NETWORK | NEW_HOST_NAME):
        raise OSError(ctypes.get_errno(), "no namespaces of one's own here")
    socket.sethostname(name)
    return play(root)


def stuck_lock(folder: Path, seed: str, number: int) -> Trial:
    """A tracker waits for a lock that nobody lets go."""
    root = folder / "run"
    root.mkdir()
    tracker = root / "hanging.py"
    tracker.write_text(HANGING_TRACKERS)
    write_recipe(root, tracking={"mlflow": False, "trackers": [f"{tracker}:Locked"]})
    (root / "runs").mkdir()
    with (root / "runs" / "tracker.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _tracked("stuck tracker lock", number, root, "still at work")


def corrupt_store(folder: Path, seed: str, number: int) -> Trial:
    """MLflow's database is no database."""
    root = folder / "run"
    database = root / "mlflow.db"
    root.mkdir()
    garbage = random.Random(seed).randbytes(4096)
    database.write_bytes((b"SQLite format 3\0" if number % 2 else b"") + garbage)
    write_recipe(root, tracking={"mlflow": True, "uri": f"sqlite:///{database}"})
    # The end of the run waits ten seconds at most; a busy machine takes longer to load MLflow.
    trial = _tracked("corrupt MLflow store", number, root, "database is damaged|still at work")
    runs = str(root / "runs")
    child = Child.of(root, lambda: main(["sync", NAME, "--runs", runs]))
    code, said = child.wait(), child.text()
    if code and "database is damaged" in said and "Traceback" not in said:
        return trial
    return replace(trial, survived=0, note=f"sync ended with {code}: {said[-300:]}")


def _tracked(name: str, number: int, root: Path, says: str) -> Trial:
    """A run whose tracker fails, which it says at its end: the run does not."""
    before = reference()
    child = Child.of(root, lambda: play(root))
    code = child.wait()
    if code is None:
        child.end()
    said = child.text()
    faults = []
    if not finished(code) or not re.search(says, said) or "Traceback" in said:
        faults.append(f"ended with {code}: {said[-300:]}")
    lost = lost_rows(root / "runs" / NAME, before.path, leave_out=("recipe.json", "tracking.json"))
    repeats = repeated(root, before)
    is_fine = not faults and not lost
    return Trial(name, number, 1, int(is_fine), lost, repeats, note="; ".join(faults))


def _host_note() -> str:
    return (
        "two processes in network and host-name namespaces of their own share the folder; one"
        " kernel holds the lock, so what a network file system's lock daemon does is not tried"
    )


FAULTS = (
    Fault(
        "damaged files",
        "every file of a finished run is cut, changed by a bit, emptied, deleted, or added to",
        damaged_files,
        enough=108,
        quick=0,
    ),
    Fault("disk full", "the run's disk (a small tmpfs) has no room at some moment", full_disk),
    Fault("read-only folder", "the run's disk is read-only when it is resumed", read_only, quick=0),
    Fault("two hosts", _host_note(), two_hosts, quick=0),
    Fault(
        "stuck tracker lock",
        "a tracker waits for a lock that is held for ever",
        stuck_lock,
        quick=0,
    ),
    Fault(
        "corrupt MLflow store", "MLflow's SQLite file holds random bytes", corrupt_store, quick=0
    ),
)
