"""Teachers behind an OpenAI-compatible address.

What they are asked, what becomes of their answers, and which errors are reported.
"""

import asyncio
import time

import pytest
from openai_server import Server, serving

from ouroloop.loop.engines import remote
from ouroloop.loop.engines.remote import RemoteEngine
from ouroloop.loop.engines.scripted import STOP_TOKEN, ScriptedEngine
from ouroloop.loop.errors import CheckpointError, EngineError, PromptTooLongError, RecipeError
from ouroloop.loop.records import Request, Sampling

PLAIN = Request(
    "000/teacher0/p/draft/0", "2+2\nA:\n", Sampling(temperature=0.7, max_tokens=9), seed=5
)
CHAT = Request(
    "000/teacher0/p/draft/0",
    [{"role": "system", "content": "Explain."}, {"role": "user", "content": "2+2"}],
    Sampling(),
    seed=5,
)


def ask(url, *requests, concurrency=8):
    async def all_of_them():
        engine = RemoteEngine(f"{url}#teacher", ScriptedEngine(), concurrency)
        try:
            return await asyncio.gather(*(engine.complete(request) for request in requests))
        finally:
            await engine.close()

    return asyncio.run(all_of_them())


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.02)


def test_plain_text_is_asked_with_the_pinned_sampling_and_comes_back_in_the_students_tokens():
    server = Server(lambda body: ("answer 4", "stop"))
    with serving(server) as url:
        (answer,) = ask(url, PLAIN)
    ((path, body),) = server.asked
    assert path == "/v1/completions"
    assert body == {
        "model": "teacher",
        "prompt": PLAIN.prompt,
        "temperature": 0.7,
        "top_p": 1.0,
        "max_tokens": 9,
        "n": 1,
        "seed": 5,
    }
    assert answer.text == "answer 4" and answer.finish_reason == "stop" and answer.logprobs == ()
    assert answer.token_ids == (*b"answer 4", STOP_TOKEN) and answer.prompt_token_ids == tuple(
        PLAIN.prompt.encode()
    )
    assert answer.weight_version == f"{url}#teacher"


def test_chat_turns_are_asked_as_chat_and_vllms_own_settings_are_sent_where_they_are_set():
    server = Server(lambda body: (body["messages"][0]["content"], "stop"))
    with serving(server) as url:
        (answer,) = ask(url, Request(CHAT.id, CHAT.prompt, Sampling(top_k=20), 1))
    ((path, body),) = server.asked
    assert (
        path == "/v1/chat/completions"
        and body["messages"] == CHAT.prompt
        and answer.text == "Explain."
    )
    assert body["top_k"] == 20 and "min_p" not in body


@pytest.mark.parametrize(
    ("text", "reason"),
    [("answer", "length"), ("answer 4", "content_filter"), ("", "stop"), (None, "stop")],
)
def test_an_answer_that_was_cut_filtered_or_empty_is_never_one_to_train_on(text, reason):
    with serving(Server(lambda body: (text, reason))) as url:
        (answer,) = ask(url, CHAT)
    assert answer.finish_reason == "length" and STOP_TOKEN not in answer.token_ids


def test_half_a_surrogate_pair_in_a_servers_json_becomes_a_replacement_character():
    with serving(Server(lambda body: ("4 \ud83d", "stop"))) as url:
        (answer,) = ask(url, PLAIN)
    assert answer.text == "4 \ufffd"
    assert answer.token_ids == (*"4 \ufffd".encode(), STOP_TOKEN)


def test_a_server_that_stumbles_is_asked_again_and_one_that_stays_down_is_named():
    server = Server(lambda body: ("answer 4", "stop"), failures=[500, 429, 503])
    with serving(server) as url:
        assert ask(url, PLAIN)[0].text == "answer 4" and len(server.asked) == 4
        server.failures = [500] * 99
        with pytest.raises(
            EngineError,
            match=r"draft/0: .*/v1/completions failed: .*500.*asked to fail.*ouroloop resume",
        ):
            ask(url, PLAIN)


def test_a_refusal_is_not_repeated_and_a_context_that_is_too_short_costs_one_sample_only():
    server = Server(lambda body: ("", "stop"), failures=[400])
    with serving(server) as url, pytest.raises(EngineError, match="400"):
        ask(url, PLAIN)
    assert len(server.asked) == 1
    server = Server(lambda body: ("", "stop"))
    full = {"error": {"message": "This model's maximum context length is 512 tokens"}}
    server.reply = lambda path, body, key: (400, full)
    with serving(server) as url, pytest.raises(PromptTooLongError, match="maximum context length"):
        ask(url, PLAIN)


def test_no_more_requests_than_allowed_are_in_flight():
    def slowly(body):
        time.sleep(0.02)
        return "answer 4", "stop"

    server = Server(slowly)
    with serving(server) as url:
        ask(url, *[PLAIN] * 12, concurrency=3)
    assert len(server.asked) == 12 and server.most_at_once <= 3


def test_the_key_comes_from_the_environment(monkeypatch):
    with serving(Server(lambda body: ("answer 4", "stop"), key="k-1")) as url:
        monkeypatch.setenv("OPENAI_API_KEY", "wrong")
        with pytest.raises(CheckpointError, match=r"refused \(401\).*OPENAI_API_KEY"):
            remote.check(f"{url}#teacher")
        monkeypatch.setenv("OPENAI_API_KEY", "k-1")
        remote.check(f"{url}#teacher")
        assert ask(url, PLAIN)[0].text == "answer 4"


def test_a_server_is_looked_at_before_anything_is_made():
    with serving(Server(lambda body: ("", "stop"), models=("one", "two"))) as url:
        with pytest.raises(
            CheckpointError, match=r"no model is called 'teacher'. There are one, two"
        ):
            remote.check(f"{url}#teacher")
        with pytest.raises(
            CheckpointError, match=r"expected a list of models, got status 404.*vllm serve"
        ):
            remote.check(f"{url}/deeper#one")
    other = Server(lambda body: ("", "stop"))
    other.reply = lambda path, body, key: (200, "some other service")
    with (
        serving(other) as url,
        pytest.raises(CheckpointError, match="expected a list of models, got something else"),
    ):
        remote.check(f"{url}#one")
    with pytest.raises(
        CheckpointError, match=r"no server answers .*vllm serve FOLDER --served-model-name one"
    ):
        remote.check(f"{url}#one")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://127.0.0.1:1/v1", "no model is named"),
        ("http://me:secret@127.0.0.1/v1#m", "OPENAI_API_KEY"),
        ("http://127.0.0.1/v1?key=secret#m", "OPENAI_API_KEY"),
    ],
)
def test_an_address_names_a_model_and_holds_no_secret(address, says):
    with pytest.raises(RecipeError, match=says) as caught:
        remote.check(address)
    assert "secret" not in str(caught.value)


def test_a_server_does_neither_load_nor_score():
    async def both():
        engine = RemoteEngine("http://127.0.0.1:1/v1#m", ScriptedEngine(), 1)
        with pytest.raises(EngineError, match="cannot be asked to serve"):
            await engine.load("anything")
        with pytest.raises(EngineError, match="does not score"):
            await engine.score([("a", "b")])
        await engine.close()

    asyncio.run(both())
