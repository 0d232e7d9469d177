"""What every test gets: no reports to anyone, and GPU tests only where a GPU can be used."""

from __future__ import annotations

import fcntl
import gc
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from warm import warm_starts

from ouroloop.loop.doctor.machine import look

settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "steady")
)  # `HYPOTHESIS_PROFILE=search make test-fast` looks for new examples
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def warm() -> Iterator[None]:
    """Trainers, engines and trackers start without importing their libraries anew."""
    with warm_starts():
        yield


@pytest.fixture(scope="module", autouse=True)
def own_environment() -> Iterator[None]:
    """What vLLM and others set in the environment when they are imported ends with the file.

    Every start of a later file's would be a cold one: see `warm.py`.
    """
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def shared(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Callable[[Path], object]], Path]:
    """`shared(name, make)`: a folder that `make` has filled once, for all workers of the session.

    Tests only read it.
    """

    def folder_of(name: str, make: Callable[[Path], object]) -> Path:
        everyones = tmp_path_factory.getbasetemp()
        if "PYTEST_XDIST_WORKER" in os.environ:
            everyones = everyones.parent
        folder, made = everyones / name, everyones / f"{name}.made"
        with (everyones / f"{name}.lock").open("w") as lock:
            # The first worker makes it while the others wait.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return folder_of


def pytest_collection_finish() -> None:
    """Modules and test items stay until the end: no collection of garbage goes through them.

    The later ones took 6 % of the fast part's time: few tests leave garbage that matters.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


# Alone, or one of a list of marks.
ALL_SLOW = re.compile(r"^pytestmark = .*\bpytest\.mark\.slow\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import a file all of whose tests are slow when only fast ones are asked for.

    Such files import torch, trl and the like, seconds in each worker for tests that do not run.
    """
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    is_slow = ALL_SLOW.search(collection_path.read_text(encoding="utf-8"))
    return True if is_slow else None


# The slow tests' files that take longest. Whole files are given to the workers, and one that came
# last would be waited for by all others.
LONGEST = (
    "tests/loop/test_loop_on_vllm_and_trl.py",
    "tests/engines/test_ray_engine.py",
    "tests/stages/test_sft_training.py",
    "tests/test_hostile_texts.py",
    "tests/loop/test_unscored_trace_sets.py",
    "tests/views/test_tracking.py",
    "tests/loop/test_mlflow_pages.py",
    "tests/engines/test_real_engines.py",
    "tests/loop/test_damaged_files.py",
    "runs/experiments/real_constitution/test_real_constitution.py",
    "tests/loop/test_loop_on_the_scripted_engine.py",
    "tests/loop/test_callback.py",
    "tests/loop/test_runs_on_ray.py",
    "tests/monitors/decision/test_power.py",
    "tests/test_wheel.py",
    "tests/loop/test_retention.py",
    "tests/loop/test_interrupts.py",
    "tests/loop/test_loop_with_adapters.py",
    "tests/durability/test_durability.py",
    "tests/engines/test_remote_engine.py",
    "tests/engines/test_students.py",
    "tests/stages/test_sft_types.py",
    "tests/engines/test_small_changes.py",
    "tests/engines/test_stale_weights.py",
    "runs/experiments/real_model/test_real_model.py",
    "tests/loop/test_plan_command.py",
    "tests/monitors/test_strategy_quality.py",
    "tests/loop/test_undefined_is_undefined.py",
    "tests/models/test_gguf_files.py",
    "tests/monitors/decision/test_decision_rule.py",
    "tests/evals/test_code_grader.py",
    "tests/loop/test_trainer_supervision.py",
    "tests/monitors/test_monitor_contract.py",
    "tests/views/test_report.py",
)


@pytest.hookimpl(trylast=True)  # after deselection: without a GPU test nothing is looked at
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first; skip `gpu` tests where torch and the driver cannot both serve one.

    `-ra` then lists those with this reason.
    """
    places = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not ((machine := look()).driver and machine.torch_cuda):
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU and torch's CUDA build"))
