"""Servers that sample as the student: their weights are proven, and a lost one changes no row."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fake_checkpoint import write, write_fake_checkpoint
from student_server import STOP, StudentServer, greedy, logprob, sampled, serving

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import child_path

from ouroloop.loop.config import ServersConfig
from ouroloop.loop.engines import weight_sync
from ouroloop.loop.engines.pool import PooledEngine
from ouroloop.loop.engines.students import server_engine
from ouroloop.loop.engines.weight_sync import NEW_TOKENS, WeightSyncPrompt, WeightSyncText
from ouroloop.loop.errors import (
    CheckpointError,
    EngineError,
    PromptTooLongError,
    StaleWeightsError,
)
from ouroloop.loop.records import Completion, Request, Sampling

# Every test starts a process for each server.
pytestmark = pytest.mark.slow

COUNT = 24
# One more attempt than none: on a busy machine a connection breaks.
ASKED = {**ServersConfig().model_dump(), "attempts": 2, "timeout_seconds": 20.0}
CONFIG: dict[str, Any] = {
    "kind": "server",
    "dtype": "float32",
    "max_model_len": 128,
    "concurrency": 64,
    "servers": ASKED,
    "supervision": {"start_s": 20.0, "engine_silence_s": 60.0, "restarts": 2},
}
Story = Callable[[PooledEngine], Awaitable[Any]]


@pytest.fixture(autouse=True)
def _tests_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", child_path())


def checkpoint(folder: Path, name: str, old: str = "") -> Path:
    """A folder with a right weight-sync check; weights are known by the folder's name."""
    path = write_fake_checkpoint(folder / name)
    prompts = []
    for text in ("a longer prompt than two blocks", "another one of this kind"):
        prompt = list(text.encode())
        ids = greedy(name, prompt, NEW_TOKENS)
        values = [logprob(name, [*prompt, *ids[:n]], token) for n, token in enumerate(ids)]
        margins = (1.0,) * NEW_TOKENS
        prompts.append(WeightSyncPrompt(text, tuple(prompt), tuple(ids), tuple(values), margins))
    texts = []
    for text in ("abcdefgh" * 4, "hgfedcba" * 4, "acegbdfh" * 4):
        ids = list(text.encode())

        def along(weights: str, ids: list[int] = ids) -> tuple[float, ...]:
            return tuple(logprob(weights, ids[:n], ids[n]) for n in range(1, len(ids)))

        texts.append(WeightSyncText(tuple(ids), along(name), along(old) if old else None))
    check = weight_sync.WeightSyncCheck(name, "float32", tuple(prompts), tuple(texts), old or None)
    weight_sync.write(check, path / weight_sync.FILE_NAME)
    return path


def request(number: int) -> Request:
    name = f"001/student/p{number // 4}/draft/{number % 4}"
    return Request(name, f"problem {number // 4}", Sampling(top_k=7, max_tokens=16), number)


def expected(weights: str) -> list[tuple[int, ...]]:
    prompts = [list(str(request(n).prompt).encode()) for n in range(COUNT)]
    return [(*sampled(weights, prompt, n), STOP) for n, prompt in enumerate(prompts)]


def carry(
    folder: Path, servers: list[StudentServer], story: Story, reload: Any = "rpc", **changes: Any
) -> tuple[Any, list[str]]:
    """What a story on an engine of these servers gives, and the engine's events."""
    events: list[str] = []

    async def whole(addresses: list[str]) -> Any:
        students = {"addresses": addresses, "reload": reload}
        config = {**CONFIG, "students": students, **changes}
        engine = server_engine(config, folder / "engine.log", "student_worker")
        engine.report = lambda event, facts: events.append(event)
        try:
            return await story(engine)
        finally:
            await engine.close()

    with ExitStack() as stack:
        addresses = [stack.enter_context(serving(server)) for server in servers]
        return asyncio.run(asyncio.wait_for(whole(addresses), 120)), events


async def ask(engine: PooledEngine) -> list[Completion]:
    return list(await asyncio.gather(*(engine.complete(request(n)) for n in range(COUNT))))


@pytest.mark.parametrize("count", [1, 2])
def test_servers_get_each_rounds_weights_and_answer_in_the_students_tokens(
    tmp_path: Path, count: int
) -> None:
    first, second = checkpoint(tmp_path, "first"), checkpoint(tmp_path, "second", old="first")
    servers = [StudentServer() for _ in range(count)]

    async def story(engine: PooledEngine) -> list[list[Completion]]:
        found = []
        for path in (first, second):
            await engine.load(path)
            found.append(await ask(engine))
        return found

    found, events = carry(tmp_path, servers, story)
    for name, answers in zip(("first", "second"), found, strict=True):
        assert [answer.token_ids for answer in answers] == expected(name)
    answer, prompt = found[1][5], b"problem 1"
    assert answer.text == bytes(answer.token_ids[:-1]).decode()
    values = [
        logprob("second", [*prompt, *answer.token_ids[:n]], token)
        for n, token in enumerate(answer.token_ids)
    ]
    assert answer.logprobs == tuple(values) and answer.finish_reason == "stop"
    assert answer.weight_version.endswith("/second") and events == []
    for server in servers:
        assert server.weights == "second"
        sent = next(body for body in server.asked if body["temperature"] != 0)
        assert sent["stop_token_ids"] == [STOP] and sent["ignore_eos"] is True
        assert sent["top_k"] == 7 and sent["n"] == 1 and sent["return_token_ids"] is True
        # Every load resets the prefix cache, after the weights.
        paths = [path for path, _ in server.told if path != "/server_info"]
        assert paths[:3] == ["/collective_rpc", "/collective_rpc", "/reset_prefix_cache"]


def test_one_server_that_keeps_its_old_weights_is_caught(tmp_path: Path) -> None:
    first, second = checkpoint(tmp_path, "first"), checkpoint(tmp_path, "second", old="first")
    servers = [StudentServer(), StudentServer()]

    async def story(engine: PooledEngine) -> str:
        await engine.load(first)
        servers[1].is_stale = True
        with pytest.raises(StaleWeightsError) as caught:
            await engine.load(second)
        return str(caught.value)

    said, _ = carry(tmp_path, servers, story)
    assert "2 of 2 weight-sync prompts" in said and "0.000" in said.replace("-", "")
    assert [server.weights for server in servers] == ["second", "first"]


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ({"keeps_cache": True}, "refused to reset its prefix cache"),
        ({"in_dev_mode": False}, r"got 404.*VLLM_SERVER_DEV_MODE=1"),
        ({"context": 64}, "its context is 64 tokens, and engine.max_model_len is 128"),
        ({"is_plain": True}, "weight_sync_check: false"),
    ],
)
def test_a_server_that_cannot_be_given_weights_or_proven_is_refused_with_the_remedy(
    tmp_path: Path, faults: dict[str, Any], says: str
) -> None:
    first = checkpoint(tmp_path, "first")
    with pytest.raises(EngineError, match=says):
        carry(tmp_path, [StudentServer(**faults)], lambda engine: engine.load(first))


def test_a_server_that_dies_in_mid_batch_changes_no_row_and_one_that_comes_back_is_proven(
    tmp_path: Path,
) -> None:
    first = checkpoint(tmp_path, "first")
    servers = [StudentServer(), StudentServer()]

    async def story(engine: PooledEngine) -> tuple[list[Completion], int]:
        await engine.load(first)
        # It answers four more, then none; a server that was restarted has other weights.
        servers[1].dies_after = len(servers[1].asked) + 4

        def revive() -> None:
            servers[1].weights, servers[1].dies_after = "start", 10**9

        threading.Timer(1.0, revive).start()
        answers = await ask(engine)
        while engine.num_up < 2:
            await asyncio.sleep(0.01)
        return answers, engine.num_up

    patient = {"start_s": 20.0, "engine_silence_s": 60.0, "restarts": 20}
    (answers, _), events = carry(tmp_path, servers, story, supervision=patient)
    assert [answer.token_ids for answer in answers] == expected("first")
    assert events[0] == "engine_lost" and servers[1].weights == "first"


def test_adapters_are_loaded_under_names_of_their_own_and_need_the_recipe_to_say_so(
    tmp_path: Path,
) -> None:
    base = checkpoint(tmp_path, "start")
    adapter = checkpoint(tmp_path, "adapter", old="start")
    write(adapter / "adapter_config.json", {"base_model_name_or_path": str(base)})

    async def story(engine: PooledEngine) -> list[Completion]:
        await engine.load(base)
        await engine.load(adapter)
        return await ask(engine)

    server = StudentServer()
    answers, events = carry(tmp_path, [server], story, reload="lora")
    assert events == []
    assert [answer.token_ids for answer in answers] == expected("adapter")
    assert list(server.adapters.values()) == ["adapter"] and server.weights == "start"
    with pytest.raises(CheckpointError, match=r"students\.reload is 'rpc'"):
        carry(tmp_path, [StudentServer()], lambda engine: engine.load(adapter))


def test_any_other_server_samples_too_with_a_command_that_gives_it_the_weights(
    tmp_path: Path,
) -> None:
    first = checkpoint(tmp_path, "first")
    server = StudentServer(weights="first", in_dev_mode=False, is_plain=True)
    note = tmp_path / "note"
    script = f"import sys; open({str(note)!r}, 'w').write(' '.join(sys.argv[1:]))"
    command = (sys.executable, "-c", script, "{checkpoint}", "{url}")

    async def story(engine: PooledEngine) -> list[Completion]:
        await engine.load(first)
        answers = await ask(engine)
        with pytest.raises(EngineError, match=r"probe\.texts: 0"):
            await engine.score([("a", "b")])
        with pytest.raises(PromptTooLongError):
            await engine.complete(Request("001/s/p/draft/0", "x" * 120, Sampling(), 0))
        return answers

    answers, _ = carry(tmp_path, [server], story, reload=command, weight_sync_check=False)
    assert [answer.token_ids for answer in answers] == expected("first")
    assert {answer.logprobs for answer in answers} == {()}
    checkpoint_path, url = note.read_text().split()
    assert checkpoint_path == str(first) and url.endswith("/v1")


def test_a_command_that_fails_ends_the_load(tmp_path: Path) -> None:
    first = checkpoint(tmp_path, "first")
    command = (sys.executable, "-c", "raise SystemExit(3)")
    with pytest.raises(EngineError, match=r"students\.reload: .* ended with status 3"):
        carry(tmp_path, [StudentServer()], lambda engine: engine.load(first), reload=command)


def test_scored_texts_have_their_own_tokens_value_and_a_lower_bound_of_the_entropy(
    tmp_path: Path,
) -> None:
    first = checkpoint(tmp_path, "first")

    async def story(engine: PooledEngine) -> Any:
        await engine.load(first)
        return await engine.score([("ab", "cd")])

    ((scored,), _) = carry(tmp_path, [StudentServer()], story)
    assert scored.token_ids == (*b"cd", STOP) and not scored.exact
    assert scored.logprobs[0] == pytest.approx(logprob("first", b"ab", b"c"[0]))
    # One token of probability 0.497, and the rest as one outcome.
    assert scored.entropies == pytest.approx([0.6931] * 3, abs=1e-4)
