"""`launcher: accelerate`: its configs, and how it is called."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import yaml

from ouroloop.loop.errors import RecipeError
from ouroloop.loop.objectives import joining, launcher, training
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.recipes import extensions
from ouroloop.loop.recipes.recipe_file import resolve

NAMES = ("deepspeed_zero3", "one_gpu", "several_gpus", "several_nodes", "two_cpu_processes")


def recipe(config: str | None, base: Path | None = None):  # type: ignore[no-untyped-def]
    keys = {"name": "x", "launcher": "accelerate", "peft": None}
    return resolve({**keys, "accelerate_config": config}, base=base or Path("/"))


def called(config: str | None, base: Path | None = None) -> list[str]:
    """What a recipe's job runs."""
    job = TrainingJob.from_recipe(recipe(config, base), Path("base"), Path("folder"), seed=3)
    assert TrainingJob.from_json(job.to_json()) == job
    module, arguments = training.command(job, Path("folder/job.json"))
    assert module == "accelerate.commands.launch"
    assert arguments[-3:] == ["--module", training.MODULE, "folder/job.json"]
    return arguments[:-3]


def test_the_configs_that_come_along_are_found_by_name() -> None:
    assert tuple(launcher.config_names()) == NAMES
    for name in NAMES:
        told = called(name)
        assert told[:2] == ["--config_file", str(launcher.CONFIGS / f"{name}.yaml")]
    assert called(None) == []
    raw = {"name": "x", "launcher": "accelerate", "accelerate_config": "several_gpus"}
    assert resolve(raw).accelerate_config == Path("several_gpus")


def test_a_file_of_ones_own_goes_before_a_name_of_ours(tmp_path: Path) -> None:
    own = tmp_path / "one_gpu"
    own.write_text("distributed_type: 'NO'\nnum_processes: 1\n")
    assert called("one_gpu", tmp_path) == ["--config_file", str(own)]


@pytest.mark.parametrize(
    ("name", "visible", "count"),
    [
        ("several_gpus", "0,1,2", ["3"]),
        ("several_gpus", None, ["4"]),
        ("several_nodes", "0,1,2", ["6"]),
        ("deepspeed_zero3", "5", ["1"]),
        # These say so themselves.
        ("one_gpu", "0,1,2", []),
        ("two_cpu_processes", "0,1,2", []),
    ],
)
def test_a_config_without_a_number_gets_a_process_for_each_gpu_of_every_machine(
    monkeypatch: pytest.MonkeyPatch, name: str, visible: str | None, count: list[str]
) -> None:
    monkeypatch.setattr(launcher, "gpus", lambda: ("a card",) * 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert called(name)[2:] == [*(["--num_processes"] if count else []), *count]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file.*one_gpu, several_gpus"),
        ("- a list\n", "expected a mapping"),
        ("{", "not a readable"),
    ],
)
def test_a_wrong_config_is_refused_before_anything_is_made(
    tmp_path: Path, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(RecipeError, match=f"accelerate_config: .*{said}"):
        extensions.check_all(recipe("mine.yaml", tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_a_config_leaves_the_type_to_the_recipe(name: str) -> None:
    config = yaml.safe_load((launcher.CONFIGS / f"{name}.yaml").read_text())
    assert "mixed_precision" not in config
    if config["distributed_type"] == "FSDP":
        assert config["fsdp_config"]["fsdp_state_dict_type"] == "FULL_STATE_DICT"


def test_a_further_machine_joins_the_latest_training_that_has_no_result(tmp_path: Path) -> None:
    assert joining.open_job(tmp_path) is None
    jobs = [tmp_path / folder / "job.json" for folder in ("warm_start", "rounds/001", "rounds/002")]
    for i, job in enumerate(jobs):
        job.parent.mkdir(parents=True)
        job.write_text("{}")
        os.utime(job, (i, i))
        assert joining.open_job(tmp_path) == job
    for job, before in zip(jobs[::-1], [*jobs[1::-1], None], strict=True):
        (job.parent / "train.json").write_text("{}")
        assert joining.open_job(tmp_path) == before


@pytest.mark.slow
def test_accelerates_own_loader_takes_every_config(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.commands import launch
    from accelerate.utils import DistributedType

    monkeypatch.setattr(launcher, "gpus", lambda: ("a card",) * 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = {}
    for name in NAMES:
        command = [*called(name), "--module", training.MODULE, "job.json"]
        # accelerate takes what was given by hand from the command line itself.
        monkeypatch.setattr(sys, "argv", ["accelerate-launch", *command])
        options = launch.launch_command_parser().parse_args(command)
        options, defaults, _ = launch._validate_launch_command(options)
        assert options.mixed_precision == "no" and options.module
        found[name] = (defaults.distributed_type, options.num_processes, options.num_machines)
    assert found == {
        "one_gpu": (DistributedType.NO, 1, 1),
        "several_gpus": (DistributedType.FSDP, 4, 1),
        "deepspeed_zero3": (DistributedType.DEEPSPEED, 4, 1),
        "several_nodes": (DistributedType.FSDP, 8, 2),
        "two_cpu_processes": (DistributedType.MULTI_GPU, 2, 1),
    }
    assert options.use_cpu


def test_a_model_loaded_in_parts_needs_a_guard_that_interpolates_no_weights(tmp_path: Path) -> None:
    given = yaml.safe_load((launcher.CONFIGS / "deepspeed_zero3.yaml").read_text())
    given["deepspeed_config"]["zero3_init_flag"] = True
    (tmp_path / "parts.yaml").write_text(yaml.safe_dump(given))
    in_parts = recipe("parts.yaml", tmp_path)
    with pytest.raises(RecipeError, match=r"interventions: \{blend: 0\}"):
        extensions.check_all(in_parts)
    without = in_parts.interventions.model_copy(update={"blend": 0.0})
    extensions.check_all(in_parts.model_copy(update={"interventions": without}))
    extensions.check_all(recipe("deepspeed_zero3"))


@pytest.mark.parametrize("config", ["several_gpus", "several_nodes"])
def test_under_fsdp_no_preferences_are_trained_for_their_reference_would_be_wrong(
    config: str,
) -> None:
    given = {"name": "x", "launcher": "accelerate", "accelerate_config": config, "rounds": 4}
    stages = [{"rounds": 2, "objective": "sft"}, {"rounds": 2, "objective": "dpo"}]
    with pytest.raises(RecipeError, match=r"reference of objective dpo.*deepspeed_zero3"):
        extensions.check_all(resolve({**given, "stages": stages}))
    extensions.check_all(resolve(given))
    extensions.check_all(resolve({**given, "stages": stages, "accelerate_config": "one_gpu"}))
