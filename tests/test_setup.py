"""tools/setup.sh before it installs anything.

What it chooses, what it refuses, and when it has nothing to do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Every test starts processes.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what the script reads."""
    for name in ("tools", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def set_up(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"OUROLOOP_PYTHON": sys.executable, "OUROLOOP_DEVICE": "cpu", **environment}
    command = ["bash", str(checkout / "tools" / "setup.sh")]
    return subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60
    )


def pretend_ready(checkout: Path, device: str = "cpu") -> None:
    """Leave the two notes that a finished set-up leaves."""
    files = [
        checkout / "requirements" / f"{device}.lock",
        checkout / "pyproject.toml",
        checkout / "tools" / "setup.sh",
    ]
    summed = subprocess.run(
        ["cksum"],
        input=b"".join(path.read_bytes() for path in files),
        capture_output=True,
        check=True,
    )
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "identity").write_text(f"{device} {sys.version.split()[0]} {checkout}\n")
    (checkout / ".venv" / "contents").write_bytes(summed.stdout)


def without_pip(folder: Path) -> dict[str, str]:
    """An interpreter of the right version that cannot make an environment.

    The script gets no further than its decision.
    """
    program = folder / "python-without-venv"
    program.write_text(f'#!/bin/sh\n[ "$1" = -m ] && exit 1\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return {"OUROLOOP_PYTHON": str(program)}


def test_an_unfit_interpreter_is_refused_with_the_variable_that_names_another(
    checkout: Path,
) -> None:
    result = set_up(checkout, OUROLOOP_PYTHON="no-such-python")
    assert result.returncode == 2
    assert "no Python 3.11, 3.12 or 3.13" in result.stderr
    assert "OUROLOOP_PYTHON=" in result.stderr
    assert not (checkout / ".venv").exists()


def test_an_unknown_device_is_refused(checkout: Path) -> None:
    result = set_up(checkout, OUROLOOP_DEVICE="tpu")
    assert result.returncode == 2
    assert "'tpu'; expected cpu or gpu" in result.stderr


def test_nothing_happens_when_the_environment_is_ready(checkout: Path) -> None:
    pretend_ready(checkout)
    result = set_up(checkout)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("changed", ["requirements/cpu.lock", "pyproject.toml"])
def test_a_changed_lock_or_project_file_sets_up_again(checkout: Path, changed: str) -> None:
    pretend_ready(checkout)
    with (checkout / changed).open("a") as file:
        file.write("# changed\n")
    result = set_up(checkout, **without_pip(checkout))
    assert result.returncode == 2
    assert "cannot make a virtual environment" in result.stderr


def test_a_ready_cpu_environment_is_not_taken_for_a_gpu_one(checkout: Path) -> None:
    pretend_ready(checkout)
    (checkout / ".venv" / "left-over").touch()
    result = set_up(checkout, OUROLOOP_DEVICE="gpu", **without_pip(checkout))
    assert result.returncode == 2
    assert not (checkout / ".venv" / "left-over").exists()
    assert (checkout / ".venv" / "identity").read_text().startswith("gpu ")


def test_an_environment_that_somebody_else_made_is_left_alone(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "precious").touch()
    result = set_up(checkout)
    assert result.returncode == 2
    assert "move it away" in result.stderr
    assert (checkout / ".venv" / "precious").exists()


@pytest.mark.parametrize(
    ("program", "device"), [("exit 0", "gpu"), ("exit 9", "cpu")], ids=["driver", "no-driver"]
)
def test_the_device_is_gpu_exactly_where_nvidia_smi_answers(
    checkout: Path, program: str, device: str
) -> None:
    (checkout / "bin").mkdir()
    (checkout / "bin" / "nvidia-smi").write_text(f"#!/bin/sh\n{program}\n")
    (checkout / "bin" / "nvidia-smi").chmod(0o755)
    pretend_ready(checkout, device)
    result = set_up(checkout, OUROLOOP_DEVICE="", PATH=f"{checkout / 'bin'}:{os.environ['PATH']}")
    assert (result.returncode, result.stderr) == (0, "")
