"""What a recipe may write under `sft:` and `peft:`, and what becomes of it.

Without the libraries themselves.
"""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from ouroloop.loop.errors import RecipeError
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.settings import setting_types
from ouroloop.loop.objectives.sft_settings import RESERVED, check_settings, settings_for
from ouroloop.loop.recipes.recipe_file import resolve


def test_an_unknown_name_is_refused_with_the_nearest_right_one() -> None:
    with pytest.raises(RecipeError) as caught:
        check_settings({"learning_rte": 1e-4, "num_train_epochs": 2}, {"lora_alfa": 3, "r": 8})
    assert str(caught.value).splitlines() == [
        (
            "unknown key 'sft.learning_rte': SFTConfig has no such field. Did you mean"
            " 'learning_rate'?"
        ),
        "unknown key 'peft.lora_alfa': LoraConfig has no such field. Did you mean 'lora_alpha'?",
    ]


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_name_that_the_run_sets_itself_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(RecipeError, match=rf"sft\.{name}: .*Leave it out"):
        check_settings({name: "x"}, None)


def test_right_names_pass() -> None:
    check_settings(
        {"learning_rate": 1e-4, "max_length": 64, "model_init_kwargs": {}, "weight_decay": 0.1},
        {"r": 8, "target_modules": "all-linear"},
    )
    check_settings({}, None)
    with pytest.raises(RecipeError, match="weight_decai"):  # and are not passed over unread
        check_settings({"learning_rate": 1e-4, "weight_decai": 0.1}, {"r": 8})


@pytest.mark.parametrize(
    ("sft", "peft", "says"),
    [
        ({"num_train_epochs": "two"}, None, "sft.num_train_epochs: got 'two'; expected a number"),
        ({"num_train_epochs": 0}, None, "sft.num_train_epochs: got 0; expected a number above 0"),
        ({"learning_rate": -1}, None, "sft.learning_rate: got -1; expected a number of at least 0"),
        ({"learning_rate": math.nan}, None, "sft.learning_rate: got nan"),
        ({"learning_rate": "1e-4"}, None, "write 2.0e-4 for 2e-4"),
        ({"learning_rate": None}, None, "sft.learning_rate: got None"),
        ({"per_device_train_batch_size": 0}, None, "expected a whole number of at least 1"),
        ({"per_device_train_batch_size": 2.5}, None, "expected a whole number of at least 1"),
        ({"per_device_train_batch_size": True}, None, "expected a whole number of at least 1"),
        ({"bf16": "maybe"}, None, "sft.bf16: got 'maybe'; expected true or false"),
        ({"max_steps": "ten"}, None, "sft.max_steps: got 'ten'; expected a whole number"),
        ({}, {"r": 0}, "peft.r: got 0; expected a whole number of at least 1"),
        ({}, {"lora_dropout": 1}, "peft.lora_dropout: got 1"),
    ],
)
def test_a_value_that_no_trainer_takes_is_refused_before_anything_is_sampled(
    sft: dict[str, object], peft: dict[str, object] | None, says: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        check_settings(sft, peft)
    assert says in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_values_that_a_trainer_takes_pass() -> None:
    check_settings(
        {"warmup_steps": 0.1, "max_grad_norm": None, "max_length": None, "learning_rate": 0.0},
        {"r": 4, "lora_alpha": 8.0, "init_lora_weights": "gaussian"},
    )


@pytest.mark.slow
def test_the_names_read_from_source_are_those_of_the_real_classes() -> None:
    from peft import LoraConfig
    from trl import SFTConfig

    assert setting_types("sft").keys() == {field.name for field in fields(SFTConfig)}
    assert setting_types("peft").keys() >= {
        field.name for field in fields(LoraConfig) if field.init
    }
    assert set(RESERVED) <= setting_types("sft").keys()


def test_the_recipes_settings_win_over_defaults_and_lose_to_what_the_run_needs() -> None:
    job = TrainingJob(
        Path("a"),
        Path("b"),
        Path("c/checkpoint"),
        Path("d"),
        settings={"logging_steps": 7, "bf16": True, "max_length": 64},
        seed=2**40 + 5,
    )
    cpu, gpu = settings_for(job, on_gpu=False), settings_for(job, on_gpu=True)
    assert cpu["logging_steps"] == 7
    assert cpu["bf16"] is True
    assert (cpu["use_cpu"], cpu["gradient_checkpointing"]) == (True, False)
    assert "use_cpu" not in gpu
    for settings in (cpu, gpu):
        assert settings["max_length"] is None
        assert settings["dataset_kwargs"] == {"skip_prepare_dataset": True}
        assert settings["report_to"] == "none"
        assert settings["seed"] == settings["data_seed"] == 5


@pytest.mark.parametrize(
    ("compute", "on_gpu", "bf16"),
    [("bfloat16", True, True), ("float32", True, False), ("bfloat16", False, True)],
)
def test_training_computes_in_the_jobs_type_on_every_device(
    compute: str, on_gpu: bool, bf16: bool
) -> None:
    job = TrainingJob(Path("a"), Path("b"), Path("c/checkpoint"), Path("d"), compute=compute)
    assert settings_for(job, on_gpu=on_gpu)["bf16"] is bf16


def test_an_adapter_learns_at_loras_usual_rate_unless_the_recipe_names_one() -> None:
    job = TrainingJob(Path("a"), Path("b"), Path("c/checkpoint"), Path("d"), peft={"r": 8})
    assert settings_for(job, on_gpu=False)["learning_rate"] == 2e-4
    named = replace(job, settings={"learning_rate": 1e-3})
    assert settings_for(named, on_gpu=False)["learning_rate"] == 1e-3
    assert "learning_rate" not in settings_for(replace(job, peft=None), on_gpu=False)


def test_weights_that_are_all_trained_are_never_loaded_in_a_type_that_loses_updates() -> None:
    half = {"model_init_kwargs": {"dtype": "bfloat16"}}
    with pytest.raises(RecipeError, match=r"sft\.model_init_kwargs: .* trained in bfloat16"):
        check_settings(half, None)
    check_settings(half, {"r": 8})
    check_settings({"model_init_kwargs": {"dtype": "float32"}}, None)


def test_a_job_made_from_a_recipe_survives_its_file() -> None:
    recipe = resolve(
        {
            "name": "x",
            "sft": {"learning_rate": 1e-4},
            "engine": {"max_model_len": 96},
            "peft": {"r": 4},
        }
    )
    job = TrainingJob.from_recipe(recipe, Path("base"), Path("runs/x/rounds/001"), seed=3)
    assert job.output == Path("runs/x/rounds/001/checkpoint")
    assert job.max_length == 96
    assert TrainingJob.from_json(job.to_json()) == job


@pytest.mark.slow
def test_importing_the_stage_loads_nothing_heavy() -> None:
    code = (
        "import sys, ouroloop.loop.objectives.training;"
        " print({'torch', 'transformers', 'trl', 'peft', 'datasets'} & set(sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "set()"
    )
