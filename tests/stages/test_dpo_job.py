"""What a recipe may write under `dpo:`, and what becomes of it, without the libraries."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from ouroloop.loop.errors import RecipeError
from ouroloop.loop.objectives.dpo import Dpo
from ouroloop.loop.objectives.dpo_settings import (
    LOSS_TYPES,
    RESERVED,
    check_settings,
    settings_for,
)
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.settings import setting_types

JOB = TrainingJob(Path("a"), Path("b"), Path("c/checkpoint"), Path("d"), seed=7)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_name_that_the_run_sets_itself_is_refused_with_the_reason(name: str) -> None:
    assert name in (setting_types("dpo") or ())
    with pytest.raises(RecipeError, match=rf"dpo\.{name}: .*Leave it out"):
        check_settings({name: "x"}, None)


@pytest.mark.parametrize(
    ("dpo", "says"),
    [
        ({"bta": 0.1}, "unknown key 'dpo.bta': DPOConfig has no such field. Did you mean 'beta'?"),
        ({"loss_type": "sigmoud"}, "there is no loss 'sigmoud'. Did you mean 'sigmoid'?"),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}, "got 1; expected one for each"),
        ({"loss_type": ["sft"]}, "sft alone learns nothing from what was rejected"),
        ({"beta": 0}, "dpo.beta: got 0; expected a number above 0"),
        ({"beta": "a"}, "dpo.beta: got 'a'; expected a number."),
        ({"loss_type": "robust", "label_smoothing": "a"}, "dpo.label_smoothing: got 'a'"),
        ({"loss_type": 5}, "there is no loss 5"),
        ({"loss_type": "exo_pair"}, "exo_pair needs dpo.label_smoothing above 0"),
        ({"loss_type": "robust", "label_smoothing": 0.5}, "at least 0 and below 0.5"),
        ({"model_init_kwargs": {"dtype": "bfloat16"}}, "dpo.model_init_kwargs: all weights"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_remedy(dpo: dict[str, object], says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_settings(dpo, None)
    assert says in str(caught.value)


def test_an_adapter_on_the_output_layer_is_refused_because_nothing_would_train_it() -> None:
    with pytest.raises(RecipeError, match="lm_head"):
        check_settings({}, {"r": 4, "target_modules": ["q_proj", "lm_head"]})
    check_settings({}, {"r": 4, "target_modules": "all-linear"})


def test_right_settings_pass() -> None:
    check_settings({"beta": 0.3, "loss_type": ["sigmoid", "sft"], "loss_weights": [1, 0.2]}, None)
    check_settings({"loss_type": "robust", "label_smoothing": 0.1, "num_train_epochs": 2}, None)


def test_an_unknown_reference_is_refused() -> None:
    with pytest.raises(RecipeError, match="'best'; expected one of start, baseline"):
        Dpo(reference="best").check({}, None)


def test_the_reference_is_computed_first_and_nothing_is_cut() -> None:
    job = replace(JOB, settings={"beta": 0.4, "max_length": 50}, peft={"r": 4})
    found = settings_for(job, on_gpu=False)
    assert found["precompute_ref_log_probs"] is True and found["max_length"] is None
    assert (found["beta"], found["learning_rate"], found["seed"]) == (0.4, 1e-5, 7)
    assert "learning_rate" not in settings_for(JOB, on_gpu=True)


def test_the_losses_are_those_that_trl_knows() -> None:
    trl = find_spec("trl")
    if trl is None or trl.origin is None:
        pytest.skip("TRL's list of losses: TRL is not installed")
    source = Path(trl.origin).parent / "trainer" / "dpo_trainer.py"
    known = re.findall(r'if loss_type == "(\w+)"', source.read_text(encoding="utf-8"))
    assert set(known) == set(LOSS_TYPES)
