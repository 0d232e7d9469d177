"""Several engines as one: no row depends on their number, and a lost one costs only time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ouroloop.loop.engines.pool import NoRoomError, PooledEngine
from ouroloop.loop.engines.scripted import ScriptedEngine
from ouroloop.loop.errors import EngineError, EngineLostError, StaleWeightsError
from ouroloop.loop.records import Completion, Request, Sampling

CHECKPOINT = Path("first")


@dataclass
class Member(ScriptedEngine):
    """Answers by the request's seed; `dies_after` so many answers it is lost for good."""

    dies_after: int = 10**9
    fails_to_load: type[EngineError] | None = None
    is_dead: bool = False

    async def load(self, checkpoint: Path, check: Path | None = None) -> str:
        await asyncio.sleep(0)
        if self.fails_to_load is not None:
            raise self.fails_to_load("cannot be loaded")
        await super().load(checkpoint, check)
        return f"serves {checkpoint.name}"

    async def complete(self, request: Request) -> Completion:
        await asyncio.sleep(0)
        if self.is_dead or len(self.requests) >= self.dies_after:
            self.is_dead = True
            raise EngineLostError("its node is gone")
        return await super().complete(request)


@dataclass
class Room:
    """A site of the tests' own. made: every member, in the order in which they were made."""

    count: int
    make_one: Callable[[int, int], Member] = lambda index, number: Member()
    made: list[tuple[int, Member]] = field(default_factory=list)
    events: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    num_closed: int = 0

    def __post_init__(self) -> None:
        self.report = lambda event, facts: self.events.append((event, facts))

    async def open(self) -> int:
        return self.count

    def make(self, index: int) -> Member:
        number = sum(at == index for at, _ in self.made)
        member = self.make_one(index, number)
        member.answer = lambda request: f"{request.id} {request.seed}"
        self.made.append((index, member))
        return member

    async def close(self) -> None:
        self.num_closed += 1


def request(number: int) -> Request:
    """Four of each problem."""
    return Request(f"001/student/p{number // 4}/draft/{number % 4}", "x", Sampling(), number)


async def ask(engine: PooledEngine, count: int = 40) -> list[str]:
    jobs = (engine.complete(request(number)) for number in range(count))
    return [completion.text for completion in await asyncio.gather(*jobs)]


def carry(
    room: Room,
    story: Callable[[PooledEngine], Awaitable[Any]] = ask,
    restarts: int = 3,
    start_s: float = 20.0,
) -> Any:
    async def whole() -> Any:
        engine = PooledEngine(room, restarts, start_s)
        try:
            await engine.load(CHECKPOINT)
            return await story(engine)
        finally:
            await engine.close()

    return asyncio.run(asyncio.wait_for(whole(), 60))


EXPECTED = [f"{request(number).id} {number}" for number in range(40)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_rows_do_not_depend_on_the_number_of_engines(count: int) -> None:
    room = Room(count)
    assert carry(room) == EXPECTED
    assert len(room.made) == count and all(member.requests for _, member in room.made)
    assert all(member.loaded == [CHECKPOINT] and member.closed for _, member in room.made)


def test_the_requests_of_a_problem_go_to_one_engine_and_problems_are_shared_out_evenly() -> None:
    room = Room(2)
    carry(room)
    problems = [{r.id.split("/")[2] for r in member.requests} for _, member in room.made]
    assert not problems[0] & problems[1]
    assert sorted(len(each) for each in problems) == [5, 5]


def test_an_engine_that_is_lost_in_mid_batch_is_replaced_and_its_requests_are_asked_again() -> None:
    room = Room(2, lambda index, number: Member(dies_after=3 if (index, number) == (1, 0) else 99))

    async def story(engine: PooledEngine) -> tuple[list[str], int]:
        answers = await ask(engine)
        while engine.num_up < 2:
            await asyncio.sleep(0)
        return answers, engine.num_up

    assert carry(room, story) == (EXPECTED, 2)
    assert [event for event, _ in room.events] == ["engine_lost"]
    assert room.events[0][1]["member"] == 1 and room.events[0][1]["left"] == 1
    asked = Counter(r.id for _, member in room.made for r in member.requests)
    assert set(asked.values()) == {1}, "what was answered is not asked again"
    # The lost one was closed, and another proved the same checkpoint in its place.
    assert [index for index, _ in room.made] == [0, 1, 1]
    assert room.made[2][1].loaded == [CHECKPOINT] and room.made[1][1].closed


def test_where_there_is_no_room_for_another_the_others_go_on() -> None:
    def make(index: int, number: int) -> Member:
        lost = index == 1
        return Member(dies_after=3 if lost else 99, fails_to_load=NoRoomError if number else None)

    room = Room(2, make)
    assert carry(room) == EXPECTED
    assert "engine_given_up" not in [event for event, _ in room.events]


def test_an_engine_that_is_lost_while_it_loads_joins_later() -> None:
    def make(index: int, number: int) -> Member:
        return Member(fails_to_load=EngineLostError if index == 0 and number < 2 else None)

    room = Room(2, make)
    assert carry(room) == EXPECTED
    assert [event for event, _ in room.events] == ["engine_lost"] * 2


def test_after_so_many_restarts_an_engine_is_given_up_and_without_any_left_the_run_ends() -> None:
    room = Room(2, lambda index, number: Member(fails_to_load=EngineLostError))
    with pytest.raises(EngineError, match=r"none of 2 engines is left.*supervision.restarts: 1"):
        carry(room, restarts=1)
    assert [event for event, _ in room.events].count("engine_given_up") == 2
    assert len(room.made) == 4 and room.num_closed


def test_a_request_that_ends_every_engine_ends_the_run_and_names_the_limit() -> None:
    room = Room(3, lambda index, number: Member(dies_after=0))
    with pytest.raises(EngineError, match=r"a request lost 3 engines.*restarts allows 2"):
        carry(room, lambda engine: ask(engine, 1), restarts=2)


def test_when_no_engine_comes_back_in_time_the_run_ends() -> None:
    def make(index: int, number: int) -> Member:
        if number:
            # Waits for its place for ever, as an actor does on a cluster without room.
            return Slow()
        return Member(dies_after=2)

    with pytest.raises(EngineError, match=r"start_s: 0\.2.*its node is gone"):
        carry(Room(1, make), start_s=0.2)


@dataclass
class Slow(Member):
    async def load(self, checkpoint: Path, check: Path | None = None) -> str:
        await asyncio.sleep(3600)
        return ""


def test_one_engine_with_other_weights_ends_the_load() -> None:
    def make(index: int, number: int) -> Member:
        return Member(fails_to_load=StaleWeightsError if index == 2 else None)

    room = Room(3, make)
    with pytest.raises(StaleWeightsError):
        carry(room)
    assert len(room.made) == 3, "it is not started again: it would serve the same weights"
    assert all(member.closed for _, member in room.made)


def test_another_checkpoint_is_loaded_by_all_and_given_up_ones_get_another_chance() -> None:
    broken = [True]

    def make(index: int, number: int) -> Member:
        lost = index == 1 and broken[0]
        return Member(fails_to_load=EngineLostError if lost else None)

    room = Room(2, make)

    async def story(engine: PooledEngine) -> int:
        while "engine_given_up" not in [event for event, _ in room.events]:
            await asyncio.sleep(0)
        broken[0] = False
        proof = await engine.load(Path("second"))
        assert proof == "; ".join(f"engine {n}: serves second" for n in range(engine.num_up))
        while engine.num_up < 2:
            await asyncio.sleep(0)
        return engine.num_up

    assert carry(room, story, restarts=1) == 2
    assert room.made[0][1].loaded == [CHECKPOINT, Path("second")]
    assert room.made[-1][1].loaded == [Path("second")]


def test_nothing_is_asked_before_a_load_or_after_the_end() -> None:
    async def story() -> None:
        engine = PooledEngine(Room(1))
        with pytest.raises(EngineError, match="load a checkpoint first"):
            await engine.complete(request(0))
        await engine.load(CHECKPOINT)
        assert await engine.encode([("a", "b")]) == [([97], [98, 256])]
        assert len(await engine.score([("a", "b"), ("a", "c")])) == 2
        await engine.close()
        await engine.close()
        with pytest.raises(EngineError, match="load a checkpoint first"):
            await engine.complete(request(0))

    asyncio.run(story())
