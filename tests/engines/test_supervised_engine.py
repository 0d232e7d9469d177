"""An engine that dies, falls silent or writes garbage: what was lost is asked again, once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_checkpoint import write_fake_checkpoint

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import EngineFaults

from ouroloop.loop.engines import pipe
from ouroloop.loop.engines.frames import Garbled, Oversized, frames
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.engines.supervised import SupervisedEngine
from ouroloop.loop.errors import (
    AnswerTooLargeError,
    EngineError,
    EngineLostError,
    PromptTooLongError,
    StaleWeightsError,
)
from ouroloop.loop.records import Completion, Request, Sampling

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

# Long enough for a busy machine where nothing is wrong.
PATIENT = {"start_s": 60.0, "engine_silence_s": 60.0}
CONFIG = {
    "kind": "fake",
    "max_model_len": 64,
    "concurrency": 8,
    "weight_sync_check": False,
    "supervision": PATIENT,
}
# A config that is made from the tests' own recipe has all keys; these are the two that count.
Events = list[tuple[str, dict[str, Any]]]


def request(number: int) -> Request:
    return Request(f"r{number}", "x" * (1 + number % 40), Sampling(max_tokens=8), seed=number)


@pytest.fixture
def carry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a story on a started engine with faults; gives its result and the engine's events."""

    def run(
        story: Callable[[SupervisedEngine], Awaitable[Any]],
        faults: EngineFaults,
        restarts: int = 3,
        **limits: float,
    ) -> tuple[Any, Events]:
        for name, value in faults.environment().items():
            monkeypatch.setenv(name, value)
        events: Events = []
        config = {**CONFIG, "supervision": {**PATIENT, **limits}}

        async def whole() -> Any:
            engine = SupervisedEngine(
                partial(ProcessEngine, config, tmp_path / "engine.log", "faulty_worker"),
                restarts,
                report=lambda event, facts: events.append((event, dict(facts))),
            )
            try:
                await engine.load(write_fake_checkpoint(tmp_path / "first"))
                return await story(engine)
            finally:
                await engine.close()

        return asyncio.run(asyncio.wait_for(whole(), 240)), events

    return run


async def ask(engine: SupervisedEngine, count: int = 20) -> list[Completion]:
    jobs = (engine.complete(request(i)) for i in range(count))
    return list(await asyncio.gather(*jobs))


def whole(answers: list[Completion], count: int = 20) -> bool:
    """Every request has its own answer."""
    lengths = [1 + i % 40 for i in range(count)]
    right = [len(answer.prompt_token_ids) for answer in answers] == lengths
    return right and [answer.request_id for answer in answers] == [f"r{i}" for i in range(count)]


def test_an_engine_that_dies_again_and_again_answers_every_request_once(
    carry: Callable[..., Any],
) -> None:
    answers, events = carry(ask, EngineFaults(dies_every=9))
    assert whole(answers)
    # 8 answers of each process: 20 need three.
    assert [event for event, _ in events] == ["engine_restarted"] * 2
    assert "SIGKILL" in events[0][1]["why"] and events[1][1]["restart"] == 2


def test_a_silent_engine_is_ended_after_its_limit_and_asked_again(
    carry: Callable[..., Any], tmp_path: Path
) -> None:
    faults = EngineFaults(silent_after=5, limit=1, tally=str(tmp_path / "tally"))
    answers, events = carry(ask, faults, engine_silence_s=2.0)
    assert whole(answers)
    assert events[0][0] == "engine_restarted"
    assert "no sign of progress for 2 s (supervision.engine_silence_s)" in events[0][1]["why"]


def test_an_engine_that_never_loads_is_ended_too_and_the_error_says_all(
    carry: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(EngineError) as failed:
        carry(ask, EngineFaults(slow_start_s=60.0), restarts=1, start_s=0.3)
    said = str(failed.value)
    assert not isinstance(failed.value, EngineLostError)
    assert f"serving {tmp_path / 'first'}" in said and "lost 2 times" in said
    assert "supervision.restarts allows 1" in said and "supervision.start_s" in said
    assert "engine.max_num_seqs" in said and "engine.log" in said


def test_after_so_many_restarts_of_one_checkpoint_the_engine_is_given_up(
    carry: Callable[..., Any],
) -> None:
    with pytest.raises(EngineError, match=r"lost 2 times.*\n.*library's chatter"):
        carry(ask, EngineFaults(dies_every=3), restarts=1)


def test_each_checkpoint_has_restarts_of_its_own(carry: Callable[..., Any], tmp_path: Path) -> None:
    async def story(engine: SupervisedEngine) -> list[Completion]:
        first = await ask(engine, 12)
        await engine.load(tmp_path / "first")
        return first + await ask(engine, 12)

    answers, events = carry(story, EngineFaults(dies_every=9), restarts=1)
    assert whole(answers[:12], 12) and whole(answers[12:], 12)
    assert [facts["restart"] for _, facts in events] == [1, 1]


@pytest.mark.parametrize("fault", ["garbled", "noise"])
def test_a_damaged_line_is_logged_and_costs_a_repetition_at_most(
    carry: Callable[..., Any], tmp_path: Path, fault: str
) -> None:
    faults = EngineFaults(**{f"{fault}_every": 7}, limit=2, tally=str(tmp_path / "tally"))
    answers, events = carry(ask, faults)
    assert whole(answers) and faults.count() == 2
    assert (tmp_path / "engine.log").read_text().count("a line that could not be read") == 2
    # Noise between two answers takes none of them; a cut line takes its own.
    assert [event for event, _ in events] == ["answer_lost"] * (2 if fault == "garbled" else 0)


def test_an_answer_that_is_damaged_every_time_is_an_error_in_the_end(
    carry: Callable[..., Any],
) -> None:
    with pytest.raises(EngineError, match="could not be read"):
        carry(lambda engine: ask(engine, 1), EngineFaults(garbled_every=1), restarts=2)


def test_an_answer_without_end_costs_its_own_request_and_no_other(
    carry: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe, "LINE_LIMIT", 2**16)

    async def story(engine: SupervisedEngine) -> list[Any]:
        jobs = (engine.complete(request(i)) for i in range(20))
        return list(await asyncio.gather(*jobs, return_exceptions=True))

    faults = EngineFaults(giant_every=4, limit=1, tally=str(tmp_path / "tally"))
    answers, events = carry(story, faults)
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    assert [type(error) for error in refused] == [AnswerTooLargeError]
    # The stages take such an error for a sample without room: data, not the end of the run.
    assert isinstance(refused[0], PromptTooLongError) and "65,536 bytes" in str(refused[0])
    assert events == []


def test_weights_are_proven_again_after_a_restart(
    carry: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new process that serves other weights must not answer."""
    loads = []
    plain = ProcessEngine.load

    async def load(self: ProcessEngine, checkpoint: Path, check: Path | None = None) -> str:
        loads.append((checkpoint.name, check))
        await plain(self, checkpoint)
        if len(loads) == 2:
            raise StaleWeightsError("other weights")
        return "serves it"

    monkeypatch.setattr(ProcessEngine, "load", load)

    async def story(engine: SupervisedEngine) -> None:
        assert engine._served is not None
        assert engine._proof == "serves it"
        engine._served = (engine._served[0], Path("proof.json"))
        with pytest.raises(StaleWeightsError):
            await ask(engine)
        with pytest.raises(EngineError):
            await engine.complete(request(0))

    carry(story, EngineFaults(dies_every=9))
    assert loads == [("first", None), ("first", Path("proof.json"))]


def test_an_engine_that_was_closed_is_not_started_again(carry: Callable[..., Any]) -> None:
    async def story(engine: SupervisedEngine) -> None:
        await engine.close()
        with pytest.raises(EngineError, match="load a checkpoint first"):
            await engine.complete(request(0))

    _, events = carry(story, EngineFaults())
    assert events == []


def read_all(data: bytes, limit: int = 1024) -> list[Any]:
    async def story() -> list[Any]:
        stream = asyncio.StreamReader(limit=limit)
        stream.feed_data(data)
        stream.feed_eof()
        return [frame async for frame in frames(stream)]

    return asyncio.run(story())


def test_no_line_of_a_pipe_stops_its_reader() -> None:
    giant = b'{"id": 3, "ok": "' + b"x" * 5000 + b'"}\n'
    deep = b"[" * 1000 + b"\n"
    found = read_all(b'{"id": 1}\n\xff\xfe\n7\n\n' + deep + giant + b'{"id": 2}\n{"id"')
    kinds = [type(frame).__name__ for frame in found]
    assert kinds == ["dict", *["Garbled"] * 4, "Oversized", "dict", "Garbled"]
    assert found[-2] == {"id": 2} and found[-1] == Garbled(b'{"id"')
    assert found[5].id == 3 and found[5].head.startswith(b'{"id": 3')


def test_a_line_too_long_whose_request_is_unreadable_is_only_skipped() -> None:
    first, second = read_all(b"x" * 4000 + b'\n{"id": 2}\n')
    assert first == Oversized(None, b"x" * 256) and second == {"id": 2}
    assert [frame.id for frame in read_all(b'{"id": 9, ' + b"x" * 4000)] == [9]


@pytest.mark.slow
def test_a_real_engine_that_dies_is_proven_again_and_answers_as_one_that_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ouroloop.loop.models.sources import resolve_model
    from ouroloop.loop.objectives import training

    checkpoint = resolve_model("arithmetic/base")
    proof = training.weight_sync_of(checkpoint, tmp_path)
    config = {
        "kind": "transformers",
        "dtype": "float32",
        "max_model_len": 256,
        "max_num_seqs": 4,
        "concurrency": 8,
        "supervision": PATIENT,
    }
    asked = [
        Request(f"r{i}", f"Add {i} and {2 * i + 11}.\nA:\n", Sampling(max_tokens=32), seed=i)
        for i in range(20)
    ]

    def answered(faults: EngineFaults) -> tuple[list[Completion], list[str]]:
        for name, value in faults.environment().items():
            monkeypatch.setenv(name, value)
        events: list[str] = []

        async def story() -> list[Completion]:
            engine = SupervisedEngine(
                partial(ProcessEngine, config, tmp_path / "engine.log", "faulty_worker"),
                report=lambda event, facts: events.append(event),
            )
            try:
                await engine.load(checkpoint, proof)
                return list(await asyncio.gather(*(engine.complete(each) for each in asked)))
            finally:
                await engine.close()

        return asyncio.run(asyncio.wait_for(story(), 400)), events

    plain, quiet = answered(EngineFaults())
    # The proof's own answers count: a process gives them before its first completion.
    faulty, events = answered(EngineFaults(dies_every=25))
    assert quiet == [] and events == ["engine_restarted"] * len(events) and events
    assert [c.token_ids for c in faulty] == [c.token_ids for c in plain]
    assert [c.request_id for c in faulty] == [each.id for each in asked]
