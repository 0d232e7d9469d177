"""The loss that a round trains on, on tiny models: TRL's own, whatever makes it cheaper.

Each comparison trains for real: losses, gradients and weights, not settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny import CHARACTERS, ids, save_tiny_llama, save_tiny_tokenizer

from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.engines.tokens import Codec
from ouroloop.loop.engines.transformers_local import load_codec
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.objectives import batches, label_logits
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.sft import build_trainer, read_rows
from ouroloop.loop.objectives.training import run

pytestmark = pytest.mark.slow

STOP_TOKEN = 1
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
# Of very different lengths, so that padding and packing have something to do.
PAIRS = [(f"{'1+' * n}{a}=", str(n + a) * (1 + a % 3)) for n in (1, 4, 9, 20) for a in range(2, 6)]
ONE_STEP = {
    "learning_rate": 1e-3,
    "max_steps": 1,
    "per_device_train_batch_size": 16,
    "optim": "sgd",
    "max_grad_norm": 0.0,
    "lr_scheduler_type": "constant",
}


def job_in(folder: Path, init: Path, copies: int = 1, **changes: Any) -> TrainingJob:
    """One step of plain gradient descent on all pairs: the weights show the gradient."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"prompt_token_ids": ids(p), "completion_token_ids": [*ids(c), STOP_TOKEN]}
        for p, c in copies * PAIRS
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "examples.parquet")
    job = TrainingJob(
        init,
        folder / "examples.parquet",
        folder / "checkpoint",
        folder / "train.log",
        settings=ONE_STEP,
        max_length=128,
        seed=7,
    )
    return replace(job, **changes)


# Of every tiny model here, whatever its architecture.
SIZES = {
    "vocab_size": 4 + len(CHARACTERS),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
HEADS = {"intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}


def save_tiny(kind: str, folder: Path, **settings: Any) -> Path:
    """A random model of an architecture of transformers ("Gemma2"), with its tokenizer."""
    import transformers

    torch.manual_seed(3)
    config = getattr(transformers, f"{kind}Config")(**SIZES, **settings)
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder)
    save_tiny_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    spread = {"initializer_range": 0.2}
    capped = {**HEADS, **spread, "head_dim": 16, "final_logit_softcapping": 5.0}
    scaled = {**HEADS, **spread, "logits_scaling": 3.0}
    return {
        "untied": save_tiny_llama(folder / "untied", spread=0.1),
        "tied": save_tiny_llama(folder / "tied", tied=True, spread=0.1),
        # It caps its logits, and ties its output layer to its embedding.
        "capped": save_tiny("Gemma2", folder / "capped", **capped),
        # It divides its logits by a number of its config.
        "scaled": save_tiny("Granite", folder / "scaled", **scaled),
    }


@pytest.fixture(autouse=True)
def _as_if_vocabularies_were_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_logits, "SMALL_VOCABULARY", 0)


def trainer_of(job: TrainingJob) -> Any:
    checkpoint = check_checkpoint(job.init)
    return build_trainer(job, checkpoint, read_rows(job, checkpoint)[0])


def first_batch(trainer: Any) -> Any:
    return next(iter(trainer.get_train_dataloader()))


def loss_and_gradients(trainer: Any, batch: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    loss = trainer.compute_loss(
        trainer.model, dict(batch), num_items_in_batch=(batch["labels"] != -100).sum()
    )
    loss.backward()
    named = trainer.model.named_parameters()
    return loss.item(), {name: p.grad for name, p in named if p.grad is not None}


def positions_asked(trainer: Any) -> list[int]:
    """For how many positions the output layer is called, from now on; TRL never calls it."""
    asked: list[int] = []
    head = label_logits.model_within(trainer.model).get_output_embeddings()
    head.register_forward_hook(lambda _, inputs, output: asked.append(len(inputs[0])))
    return asked


HEAD_TOO = {**LORA, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}


@pytest.mark.parametrize(
    ("model", "peft", "loss_type"),
    [
        ("untied", None, "nll"),
        ("tied", None, "nll"),
        ("capped", None, "nll"),
        ("scaled", None, "nll"),
        ("untied", None, "dft"),
        ("tied", LORA, "nll"),
        ("untied", HEAD_TOO, "nll"),
    ],
)
def test_logits_at_the_labels_alone_give_trls_loss_and_gradients(
    models: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    peft: dict[str, Any] | None,
    loss_type: str,
) -> None:
    sft = {**ONE_STEP, "loss_type": loss_type}
    job = job_in(tmp_path, models[model], peft=peft, settings=sft)
    ours = trainer_of(job)
    monkeypatch.setattr(label_logits, "skip_unlabelled", lambda model: None)
    trls = trainer_of(job)
    batch = first_batch(ours)
    asked = positions_asked(ours)
    loss, gradients = loss_and_gradients(ours, batch)
    expected, right = loss_and_gradients(trls, batch)
    assert asked == [int((batch["labels"] != -100).sum())]
    assert loss == pytest.approx(expected, rel=1e-5)
    assert gradients.keys() == right.keys()
    assert any(float(gradient.abs().max()) > 1e-4 for gradient in right.values())
    for name, gradient in right.items():
        assert torch.allclose(gradients[name], gradient, rtol=1e-3, atol=1e-6), name
    for name in ("entropy", "mean_token_accuracy", "num_tokens"):
        assert ours._metrics["train"][name] == pytest.approx(trls._metrics["train"][name], rel=1e-4)


def test_a_batch_with_more_logits_than_fit_is_left_to_trl_with_the_same_loss(
    models: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(job_in(tmp_path, models["untied"]))
    batch = first_batch(trainer)
    loss, _ = loss_and_gradients(trainer, batch)
    asked = positions_asked(trainer)
    monkeypatch.setattr(label_logits, "MOST_LOGITS", 10)
    assert loss_and_gradients(trainer, batch)[0] == pytest.approx(loss, rel=1e-5)
    assert not asked


def test_an_output_layer_that_is_called_otherwise_is_left_to_trl(
    models: Mapping[str, Path], tmp_path: Path
) -> None:
    trainer = trainer_of(job_in(tmp_path, models["untied"]))
    batch = first_batch(trainer)
    loss, _ = loss_and_gradients(trainer, batch)
    other = torch.nn.Linear(2, 2)
    native = trainer.model.get_output_embeddings
    # What stands there is never called by the model's own forward.
    calls = iter([other, other])
    trainer.model.get_output_embeddings = lambda: next(calls, native())
    assert loss_and_gradients(trainer, batch)[0] == pytest.approx(loss, rel=1e-5)


def trained(job: TrainingJob) -> tuple[float, dict[str, torch.Tensor]]:
    """(the logged loss of the last step, the saved weights)."""
    import json

    from safetensors.torch import load_file

    folder = job.examples.parent
    run(job, folder)
    facts = json.loads((folder / "train.json").read_text())
    return facts["loss"][-1]["loss"], load_file(job.output / "model.safetensors")


def same(ours: Any, others: Any, within: float = 1e-6) -> None:
    assert ours[0] == pytest.approx(others[0], rel=1e-4)
    for name, weights in ours[1].items():
        assert torch.allclose(weights, others[1][name], rtol=1e-4, atol=within), name


@pytest.fixture(scope="module")
def plain(models: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One step on the whole batch at once, with nothing switched on."""
    return trained(job_in(tmp_path_factory.mktemp("plain"), models["untied"]))


@pytest.mark.parametrize(
    "settings",
    [
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4},
        {"gradient_checkpointing": True},
        {"padding_free": True},
        {"train_sampling_strategy": "random"},
    ],
    ids=lambda settings: "+".join(settings),
)
def test_a_setting_that_saves_memory_or_padding_changes_neither_loss_nor_update(
    models: Mapping[str, Path], tmp_path: Path, plain: Any, settings: dict[str, Any]
) -> None:
    same(trained(job_in(tmp_path, models["untied"], settings={**ONE_STEP, **settings})), plain)


def padded_share(trainer: Any) -> float:
    """Share of a pass's positions that are padding."""
    masks = [batch["attention_mask"] for batch in trainer.get_train_dataloader()]
    return 1 - sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks)


def test_rows_of_like_length_share_a_batch_by_default(
    models: Mapping[str, Path], tmp_path: Path
) -> None:
    # transformers sorts within stretches of fifty batches, and of fewer where rows are few.
    job = job_in(tmp_path, models["untied"], copies=16)
    sft = {**ONE_STEP, "per_device_train_batch_size": 4}
    default = trainer_of(replace(job, settings=sft))
    mixed = trainer_of(replace(job, settings={**sft, "train_sampling_strategy": "random"}))
    assert padded_share(default) < 0.5 * padded_share(mixed)


@pytest.mark.parametrize("peft", [None, LORA], ids=["all weights", "LoRA"])
@pytest.mark.parametrize("is_checkpointed", [False, True], ids=["", "gradient_checkpointing"])
def test_the_texts_of_a_large_model_share_a_row_with_the_loss_and_gradients_of_padded_ones(
    models: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    peft: dict[str, Any] | None,
    is_checkpointed: bool,
) -> None:
    monkeypatch.setattr(batches, "SMALL_PARAMETERS", 0)
    sft = {**ONE_STEP, "gradient_checkpointing": is_checkpointed}
    job = job_in(tmp_path, models["tied"], peft=peft, settings=sft)
    ours, padded = (
        trainer_of(replace(job, settings=settings))
        # What the recipe says itself stands.
        for settings in (sft, {**sft, "padding_free": False})
    )
    batch, other = first_batch(ours), first_batch(padded)
    assert "attention_mask" not in batch and len(batch["input_ids"]) == 1
    assert "attention_mask" in other and len(other["input_ids"]) == len(PAIRS)
    loss, gradients = loss_and_gradients(ours, batch)
    expected, right = loss_and_gradients(padded, other)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert gradients.keys() == right.keys()
    for name, gradient in right.items():
        assert torch.allclose(gradients[name], gradient, rtol=1e-3, atol=1e-6), name


def test_in_a_row_a_position_is_compared_with_its_own_text_alone(
    models: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "SMALL_PARAMETERS", 0)
    compared: list[tuple[int, int]] = []
    attention = batches.sdpa_attention_forward

    def counted(module: Any, query: torch.Tensor, key: torch.Tensor, *others: Any, **more: Any):
        compared.append((query.shape[2], key.shape[2]))
        return attention(module, query, key, *others, **more)

    monkeypatch.setattr(batches, "sdpa_attention_forward", counted)
    trainer = trainer_of(job_in(tmp_path, models["untied"]))
    compared.clear()
    trainer.compute_loss(trainer.model, dict(first_batch(trainer)))
    lengths = sorted(len(ids(p)) + len(ids(c)) + 1 for p, c in PAIRS)
    assert sorted(compared) == sorted(SIZES["num_hidden_layers"] * [(n, n) for n in lengths])


def test_a_model_whose_layers_see_a_window_or_cap_their_attention_keeps_padded_batches(
    models: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "SMALL_PARAMETERS", 0)
    save_tiny("Mistral", tmp_path / "windowed", **HEADS, sliding_window=8)
    for model in (tmp_path / "windowed", models["capped"]):
        trainer = trainer_of(job_in(tmp_path / f"run {model.name}", model))
        assert "attention_mask" in first_batch(trainer), model.name


def test_padding_free_is_refused_for_a_model_that_reads_on_from_text_to_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state-space model carries its state over a boundary that only positions mark."""
    save_tiny("Mamba", tmp_path / "model", state_size=8, initializer_range=0.5)
    job = job_in(tmp_path / "run", tmp_path / "model", settings={**ONE_STEP, "padding_free": True})
    with pytest.raises(RecipeError, match=r"sft\.padding_free: .* lets them see each other"):
        trainer_of(job)
    # Nor does it get such batches unasked.
    monkeypatch.setattr(batches, "SMALL_PARAMETERS", 0)
    plain = trainer_of(replace(job, settings=ONE_STEP))
    assert "attention_mask" in first_batch(plain)


def test_packing_is_refused_and_padding_free_named_in_its_place() -> None:
    from ouroloop.loop.objectives.sft_settings import check_settings

    with pytest.raises(RecipeError, match=r"sft\.packing: .* padding_free: true"):
        check_settings({"packing": True}, None)


TEMPLATE = (
    "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}<eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)


def chat_codec(folder: Path) -> Codec:
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return load_codec(check_checkpoint(folder))


def test_of_a_conversation_only_the_last_answer_and_its_stop_token_are_learnt(
    tmp_path: Path,
) -> None:
    codec = chat_codec(save_tiny_llama(tmp_path / "model"))
    turns = [
        {"role": "user", "content": "1+1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2+2"},
    ]
    prompt, completion = codec.prompt_ids(turns), codec.completion_ids(turns, "4")
    path = tmp_path / "examples.parquet"
    row = {"prompt_token_ids": prompt, "completion_token_ids": completion}
    pq.write_table(pa.Table.from_pylist([row]), path)
    job = TrainingJob(tmp_path / "model", path, tmp_path / "c", tmp_path / "log", max_length=64)
    ((found,), _, _) = read_rows(job, check_checkpoint(job.init))
    whole = codec.tokenizer.decode(found["input_ids"])
    learnt = [token for token in found["labels"] if token != -100]
    assert whole == "u:1+1a:2<eos>u:2+2a:4<eos>"
    assert codec.tokenizer.decode(learnt) == "4<eos>"
    # The earlier answer and its stop token stand in the prompt, where nothing is learnt.
    assert set(found["labels"][: len(prompt)]) == {-100}


def test_where_all_answers_of_a_conversation_are_learnt_the_loss_is_that_of_their_tokens(
    models: Mapping[str, Path], tmp_path: Path
) -> None:
    # Two answers, of two tokens each with their stop tokens; the second is the completion.
    prompt, completion = [4, 5, 6, 7, 1, 8, 9, 10], [11, 1]
    row = {
        "prompt_token_ids": prompt,
        "completion_token_ids": completion,
        "learnt_prompt_positions": [3, 4],
    }
    job = job_in(tmp_path, models["untied"])
    pq.write_table(pa.Table.from_pylist([row]), job.examples)
    trainer = trainer_of(job)
    batch = next(iter(trainer.get_train_dataloader()))
    loss, _ = loss_and_gradients(trainer, batch)
    ids = torch.tensor([prompt + completion], device=trainer.model.device)
    with torch.no_grad():
        logprobs = trainer.model(input_ids=ids).logits[0].log_softmax(-1)
    learnt = [3, 4, 8, 9]
    expected = -sum(float(logprobs[place - 1, ids[0, place]]) for place in learnt) / len(learnt)
    assert loss == pytest.approx(expected, rel=1e-4)
