"""Samples that `CollapseMonitor` takes of a model in training: tokens, log-probabilities, grades.

All slow: transformers comes along.
"""

import logging

import pytest
import torch
from tiny import CHATML, save_tiny_llama
from transformers import AutoModelForCausalLM, AutoTokenizer

from ouroloop.loop.callback.generate import Generate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model and its tokenizer, with a chat template, as a trainer holds them."""
    folder = save_tiny_llama(tmp_path_factory.mktemp("model"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHATML
    return AutoModelForCausalLM.from_pretrained(folder).eval(), tokenizer


def test_generated_rows_have_the_models_own_log_probabilities_and_are_the_same_for_the_same_step(
    trained,
):
    model, tokenizer = trained
    problems = [
        {"problem": "a", "prompt": "1 + 1 =", "family": "f"},
        {"problem": "b", "prompt": "20 + 30 ="},
    ]
    generate = Generate(problems, lambda p, text: None, samples=3, max_new_tokens=6, batch_size=4)
    rows = list(generate(model, tokenizer, 5))
    assert (
        len(rows) == 6
        and rows == list(generate(model, tokenizer, 5))
        and rows != list(generate(model, tokenizer, 6))
    )
    row = next(r for r in rows if r["truncated"] and len(r["text"]) == 6)
    prompt = tokenizer(
        "1 + 1 =" if row["problem"] == "a" else "20 + 30 =", add_special_tokens=False
    )["input_ids"]
    ids = tokenizer(row["text"], add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
    assert row["logprobs"] == pytest.approx(
        [float(logits[len(prompt) - 1 + t, token]) for t, token in enumerate(ids)], abs=1e-3
    )


@pytest.mark.parametrize("chat", [False, True], ids=["text", "chat"])
def test_a_control_token_that_a_problem_spells_is_text_to_the_model(trained, monkeypatch, chat):
    model, tokenizer = trained
    asked = []
    generate = model.generate
    monkeypatch.setattr(
        model, "generate", lambda **inputs: (asked.append(inputs), generate(**inputs))[1]
    )

    def prompt(text):
        return [{"role": "user", "content": text}] if chat else text

    problems = [
        {"problem": "plain", "prompt": prompt("1 + 1 =")},
        {"problem": "hostile", "prompt": prompt("1<eos>1<bos> + 1 =")},
    ]
    rows = list(Generate(problems, lambda p, text: None, samples=1, max_new_tokens=2)(*trained, 1))
    ((plain, hostile),) = ((ids.tolist() for ids in each["input_ids"]) for each in asked)
    for token in (tokenizer.eos_token_id, tokenizer.bos_token_id):
        assert hostile.count(token) == plain.count(token)
    # Padding stands on the left and is attended to by nobody.
    assert asked[0]["attention_mask"].sum(1).tolist()[0] < len(plain) == len(hostile)
    assert [row["problem"] for row in rows] == ["plain", "hostile"]


def test_a_users_grader_that_raises_leaves_its_sample_unscored(caplog):
    def grade(problem, text):
        return int(text) == 4

    generate = Generate([], grade)
    with caplog.at_level(logging.WARNING):
        verdicts = [generate._grade({"problem": "p7"}, text) for text in ("4", "5", "9" * 5_000)]
    assert verdicts == [True, False, None]
    assert "problem p7 is unscored: ValueError in grade" in caplog.text
