"""Models that think before they answer: what is read, shown to the critic and trained on."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from openai_server import Server, serving
from scripted_world import SMALL, TASK, Model, carry, recipe

from ouroloop.evals.tasks import Problem
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.config import ReasoningConfig
from ouroloop.loop.engines.scripted import Answer, ScriptedEngine
from ouroloop.loop.reasoning import Reasoning, ThinkingTask
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.records import Completion, Prompt, Sample
from ouroloop.loop.round import Round
from ouroloop.loop.setup import prepare
from ouroloop.loop.stages.case import examine

THOUGHT = "<think>1+1=3\nanswer 7</think>\n"


def marks(opened: bool = False, **settings) -> Reasoning:
    return Reasoning(ReasoningConfig(**settings), opened)


@pytest.mark.parametrize(
    ("text", "opened", "answer"),
    [
        ("<think>2 and 3</think>\nanswer 5", False, "answer 5"),
        ("2 and 3</think>\n\nanswer 5", True, "answer 5"),
        ("2 and 3</think>answer 5", False, "answer 5"),
        ("answer 5", False, "answer 5"),
        ("answer 5", True, None),
        ("<think>answer 5", False, None),
        ("<think>a</think>answer 4 <think>no, answer 5", False, None),
        ("<think>a</think><think>b</think>answer 5", False, "answer 5"),
        ("<think>a</think>", False, ""),
        ("", True, None),
    ],
)
def test_the_answer_is_read_after_the_last_thought_and_an_open_one_has_none(text, opened, answer):
    assert marks(opened).answer(text) == answer


def test_an_unclosed_thought_is_wrong_with_its_reason_and_unscored_without_gold():
    task = ThinkingTask(TASK, marks())
    problem = next(p for p in TASK.problems("train") if p.answer)
    found = task.grade(problem, f"<think>answer {problem.answer}")
    assert (found.correct, found.answer, found.is_closed) == (False, None, False)
    assert task.grade(problem, f"<think>answer 7</think>answer {problem.answer}").correct is True
    no_gold = Problem("p", "?", None)
    assert task.grade(no_gold, "<think>answer 7").correct is None
    nothing = task.grade(problem, "<think>answer 7</think> \n")
    assert nothing.correct is False and not nothing.is_closed
    assert task.grade(no_gold, "<think>hm</think>").correct is None
    assert task.name == TASK.name and task.problems("train") == TASK.problems("train")


def test_the_step_checker_sees_what_the_recipe_says():
    problem = TASK.problems("train")[0]
    text = THOUGHT + str(problem.solution)
    assert ThinkingTask(TASK, marks()).check_steps(problem, text).valid is True
    assert ThinkingTask(TASK, marks(critic_sees="all")).check_steps(problem, text).valid is not True


class Thinker(Model):
    """Thinks before every answer and critique; one thought in five is never closed."""

    def answer(self, request):
        said = super().answer(request)
        # By the request's id: the same thoughts stay open whenever it is asked.
        if "/draft/" in request.id and random.Random(f"open {request.id}").random() < 0.2:
            return Answer("<think>" + said)
        return THOUGHT + said


def thinking(**reasoning):
    return recipe(
        rounds=1,
        probe=SMALL["probe"],
        reasoning=reasoning,
        sampling={"max_tokens": 250},
        refine={"max_critique_tokens": 300, "revisions": 0},
        chat_template_kwargs={"enable_thinking": True},
        peft=None,
    )


def test_what_a_grader_calls_its_method_closes_no_thought():
    class Wordy(ArithmeticTask):
        def grade(self, problem, text):
            return replace(super().grade(problem, text), method="unclosed thought")

    problem = TASK.problems("train")[0]
    said = Completion("r", (1,), (2, 3), (-0.1, -0.1), str(problem.solution), "stop", "v")
    sample = Sample("s", problem.id, 0, 1.0, said)
    (case,) = examine([sample], {problem.id: problem}, Wordy(), TASK.strategy)
    assert case.is_closed and case.correct


@pytest.mark.slow
@pytest.mark.parametrize("train", ["keep", "strip"])
def test_a_round_of_a_thinking_model_keeps_closed_thoughts_alone(tmp_path, train):
    model = Thinker(lambda number: 0.8)
    _, path = carry(tmp_path, model, thinking(train=train))
    round = Round.of(path, 1)
    unclosed = [v for v in round.verdicts if "</think>" not in v.text]
    assert unclosed and all("format" in v.reasons and v.correct is False for v in unclosed)
    kept = [v for v in round.verdicts if v.kept]
    assert len(kept) > 10
    asked = [r.prompt for r in model.engine.requests if "/critique" in r.id]
    assert asked and not any("<think>" in prompt for prompt in asked)
    assert any(row.approved is not None for row in round.critics), "read after its thought"
    examples = [example for example in round.examples if example.origin == "kept"]
    assert examples
    for example in examples:
        assert example.text.startswith("<think>") is (train == "keep")
        spelt = bytes(i for i in example.completion_token_ids if i < 256).decode()
        assert spelt == example.text and example.completion_token_ids[-1] == 256


@pytest.mark.slow
def test_the_critic_sees_all_of_a_text_where_the_recipe_says_so(tmp_path):
    asked: list[Prompt] = []

    class Seen(Thinker):
        def answer(self, request):
            asked.append(request.prompt)
            plain = request.prompt.replace(THOUGHT, "")
            return super().answer(SimpleNamespace(**{**vars(request), "prompt": plain}))

    settings = thinking(critic_sees="all")
    carry(tmp_path, Seen(), settings)
    assert any("<think>" in prompt for prompt in asked)


def test_after_a_prompt_that_opens_a_thought_an_empty_one_is_learnt():
    assert marks(True).learnt("hm</think>\nanswer 5") == "</think>\n\nanswer 5"
    assert marks().learnt("<think>hm</think>\nanswer 5") == "answer 5"


@pytest.mark.slow
def test_engines_and_teachers_get_the_templates_arguments_and_the_marks():
    config = thinking().engine_config()
    assert config["chat_template_kwargs"] == {"enable_thinking": True}
    assert config["thought_marks"] == ("<think>", "</think>")
    from ouroloop.loop.config import ServersConfig
    from ouroloop.loop.engines.pacing import Limits
    from ouroloop.loop.engines.remote import RemoteEngine
    from ouroloop.loop.records import Request, Sampling

    server = Server(lambda body: ("5", "stop"))
    turns = [{"role": "user", "content": "2+3?"}]

    async def ask(url):
        limits = Limits(**ServersConfig().model_dump(exclude={"max_dropped"}))
        engine = RemoteEngine(f"{url}#teacher", ScriptedEngine(), limits, {"enable_thinking": True})
        try:
            return await engine.complete(Request("r", turns, Sampling(top_k=5), 0))
        finally:
            await engine.close()

    with serving(server) as url:
        assert asyncio.run(ask(url)).text == "5"
    ((_, body),) = server.asked
    assert body["top_k"] == 5 and body["chat_template_kwargs"] == {"enable_thinking": True}


def test_a_prompt_that_opens_a_thought_is_found_in_a_plain_template():
    settings = recipe(
        reasoning={}, task={"kind": "arithmetic", "prompts": {"draft": "{question}\n<think>\n"}}
    )
    setting = prepare(settings)
    assert setting.reasoning is not None and setting.reasoning.opened_by_prompt
    assert not prepare(recipe(reasoning={})).reasoning.opened_by_prompt
    assert prepare(recipe()).reasoning is None


# Slow: transformers comes along.
@pytest.mark.slow
def test_a_prompt_that_opens_a_thought_is_found_in_a_chat_template(tmp_path):
    transformers = pytest.importorskip("transformers")
    from tiny import save_tiny_tokenizer

    from ouroloop.loop.reasoning import opens_thought
    from ouroloop.loop.stages.prompts import CHAT

    save_tiny_tokenizer(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.chat_template = (
        "{{ messages[0].content }}{% if enable_thinking %}<think>\n"
        "{% else %}<think>\n</think>\n{% endif %}"
    )
    tokenizer.save_pretrained(tmp_path)
    for wanted in (True, False):
        settings = recipe(reasoning={}, chat_template_kwargs={"enable_thinking": wanted})
        assert opens_thought(tmp_path, CHAT, settings) is wanted


@pytest.mark.parametrize(
    ("grader", "row", "right", "wrong"),
    [
        pytest.param(
            "symbolic",
            {"answer": "x^2+1"},
            "\\boxed{1+x^2}",
            "\\boxed{x^2-1}",
            marks=pytest.mark.slow,  # its process imports sympy
        ),
        ("exact", {"answer": "Paris"}, "The answer is paris.", "Rome"),
        ("choice", {"answer": "B"}, "The answer is (B)", "(A)"),
        (
            "code",
            {"tests": ["assert f(1) == 2"]},
            "```python\ndef f(x):\n    return x + 1\n```",
            "```python\ndef f(x):\n    return x\n```",
        ),
    ],
)
def test_a_recipe_reaches_each_grader(tmp_path, grader, row, right, wrong):
    if grader == "symbolic":
        pytest.importorskip("math_verify")
    rows = [{"question": f"Question number {i} of all?", **row} for i in range(40)]
    (tmp_path / "problems.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    raw = {
        "name": "graded",
        "task": {"kind": "jsonl", "path": "problems.jsonl", "grader": grader},
        "filters": {"steps": False},
        "probe": {"problems": 5, "family_problems": 0},
        "refine": {"revisions": 0},
    }
    setting = prepare(resolve(raw, base=tmp_path))
    problem = setting.problems[0]
    assert setting.task.grade(problem, right).correct is True
    assert setting.task.grade(problem, wrong).correct is False


def test_the_marks_are_the_recipes():
    settings = recipe(
        reasoning={
            "open": "[THINK]",
            "close": "[/THINK]",
            "train": "strip",
            "critic_sees": "all",
        },
        peft=None,
    )
    reasoning = prepare(settings).reasoning
    assert reasoning is not None
    assert reasoning.answer("[THINK]a[/THINK]answer 5") == "answer 5"
    assert reasoning.answer("[THINK]answer 5") is None
    assert settings.engine_config()["thought_marks"] == ("[THINK]", "[/THINK]")
