"""Real TRL on pairs: which tokens are learnt, against which reference, and what is left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import ids, save_tiny_llama

from ouroloop.loop.engines import weight_sync
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.errors import DataError, RecipeError
from ouroloop.loop.objectives.dpo import Dpo, read_rows
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.training import train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STOP_TOKEN = 1
LORA = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj", "down_proj", "up_proj"]}
# (prompt, chosen, rejected) of different lengths: what is padding must count for nothing.
TRIPLES = [(f"{a} + {b} =", str(a + b), f"{a} or {b}") for a in range(2, 6) for b in range(2, 6)]
ONE_BATCH = {"per_device_train_batch_size": 16, "learning_rate": 1e-3, "max_steps": 8}


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("init") / "model", seed=5, spread=0.05)


def job_in(
    folder: Path,
    init: Path,
    triples: list[tuple[str, str, str]] = TRIPLES,
    end: int = STOP_TOKEN,
    **changes: Any,
) -> TrainingJob:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "prompt_token_ids": ids(prompt),
            "chosen_token_ids": [*ids(chosen), end],
            "rejected_token_ids": [*ids(rejected), end],
            "origin": "gold",
        }
        for prompt, chosen, rejected in triples
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "pairs.parquet")
    job = TrainingJob(
        init,
        folder / "pairs.parquet",
        folder / "checkpoint",
        folder / "train.log",
        settings=ONE_BATCH,
        max_length=64,
        seed=7,
        baseline=init,
        objective="dpo",
    )
    return replace(job, **changes)


def trainer_of(job: TrainingJob, reference: str = "start") -> Any:
    return Dpo(reference).prepare(job, check_checkpoint(job.init)).trainer


def logprob(model: Any, prompt: str, text: str) -> float:
    """Of the text and its stop token, summed by hand."""
    import torch

    tokens = [*ids(prompt), *ids(text), STOP_TOKEN]
    with torch.no_grad():
        found = model(torch.tensor([tokens])).logits.log_softmax(-1)[0]
    start = len(ids(prompt))
    return sum(float(found[i - 1, tokens[i]]) for i in range(start, len(tokens)))


def margins(folder: Path) -> list[float]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return [logprob(model, p, good) - logprob(model, p, bad) for p, good, bad in TRIPLES]


# -- the data ----------------------------------------------------------------------------


def test_trl_gets_the_ids_as_they_are_with_the_prompt_masked_and_the_stop_token_learnt(
    tmp_path: Path, init: Path
) -> None:
    trainer = trainer_of(job_in(tmp_path, init))
    prompt, chosen, rejected = TRIPLES[0]
    batch = trainer.data_collator([trainer.train_dataset[0]])
    for row, text in enumerate((chosen, rejected)):
        expected = [*ids(prompt), *ids(text), STOP_TOKEN]
        size = len(expected)
        assert batch["input_ids"][row, :size].tolist() == expected
        learnt = [0] * len(ids(prompt)) + [1] * (len(ids(text)) + 1)
        assert batch["completion_mask"][row, :size].tolist() == learnt
        # What follows is padding: neither seen nor learnt.
        assert batch["attention_mask"][row].sum() == size
        assert batch["completion_mask"][row, size:].sum() == 0


def test_the_reference_is_the_starting_model_on_those_very_tokens(
    tmp_path: Path, init: Path
) -> None:
    from transformers import AutoModelForCausalLM

    trainer = trainer_of(job_in(tmp_path, init))
    model = AutoModelForCausalLM.from_pretrained(init).eval()
    for i in (0, 7):
        prompt, chosen, rejected = TRIPLES[i]
        row = trainer.train_dataset[i]
        assert row["ref_chosen_logps"] == pytest.approx(logprob(model, prompt, chosen), abs=1e-3)
        assert row["ref_rejected_logps"] == pytest.approx(
            logprob(model, prompt, rejected), abs=1e-3
        )
    assert trainer.ref_model is None


def test_the_reference_can_be_round_0s_model_instead(tmp_path: Path, init: Path) -> None:
    from transformers import AutoModelForCausalLM

    other = save_tiny_llama(tmp_path / "other", seed=6, spread=0.05)
    trainer = trainer_of(job_in(tmp_path / "1", init, baseline=other), "baseline")
    model = AutoModelForCausalLM.from_pretrained(other).eval()
    prompt, chosen, _ = TRIPLES[0]
    found = trainer.train_dataset[0]["ref_chosen_logps"]
    assert found == pytest.approx(logprob(model, prompt, chosen), abs=1e-3)
    assert trainer.ref_model is None, "its memory is free before the first step"


def test_with_blended_weights_the_reference_is_the_blend(tmp_path: Path, init: Path) -> None:
    other = save_tiny_llama(tmp_path / "other", seed=6, spread=0.05)
    plain = trainer_of(job_in(tmp_path / "1", init))
    blended = trainer_of(job_in(tmp_path / "2", init, blend_with=other, blend=0.5))
    model = blended.model.eval()
    prompt, chosen, _ = TRIPLES[0]
    found = blended.train_dataset[0]["ref_chosen_logps"]
    assert found == pytest.approx(logprob(model, prompt, chosen), abs=1e-3)
    assert found != pytest.approx(plain.train_dataset[0]["ref_chosen_logps"], abs=1e-3)


def test_pairs_that_are_too_long_are_left_out_and_counted(tmp_path: Path, init: Path) -> None:
    job = job_in(tmp_path, init, [*TRIPLES, ("1", "2", "3" * 80)])
    rows, origins, num_refused = read_rows(job, check_checkpoint(init))
    assert (len(rows), num_refused) == (len(TRIPLES), 1) and set(origins) == {"gold"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"end": 5}, "does not end with a stop token"),
        ({"max_length": 3}, "no pair of at most 3 tokens"),
    ],
)
def test_what_nobody_should_learn_from_is_refused(
    tmp_path: Path, init: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        read_rows(job_in(tmp_path, init, **changes), check_checkpoint(init))


# -- training in the child ------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(init: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("run") / "rounds" / "001"
    return folder, train(job_in(folder, init), folder)


def test_training_widens_the_margin_of_every_pair_from_a_first_loss_of_ln_2(
    trained: Any, init: Path
) -> None:
    folder, facts = trained
    assert facts["status"] == "trained" and facts["objective"] == "dpo"
    assert (facts["num_examples"], facts["by_origin"]) == (16, {"gold": 16})
    # Before the first step the model is its own reference.
    assert facts["loss"][0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert facts["loss"][-1]["rewards/margins"] > facts["loss"][0]["rewards/margins"] + 0.05
    before, after = margins(init), margins(folder / "checkpoint")
    assert all(b < a for b, a in zip(before, after, strict=True))


def test_the_weight_sync_check_is_of_the_new_weights_on_texts_of_both_kinds(
    trained: Any, init: Path
) -> None:
    folder, facts = trained
    assert facts["weight_sync"]["rms"] > 0
    check = weight_sync.read(folder / "checkpoint" / weight_sync.FILE_NAME)
    assert check.change is not None and check.change.has_power
    texts = {tuple(text.token_ids) for text in check.texts}
    chosen = {(*ids(p), *ids(good), STOP_TOKEN) for p, good, _ in TRIPLES}
    rejected = {(*ids(p), *ids(bad), STOP_TOKEN) for p, _, bad in TRIPLES}
    assert texts & chosen and texts & rejected


def test_the_checkpoint_is_like_the_one_that_it_was_trained_from(trained: Any, init: Path) -> None:
    folder, _ = trained
    found = {file.name for file in (folder / "checkpoint").iterdir()}
    assert "model.safetensors" in found and "training_args.bin" not in found
    assert {"tokenizer.json", "config.json"} <= found
    before, after = (
        json.loads((path / "config.json").read_text()) for path in (init, folder / "checkpoint")
    )
    assert before["vocab_size"] == after["vocab_size"] and "dtype" in after
    assert not (folder / "trainer").exists()


def test_the_same_seed_gives_the_same_weights(trained: Any, init: Path, tmp_path: Path) -> None:
    folder, _ = trained
    train(job_in(tmp_path, init), tmp_path)
    files = [path / "checkpoint" / "model.safetensors" for path in (folder, tmp_path)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_an_adapter_learns_the_pairs_and_goes_on_with_itself_for_a_reference(
    tmp_path: Path, init: Path
) -> None:
    settings = {**ONE_BATCH, "learning_rate": 1e-2}
    first, second = tmp_path / "001", tmp_path / "002"
    facts = train(job_in(first, init, peft=LORA, settings=settings), first)
    assert facts["loss"][0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    again = train(job_in(second, first / "checkpoint", peft=LORA, settings=settings), second)
    # Its own copy is the reference, not the model without it.
    assert again["loss"][0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert again["loss"][-1]["rewards/margins"] > 0.05
    for folder in (first, second):
        found = sorted(path.name for path in (folder / "checkpoint").iterdir())
        assert "adapter_model.safetensors" in found
        assert "model.safetensors" not in found and "ref" not in found


def test_an_adapter_can_be_kept_near_to_round_0s_model_instead_of_itself(
    tmp_path: Path, init: Path
) -> None:
    from transformers import AutoModelForCausalLM

    first = tmp_path / "001"
    settings = {**ONE_BATCH, "learning_rate": 1e-2}
    train(job_in(first, init, peft=LORA, settings=settings), first)
    job = job_in(tmp_path / "002", first / "checkpoint", peft=LORA, baseline=init)
    own, baseline = trainer_of(job), trainer_of(job, "baseline")
    model = AutoModelForCausalLM.from_pretrained(init).eval()
    prompt, chosen, _ = TRIPLES[0]
    expected = pytest.approx(logprob(model, prompt, chosen), abs=1e-3)
    assert baseline.train_dataset[0]["ref_chosen_logps"] == expected
    assert own.train_dataset[0]["ref_chosen_logps"] != expected
    for trainer in (own, baseline):
        assert list(trainer.model.peft_config) == ["default"] and trainer.ref_model is None


def test_a_loss_that_is_no_longer_finite_rejects_the_round(tmp_path: Path, init: Path) -> None:
    settings = {**ONE_BATCH, "learning_rate": 1e9, "max_grad_norm": 1e12}
    facts = train(job_in(tmp_path, init, settings=settings), tmp_path)
    assert facts["status"] == "rejected" and not (tmp_path / "checkpoint").exists()


def test_what_trl_refuses_is_an_error_of_the_recipe(tmp_path: Path, init: Path) -> None:
    wrong = {**ONE_BATCH, "f_divergence_type": "js_divergence", "loss_type": "nca_pair"}
    with pytest.raises(RecipeError, match="f_divergence_type"):
        train(job_in(tmp_path, init, settings=wrong), tmp_path)
