"""The fake engine keeps the protocol's promises, and fails on command."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

import pytest

from ouroloop.loop.engines.registry import ENGINES
from ouroloop.loop.engines.scripted import STOP_TOKEN, Answer, ScriptedEngine
from ouroloop.loop.errors import EngineError, PromptTooLongError
from ouroloop.loop.records import Completion, Prompt, Request, Sampling, Scored

T = TypeVar("T")


def run(coroutine: Coroutine[None, None, T]) -> T:
    return asyncio.run(coroutine)


def request(
    prompt: str = "Q: 1+1\nA:", max_tokens: int = 8, name: str = "r", seed: int = 0
) -> Request:
    return Request(name, prompt, Sampling(max_tokens=max_tokens), seed)


def loaded(engine: ScriptedEngine) -> ScriptedEngine:
    run(engine.load(Path("runs/x/rounds/001/checkpoint")))
    return engine


def test_text_ids_log_probabilities_and_stop_token_agree() -> None:
    completion = run(
        loaded(ScriptedEngine(lambda r: Answer("zwölf", logprob=-0.5))).complete(request())
    )
    assert completion == Completion(
        "r",
        tuple(b"Q: 1+1\nA:"),
        (*"zwölf".encode(), STOP_TOKEN),
        (-0.5,) * 7,
        "zwölf",
        "stop",
        "001/checkpoint",
    )


@pytest.mark.parametrize(
    ("max_tokens", "text", "reason"),
    [(4, "yes", "stop"), (3, "yes", "length"), (2, "ye", "length")],
)
def test_an_answer_longer_than_allowed_is_cut(max_tokens: int, text: str, reason: str) -> None:
    completion = run(
        loaded(ScriptedEngine(lambda r: "yes")).complete(request(max_tokens=max_tokens))
    )
    assert (completion.text, completion.finish_reason, len(completion.token_ids)) == (
        text,
        reason,
        max_tokens,
    )


def test_it_fails_after_as_many_completions_as_set_and_when_nothing_is_loaded() -> None:
    engine = ScriptedEngine(lambda r: "yes", fail_after=2)
    with pytest.raises(EngineError, match="before load"):
        run(engine.complete(request()))
    loaded(engine)
    for _ in range(2):
        run(engine.complete(request()))
    with pytest.raises(EngineError, match="after 2 completions"):
        run(engine.complete(request()))
    run(engine.close())
    with pytest.raises(EngineError, match="after close"):
        run(engine.complete(request()))


def test_encode_gives_the_ids_that_complete_gives() -> None:
    engine = loaded(ScriptedEngine(lambda r: "2"))
    completion = run(engine.complete(request()))
    assert run(engine.encode([("Q: 1+1\nA:", "2")])) == [
        (list(completion.prompt_token_ids), list(completion.token_ids))
    ]


def test_a_text_is_scored_as_scripted_and_one_that_does_not_fit_comes_back_empty() -> None:
    def surprise(prompt: Prompt, text: str) -> tuple[float, float]:
        if len(text) > 3:
            raise PromptTooLongError("no room")
        return -0.5, 0.25

    engine = loaded(ScriptedEngine(surprise=surprise, fail_after=3))
    fits, does_not = run(engine.score([("Q: 1+1\nA:", "2"), ("Q: 1+1\nA:", "1+1=2")]))
    assert fits == Scored((50, STOP_TOKEN), (-0.5,) * 2, (0.25,) * 2, True, "001/checkpoint")
    assert not does_not.token_ids and not does_not.logprobs
    run(engine.score([("a", "b")]))
    with pytest.raises(EngineError, match="after 3 completions and scores"):
        run(engine.score([("a", "b")]))
    with pytest.raises(EngineError, match="no tokens"):
        run(engine.score([("", "b")]))


def test_the_default_script_echoes_and_chat_turns_are_text_too() -> None:
    chat = Request("r", [{"role": "user", "content": "hello"}], Sampling(max_tokens=32), 0)
    assert run(loaded(ScriptedEngine()).complete(chat)).text == "user: hello"
    assert isinstance(ENGINES["scripted"]({}, Path("log")), ScriptedEngine)
