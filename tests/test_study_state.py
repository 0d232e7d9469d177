"""What tools/study_state.py carries from one machine to another suffices to go on there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(Path(__file__).parent / "loop")]

import study_state  # noqa: E402


def a_folder(folder: Path, size: int = 1000) -> list[Path]:
    (folder / "deep").mkdir(parents=True)
    files = [folder / "a.json", folder / "deep" / "weights"]
    for i, path in enumerate(files):
        path.write_bytes(bytes([i]) * size)
    return files


def test_parts_are_joined_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_state, "PART_BYTES", 4096)
    files = a_folder(tmp_path / "from", 10_000)
    parts = study_state.pack(tmp_path / "from", tmp_path / "parts", files)
    assert len(parts) > 4 and all(path.stat().st_size <= 4096 for path in parts)
    assert study_state.join(tmp_path / "parts", tmp_path / "to") == 2
    for path in files:
        copy = tmp_path / "to" / path.relative_to(tmp_path / "from")
        assert copy.read_bytes() == path.read_bytes()
    # A smaller state after it leaves nothing of the larger one.
    study_state.pack(tmp_path / "from", tmp_path / "parts", files[:0])
    assert study_state.join(tmp_path / "parts", tmp_path / "empty") == 0


def test_a_part_that_is_missing_or_differs_is_refused_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (part,) = study_state.pack(tmp_path / "f", tmp_path / "parts", a_folder(tmp_path / "f"))
    part.write_bytes(part.read_bytes()[:-1] + b"!")
    for said in ("not as it was packed", "missing", "expected the parts"):
        arguments = ["join", str(tmp_path / "parts"), str(tmp_path / "to")]
        monkeypatch.setattr(sys, "argv", ["study_state.py", *arguments])
        assert study_state.main() == 2 and said in capsys.readouterr().err
        assert not (tmp_path / "to").exists()
        if said == "not as it was packed":
            part.unlink()
        else:
            (tmp_path / "parts" / study_state.SUMS).unlink(missing_ok=True)


@pytest.mark.slow
def test_a_run_that_is_cut_off_goes_on_from_what_was_carried(tmp_path: Path) -> None:
    from scripted_world import Model, carry, no_training, recipe

    settings = recipe(name="arm-0", rounds=3, monitors={"guard": False})

    def with_weights(job, folder, report):  # type: ignore[no-untyped-def]
        facts = no_training(job, folder, report)
        (folder / "checkpoint" / "weights").write_text(folder.name)
        return facts

    def cut_off(job, folder, report):  # type: ignore[no-untyped-def]
        if folder.name == "003":
            raise KeyboardInterrupt
        return with_weights(job, folder, report)

    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    # Round 2 is worse than round 1, so that the newest round and the best one differ.
    model = Model(skill=lambda number: (0.3, 0.9, 0.4, 0.4)[number])
    with pytest.raises(KeyboardInterrupt):
        carry(here, model, settings, cut_off)
    (here / "worker.log").write_text("nothing that is read again")
    study_state.pack(here, tmp_path / "parts", study_state.essential(here))
    study_state.join(tmp_path / "parts", there)
    carried = {path.parents[1].name for path in there.glob("arm-0/rounds/*/checkpoint/weights")}
    assert carried == {"001", "002"} and not (there / "worker.log").exists()
    shutil.rmtree(here)
    carry(there, Model(), settings, with_weights)
    assert json.loads((there / "arm-0/rounds/003/MANIFEST.json").read_text())["round"] == 3
    # Once its table is there a run is finished: no weights travel.
    (there / "tables").mkdir()
    (there / "tables" / "arm-0.csv").write_text("round\n0\n")
    names = {path.name for path in study_state.essential(there)}
    assert "arm-0.csv" in names and "weights" not in names


@pytest.mark.slow
def test_the_script_for_a_gpu_runs_dry_without_one(tmp_path: Path) -> None:
    for name in ("tools", "runs/experiments/real_model"):
        shutil.copytree(ROOT / name, tmp_path / name)
    data = "runs/experiments/real_data.py"
    shutil.copy(ROOT / data, tmp_path / data)
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")

    def script(*arguments: str) -> subprocess.CompletedProcess[str]:
        # The copy has no package of its own: this checkout's is imported.
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
        environment["OUROLOOP_VENV_PYTHON"] = sys.executable
        command = ["bash", "tools/gpu_study.sh", "--dry-run", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    assert script("slice").returncode == 2, "there is no model yet"
    assert script("pack", "model").returncode == 0
    run = tmp_path / "runs/studies/real_model/unguarded-0"
    run.mkdir(parents=True)
    (run / "recipe.json").write_text("{}")
    sliced = script("slice", "90")
    assert sliced.returncode == 0, sliced.stderr
    assert (tmp_path / ".gpu/joined/model.safetensors").read_bytes() == b"weights"
    for wanted in ("-m gpu", "--quick", "timeout --signal=TERM", "--jobs 3"):
        assert wanted in sliced.stderr
    assert not (tmp_path / ".gpu/proven").exists(), "a dry run proves nothing"
    shutil.rmtree(run)
    assert script("unpack", ".gpu/out").returncode == 0
    assert (run / "recipe.json").read_text() == "{}"
