"""The engine's process: answers find their requests.

A death is reported with the log's last lines, nothing is left behind.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fake_checkpoint import write_fake_checkpoint

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import is_alive, wait_until

from ouroloop.loop.engines.children import last_lines
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.errors import CheckpointError, EngineError, EngineLostError
from ouroloop.loop.records import Completion, Request, Sampling, Scored

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
CONFIG = {"kind": "fake", "max_model_len": 64, "concurrency": 8, "weight_sync_check": False}


def request(name: str, prompt: str, max_tokens: int = 8) -> Request:
    return Request(name, prompt, Sampling(max_tokens=max_tokens), seed=0)


@pytest.fixture
def carry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a story on a started engine and close it."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))

    def run(story: Callable[[ProcessEngine], Awaitable[Any]], **changes: Any) -> Any:
        async def whole() -> Any:
            engine = ProcessEngine(
                {**CONFIG, **changes}, tmp_path / "engine.log", worker="fake_worker"
            )
            try:
                await engine.load(write_fake_checkpoint(tmp_path / "first"))
                return await story(engine)
            finally:
                await engine.close()

        return asyncio.run(asyncio.wait_for(whole(), 60))

    return run


def test_every_answer_finds_its_request_though_they_come_back_in_another_order(
    carry: Callable[..., Any],
) -> None:
    async def story(engine: ProcessEngine) -> list[Completion]:
        return list(
            await asyncio.gather(
                *(engine.complete(request(f"r{i}", "x" * i)) for i in range(1, 41))
            )
        )

    completions = carry(story)
    assert [c.request_id for c in completions] == [f"r{i}" for i in range(1, 41)]
    assert [len(c.prompt_token_ids) for c in completions] == list(range(1, 41))
    assert completions[2] == Completion(
        "r3", (120, 120, 120), (*b"xxx has 3", 256), (0.0,) * 10, "xxx has 3", "stop", "first"
    )


def test_no_more_requests_than_the_limit_are_in_flight(carry: Callable[..., Any]) -> None:
    async def story(engine: ProcessEngine) -> str:
        await asyncio.gather(*(engine.complete(request(f"r{i}", "x")) for i in range(100)))
        return (await engine.complete(request("last", "most"))).text

    assert 1 < int(carry(story)) <= 8


def test_encode_gives_prompt_and_completion_with_its_stop_token(carry: Callable[..., Any]) -> None:
    async def story(engine: ProcessEngine) -> Any:
        return await engine.encode([("ab", "c"), ("d", "")])

    assert carry(story) == [([97, 98], [99, 256]), ([100], [256])]


def test_texts_are_scored_in_order_and_one_too_long_for_the_model_comes_back_empty(
    carry: Callable[..., Any],
) -> None:
    async def story(engine: ProcessEngine) -> Any:
        return await engine.score([("ab", "c"), ("a", "x" * 61), ("a", "x" * 62), ("d", "")])

    first, longest, too_long, last = carry(story)
    assert first == Scored(
        (99, 256), (-0.5, -0.5), (0.25, 0.25), exact=True, weight_version="first"
    )
    assert len(longest.logprobs) == 62, (
        "64 tokens of context, less the prompt and the one token that is sampled"
    )
    assert too_long == Scored((), (), (), exact=False, weight_version="")
    assert last.token_ids == (256,)


def test_a_request_over_the_models_length_fails_alone_and_says_what_to_change(
    carry: Callable[..., Any],
) -> None:
    async def story(engine: ProcessEngine) -> str:
        with pytest.raises(
            EngineError,
            match=(
                r"request long: a prompt of 60 tokens and max_tokens 8 make 68, over"
                r" engine\.max_model_len 64"
            ),
        ):
            await engine.complete(request("long", "x" * 60))
        return (await engine.complete(request("short", "x" * 56))).text

    assert carry(story).endswith("has 56")


def test_a_request_that_the_backend_aborts_fails_alone(carry: Callable[..., Any]) -> None:
    async def story(engine: ProcessEngine) -> None:
        good, bad = await asyncio.gather(
            engine.complete(request("a", "fine")),
            engine.complete(request("b", "abort")),
            return_exceptions=True,
        )
        assert isinstance(good, Completion)
        assert isinstance(bad, EngineError)
        assert "aborted" in str(bad)

    carry(story)


@pytest.mark.parametrize(
    ("prompt", "message"), [("crash", "a bug deep in a library"), ("kill", "SIGKILL")]
)
def test_when_the_process_dies_all_that_wait_learn_why_and_a_load_starts_a_new_one(
    carry: Callable[..., Any], tmp_path: Path, prompt: str, message: str
) -> None:
    async def story(engine: ProcessEngine) -> None:
        outcomes = await asyncio.gather(
            *(engine.complete(request(f"r{i}", "x")) for i in range(3)),
            engine.complete(request("end", prompt)),
            return_exceptions=True,
        )
        assert isinstance(outcomes[-1], EngineError)
        assert message in str(outcomes[-1])
        assert "engine.log" in str(outcomes[-1])
        with pytest.raises(EngineError, match="load a checkpoint first"):
            await engine.complete(request("late", "x"))
        await engine.load(tmp_path / "first")
        assert (await engine.complete(request("again", "x"))).text == "x has 1"

    carry(story)


@pytest.mark.parametrize(
    ("last", "end"),
    [
        ("leave a child", "ended with status 3"),
        ("crash beside a thread", "ended with status 1(?s:.*)a bug deep in a library"),
    ],
)
def test_the_death_of_a_process_is_seen_whatever_it_has_started(
    carry: Callable[..., Any], last: str, end: str
) -> None:
    async def story(engine: ProcessEngine) -> None:
        with pytest.raises(EngineLostError, match=end):
            await engine.complete(request("r", last))

    carry(story, supervision={"start_s": 60.0, "engine_silence_s": 8.0})


def test_what_a_library_prints_reaches_the_log_and_not_the_protocol(
    carry: Callable[..., Any], tmp_path: Path
) -> None:
    async def story(engine: ProcessEngine) -> None:
        await engine.complete(request("a", "x"))

    carry(story)
    log = (tmp_path / "engine.log").read_text()
    assert "a library's chatter" in log
    assert "closed in good order" in log


def test_a_checkpoint_refused_by_the_backend_closes_the_engine(
    carry: Callable[..., Any], tmp_path: Path
) -> None:
    async def story(engine: ProcessEngine) -> None:
        with pytest.raises(CheckpointError, match="this one is refused"):
            await engine.load(write_fake_checkpoint(tmp_path / "refused"))
        with pytest.raises(EngineError, match="load a checkpoint first"):
            await engine.complete(request("a", "x"))

    carry(story)


@pytest.mark.parametrize(
    ("swap", "same_model", "same_process"),
    [("reload", True, True), ("reload", False, False), ("respawn", True, False)],
)
def test_new_weights_go_into_the_same_process_only_if_asked_and_if_the_model_is_the_same(
    carry: Callable[..., Any], tmp_path: Path, swap: str, same_model: bool, same_process: bool
) -> None:
    async def story(engine: ProcessEngine) -> bool:
        before = engine.pid
        await engine.load(
            write_fake_checkpoint(tmp_path / "second", hidden=8 if same_model else 16)
        )
        assert (await engine.complete(request("a", "x"))).weight_version == "second"
        return engine.pid == before

    assert carry(story, swap=swap) is same_process


def test_a_missing_weight_sync_check_is_an_error_that_gives_the_command(
    carry: Callable[..., Any], tmp_path: Path
) -> None:
    async def story(engine: ProcessEngine) -> None:
        engine.config["weight_sync_check"] = True
        with pytest.raises(CheckpointError, match=r"loop\.objectives\.training\s+--weight-sync"):
            await engine.load(write_fake_checkpoint(tmp_path / "second"))

    carry(story)


def test_closing_twice_and_closing_before_loading_is_fine(tmp_path: Path) -> None:
    async def story() -> None:
        engine = ProcessEngine(CONFIG, tmp_path / "engine.log")
        await engine.close()
        await engine.close()
        with pytest.raises(EngineError):  # closed, not merely quiet
            await engine.complete(request("late", "x"))

    asyncio.run(story())


@pytest.mark.slow
def test_the_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    checkpoint = write_fake_checkpoint(tmp_path / "first")
    program = f"""
import asyncio, os, signal, sys
from pathlib import Path
from ouroloop.loop.engines.process import ProcessEngine
async def main():
    engine = ProcessEngine({CONFIG!r}, Path({str(tmp_path / "engine.log")!r}), worker="fake_worker")
    await engine.load(Path({str(checkpoint)!r}))
    print(engine.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    parent = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60
    )
    assert parent.returncode == -signal.SIGKILL
    child = Path("/proc") / parent.stdout.strip()
    deadline = time.monotonic() + 20
    while child.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.exists()


RUN = """
import asyncio, sys
from pathlib import Path
from ouroloop.loop import __main__, runner
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.objectives.child import run_child

async def story(folder):
    engine = ProcessEngine({config!r}, folder / "engine.log", worker="fake_worker")
    try:
        await engine.load(folder / "first")
        children = lambda trainer, _: print(engine.pid, trainer, flush=True)
        run_child("stubborn_child", [], folder / "train.log", children)
    finally:
        await engine.close()

runner.run = lambda *_: asyncio.run(story(Path({folder!r})))
sys.exit(__main__.main(["run", "demo"]))
"""


def test_a_terminated_run_ends_its_engine_and_its_training_at_once(tmp_path: Path) -> None:
    write_fake_checkpoint(tmp_path / "first")
    program = RUN.format(config=CONFIG, folder=str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}
    run = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert run.stdout is not None
    pids = run.stdout.readline().split()
    assert len(pids) == 2 and all((Path("/proc") / pid).exists() for pid in pids)
    run.terminate()
    _, said = run.communicate(timeout=60)
    assert run.returncode == 128 + signal.SIGTERM and "ouroloop: interrupted" in said
    # Killed, and perhaps not yet waited for by the process that has inherited them.
    wait_until(lambda: not [pid for pid in pids if is_alive(int(pid))], 10)


def test_the_end_of_a_long_log_is_quoted_and_a_missing_one_is_no_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("\n".join(f"line {i}" for i in range(10_000)))
    assert last_lines(log, count=2) == "    line 9998\n    line 9999"
    assert last_lines(tmp_path / "none") == "    (empty)"
