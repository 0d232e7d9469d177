"""Teachers behind an OpenAI-compatible address.

What they are asked, what becomes of their answers, and which errors are reported.
"""

import asyncio
import json
import threading
import time
from email.utils import formatdate
from itertools import pairwise

import pytest
from malformed_answers import malformed, right
from openai_server import Server, serving

from ouroloop.loop.config import ServersConfig
from ouroloop.loop.engines import pacing, remote, remote_server
from ouroloop.loop.engines.answers import MalformedAnswerError, read_answer
from ouroloop.loop.engines.pacing import Limits, Queue, Turns
from ouroloop.loop.engines.remote import RemoteEngine
from ouroloop.loop.engines.scripted import STOP_TOKEN, ScriptedEngine
from ouroloop.loop.errors import (
    CheckpointError,
    EngineError,
    NoAnswerError,
    PromptTooLongError,
    RecipeError,
)
from ouroloop.loop.records import Request, Sampling

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

PLAIN = Request(
    "000/teacher0/p/draft/0", "2+2\nA:\n", Sampling(temperature=0.7, max_tokens=9), seed=5
)
CHAT = Request(
    "000/teacher0/p/draft/0",
    [{"role": "system", "content": "Explain."}, {"role": "user", "content": "2+2"}],
    Sampling(),
    seed=5,
)


def limits(**settings):
    """As a recipe's `servers` says; without the long waits."""
    chosen = ServersConfig(**{"set_aside_seconds": 0.01, **settings})
    return Limits(**chosen.model_dump(exclude={"max_dropped"}))


def engine_at(*urls, **settings):
    return RemoteEngine(
        " ".join(f"{url}#teacher" for url in urls), ScriptedEngine(), limits(**settings)
    )


def ask(url, *requests, **settings):
    """The answers, or raises the first error."""
    urls = [url] if isinstance(url, str) else url

    async def all_of_them():
        engine = engine_at(*urls, **settings)
        try:
            return await asyncio.gather(*(engine.complete(request) for request in requests))
        finally:
            await engine.close()

    return asyncio.run(all_of_them())


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(pacing, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(pacing, "LONGEST_WAIT", 0.002)


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


@pytest.mark.parametrize("is_chat", [False, True], ids=["plain", "chat"])
def test_of_two_hundred_malformed_answers_none_is_taken_for_one(is_chat):
    bodies = malformed(is_chat)
    assert len({body for _, body in bodies}) > 150 and len(bodies) == 200
    for what, body in bodies:
        with pytest.raises(MalformedAnswerError):
            found = read_answer(body, is_chat, "teacher")
            pytest.fail(f"{what} was read as {found}")
    assert read_answer(json.dumps(right(is_chat)).encode(), is_chat, "teacher").is_whole


@pytest.mark.slow
@pytest.mark.parametrize("request_", [PLAIN, CHAT], ids=["plain", "chat"])
def test_malformed_answers_of_a_server_are_asked_for_again_and_in_the_end_given_up(request_):
    async def each():
        engine = engine_at(url, attempts=2)
        for what, body in bodies:
            answers[:] = [body]
            found = await engine.complete(request_)
            assert found.text == "answer 4" and found.finish_reason == "stop", what
            answers[:] = [body] * 2
            with pytest.raises(NoAnswerError):
                await engine.complete(request_)
        await engine.close()

    bodies = malformed(is_chat=request_ is CHAT, num=100)
    answers = []
    server = Server(lambda body: answers.pop(0) if answers else ("answer 4", "stop"))
    with serving(server) as url:
        asyncio.run(each())
    assert len(server.asked) == 400


def test_a_sample_that_is_given_up_says_what_was_wrong_and_where():
    with serving(Server(lambda body: b"null")) as url:
        says = rf"draft/0: no usable answer in 3 attempts; the last: {url}: status 200 with"
        with pytest.raises(NoAnswerError, match=says):
            ask(url, PLAIN, attempts=3)


def test_a_server_that_stumbles_is_asked_again_and_one_that_stays_down_is_named():
    server = Server(lambda body: ("answer 4", "stop"), failures=[500, 429, 503])
    with serving(server) as url:
        assert ask(url, PLAIN)[0].text == "answer 4" and len(server.asked) == 4
        server.failures = [500] * 99
        with pytest.raises(
            NoAnswerError, match=r"draft/0: no usable answer in 6 attempts.*500.*asked to fail"
        ):
            ask(url, PLAIN)
        assert len(server.asked) == 10


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_refuses_every_request_ends_the_run_at_once(status):
    server = Server(lambda body: ("", "stop"), failures=[status])
    says = rf"v1/completions failed: .*{status}.*ouroloop resume"
    with serving(server) as url, pytest.raises(EngineError, match=says) as caught:
        ask(url, PLAIN)
    assert not isinstance(caught.value, NoAnswerError) and len(server.asked) == 1


def test_a_refused_request_is_not_repeated_and_a_context_that_is_too_short_costs_one_sample_only():
    server = Server(lambda body: ("", "stop"), failures=[400])
    with serving(server) as url, pytest.raises(NoAnswerError, match=r"refused.*400"):
        ask(url, PLAIN)
    assert len(server.asked) == 1
    server = Server(lambda body: ("", "stop"))
    full = {"error": {"message": "This model's maximum context length is 512 tokens"}}
    server.reply = lambda path, body, key: (400, full)
    with serving(server) as url, pytest.raises(PromptTooLongError, match="maximum context length"):
        ask(url, PLAIN)


def test_more_tokens_than_asked_for_are_cut_and_count_as_cut():
    with serving(Server(lambda body: ("answer 4" * 5000, "stop"))) as url:
        (answer,) = ask(url, PLAIN)
    assert answer.finish_reason == "length" and answer.text == "answer 4a"
    assert bytes(answer.token_ids).decode() == answer.text


def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(remote_server, "MAX_BYTES", 1 << 20)
    body = json.dumps({"choices": [{"text": "a" * (2 << 20), "finish_reason": "stop"}]}).encode()
    with (
        serving(Server(lambda _: body)) as url,
        pytest.raises(NoAnswerError, match="more than 1 MiB"),
    ):
        ask(url, PLAIN, attempts=2)


def test_a_server_that_hangs_is_waited_for_as_long_as_the_recipe_says():
    over = threading.Event()
    server = Server(lambda body: (over.wait(60), ("late", "stop"))[1])
    started = time.monotonic()
    with serving(server) as url:
        with pytest.raises(NoAnswerError, match=r"no answer in 0\.2 s"):
            ask(url, PLAIN, timeout_seconds=0.2, attempts=2)
        over.set()
    assert 0.4 <= time.monotonic() - started < 30


def test_a_connection_may_take_as_long_as_the_recipe_says():
    engine = engine_at("http://127.0.0.1:1/v1", connect_seconds=0.25, timeout_seconds=7)
    timeout = engine._servers[0].client.timeout
    assert (timeout.connect, timeout.read) == (0.25, 7)
    asyncio.run(engine.close())


@pytest.mark.parametrize(
    "value",
    [lambda: "1", lambda: formatdate(time.time() + 2, usegmt=True)],
    ids=["seconds", "date"],
)
def test_a_pause_that_a_server_asks_for_is_kept(value):
    server = Server(lambda body: ("answer 4", "stop"), failures=[429])
    server.headers = {"Retry-After": value()}
    started = time.monotonic()
    with serving(server) as url:
        ask(url, PLAIN)
    # An HTTP date has whole seconds.
    assert time.monotonic() - started >= 0.9


@pytest.mark.parametrize("value", ["3600", "soon", "-5", "nan"])
def test_a_pause_is_kept_up_to_the_recipes_limit_and_what_is_no_time_is_none(value):
    server = Server(lambda body: ("answer 4", "stop"), failures=[429])
    server.headers = {"Retry-After": value}
    started = time.monotonic()
    with serving(server) as url:
        ask(url, PLAIN, retry_after_seconds=0.1)
    seconds = time.monotonic() - started
    assert seconds >= 0.1 or value != "3600"
    assert seconds < 60


def test_no_more_requests_a_minute_than_the_recipe_says():
    started = time.monotonic()
    with serving(Server(lambda body: ("4", "stop"))) as url:
        ask(url, *[PLAIN] * 5, requests_per_minute=600)
    assert time.monotonic() - started >= 0.4


def test_tokens_are_paced_by_their_estimate_and_corrected_by_the_servers_own_count(monkeypatch):
    clock = Clock(monkeypatch)
    turns = Turns(limits(tokens_per_minute=600))

    async def some():
        await turns.pace(20)
        await turns.pace(10)
        assert clock.now == 2.0, "the first of them takes two seconds of the rate"
        turns.correct(taken=10, used=50)
        await turns.pace(10)
        assert clock.now == 7.0, "and the second took five"
        turns.correct(taken=10, used=None)

    asyncio.run(some())


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(pacing.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(pacing.asyncio, "sleep", self.sleep)

    async def sleep(self, seconds):
        self.now += max(0.0, seconds)


def test_the_servers_count_reaches_the_rate():
    seen = []

    def answer(body):
        seen.append(body)
        usage = {"usage": {"total_tokens": 77}}
        return json.dumps({"choices": [{"text": "4", "finish_reason": "stop"}], **usage}).encode()

    async def one():
        engine = engine_at(url, tokens_per_minute=60_000)
        await engine.complete(PLAIN)
        left = engine._servers[0].turns._tokens.free_at - time.monotonic()
        await engine.close()
        return left

    with serving(Server(answer)) as url:
        left = asyncio.run(one())
    assert 0.077 - 30 < left <= 0.077


def test_several_servers_share_the_work_and_one_that_is_down_costs_a_few_attempts():
    def slowly(body):
        time.sleep(0.02)
        return "answer 4", "stop"

    first, second = Server(slowly), Server(slowly)
    with serving(first) as one, serving(second) as two:
        found = ask([one, two], *[PLAIN] * 20, concurrency=2)
        shares = [len(first.asked), len(second.asked)]
        assert {answer.weight_version for answer in found} == {f"{one}#teacher", f"{two}#teacher"}
        assert sum(shares) == 20 and min(shares) >= 3
        first.failures = [500] * 99
        found = ask([one, two], *[PLAIN] * 20, concurrency=2, set_aside_seconds=600)
    assert len(found) == 20 and {answer.weight_version for answer in found} == {f"{two}#teacher"}
    # Three in a row put it aside; one more may be in flight by then.
    assert 3 <= len(first.asked) - shares[0] <= 4


def test_a_server_that_was_put_aside_is_asked_again_after_a_while(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(pacing.time, "monotonic", lambda: now[0])
    first, _ = turns = [Turns(limits(set_aside_seconds=30)) for _ in range(2)]

    async def asked():
        async with Queue(turns).turn() as index:
            return index

    assert asyncio.run(asked()) == 0
    for _ in range(pacing.PATIENCE):
        first.failed()
    assert asyncio.run(asked()) == 1
    now[0] = 30.0
    assert asyncio.run(asked()) == 0
    first.failed()
    assert asyncio.run(asked()) == 1, "it still fails"
    now[0] = 60.0
    first.succeeded()
    first.failed()
    assert asyncio.run(asked()) == 0, "one lost answer among many says little"


def test_requests_wait_for_the_first_server_that_is_asked_again():
    turns = [Turns(limits(set_aside_seconds=seconds)) for seconds in (60, 0.05)]

    async def asked():
        for each in turns:
            for _ in range(pacing.PATIENCE):
                each.failed()
        async with Queue(turns).turn() as index:
            return index

    assert asyncio.run(asked()) == 1


def test_waits_between_attempts_grow_and_are_drawn_from_nothing_to_the_whole(monkeypatch):
    monkeypatch.setattr(pacing, "FIRST_WAIT", 1.0)
    monkeypatch.setattr(pacing, "LONGEST_WAIT", 6.0)
    waits = [[pacing.backoff(attempt) for _ in range(400)] for attempt in (1, 2, 3, 4, 5)]
    longest = [max(each) for each in waits]
    assert all(
        0.95 * most <= long <= most for long, most in zip(longest, (1, 2, 4, 6, 6), strict=True)
    )
    assert all(min(each) < 0.05 * max(each) for each in waits)
    assert all(a != b for a, b in pairwise(waits[4])), "no two come back together"


def test_an_answer_of_another_model_is_refused_unless_the_recipe_lets_proxies_rename():
    def named(name):
        return json.dumps(
            {"model": name, "choices": [{"text": "4", "finish_reason": "stop"}]}
        ).encode()

    server = Server(lambda body: named("student"))
    with serving(server) as url:
        with pytest.raises(NoAnswerError, match=r"answered by 'student'.*servers.check_model"):
            ask(url, PLAIN, attempts=1)
        assert ask(url, PLAIN, attempts=1, check_model=False)[0].text == "4"
        for name in ("teacher-2024-08-06", "org/teacher", "Teacher"):
            server.answer = lambda body, name=name: named(name)
            assert ask(url, PLAIN, attempts=1)[0].text == "4"


def test_of_several_servers_one_may_be_down_when_a_run_starts_and_none_may_be_misnamed():
    with serving(Server(lambda body: ("", "stop"))) as url:
        down = "http://127.0.0.1:1/v1#teacher"
        remote.check(f"{down} {url}#teacher")
        with pytest.raises(CheckpointError, match="no server answers"):
            remote.check(f"{down} {down}")
        with pytest.raises(CheckpointError, match="no model is called 'other'"):
            remote.check(f"{url}#teacher {url}#other")
        with pytest.raises(RecipeError, match="no model is named"):
            remote.check(f"{url}#teacher {url}")


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
        engine = RemoteEngine("http://127.0.0.1:1/v1#m", ScriptedEngine(), limits())
        with pytest.raises(EngineError, match="cannot be asked to serve"):
            await engine.load("anything")
        with pytest.raises(EngineError, match="does not score"):
            await engine.score([("a", "b")])
        await engine.close()

    asyncio.run(both())
