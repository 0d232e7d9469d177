"""Engines in actors of a Ray cluster: a killed actor and a removed node change no row."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_checkpoint import write_fake_checkpoint

sys.path.insert(0, str(Path(__file__).parents[1]))

from ray_world import NODE, two_nodes

from ouroloop.loop.engines.pool import PooledEngine
from ouroloop.loop.engines.ray_cluster import bundle_of, count_of, ray_engine
from ouroloop.loop.errors import CheckpointError, EngineError, RecipeError
from ouroloop.loop.records import Completion, Request, Sampling

# Every test needs the cluster, a dozen processes.
pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray", reason="needs the extra `ray`")

COUNT = 160
CONFIG: dict[str, Any] = {
    "kind": "ray",
    "actor": "fake",
    "max_model_len": 64,
    "concurrency": 64,
    "weight_sync_check": False,
    "supervision": {"start_s": 60.0, "engine_silence_s": 60.0, "restarts": 3},
}
Events = list[tuple[str, dict[str, Any]]]
Story = Callable[[PooledEngine], Awaitable[Any]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as cluster:
        yield cluster


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_fake_checkpoint(tmp_path / "first")


def request(number: int) -> Request:
    """Four of each problem."""
    name = f"001/student/p{number // 4}/draft/{number % 4}"
    return Request(name, "x" * (1 + number % 40), Sampling(max_tokens=8), number)


EXPECTED = [(request(n).id, f"{request(n).prompt} has {1 + n % 40}") for n in range(COUNT)]


def carry(checkpoint: Path, story: Story, **changes: Any) -> tuple[Any, Events]:
    """What a story on a started engine gives, and the engine's events."""
    events: Events = []

    async def whole() -> Any:
        config = {**CONFIG, **changes}
        engine = ray_engine(config, checkpoint.parent / "engine.log", "slow_worker")
        engine.report = lambda event, facts: events.append((event, dict(facts)))
        try:
            await engine.load(checkpoint)
            return await story(engine)
        finally:
            await engine.close()

    return asyncio.run(asyncio.wait_for(whole(), 120)), events


async def rows(engine: PooledEngine) -> list[tuple[str, str]]:
    """Every request's answer, in the order of the requests."""
    answers = await asyncio.gather(*(engine.complete(request(n)) for n in range(COUNT)))
    return [(answer.request_id, answer.text) for answer in answers]


async def rows_while(engine: PooledEngine, happens: Callable[[], Any]) -> list[tuple[str, str]]:
    """The same, with something that happens when a tenth of the answers are there."""
    done = 0

    async def one(number: int) -> Completion:
        nonlocal done
        answer = await engine.complete(request(number))
        done += 1
        return answer

    jobs = [asyncio.ensure_future(one(number)) for number in range(COUNT)]
    while done < COUNT // 10:
        await asyncio.sleep(0.005)
    assert done < COUNT, "the batch is over before anything could happen"
    await asyncio.to_thread(happens)
    answers = await asyncio.gather(*jobs)
    return [(answer.request_id, answer.text) for answer in answers]


async def actors(engine: PooledEngine) -> list[dict[str, Any]]:
    """Process and node of each actor."""
    members: list[Any] = [seat.engine for seat in engine._seats]
    found = [member._actor.hello.remote() for member in members]
    return [await each for each in found]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_rows_do_not_depend_on_the_number_of_actors(
    cluster: Any, checkpoint: Path, count: int
) -> None:
    async def story(engine: PooledEngine) -> tuple[Any, int]:
        nodes = {each["node"] for each in await actors(engine)}
        return await rows(engine), len(nodes)

    (found, num_nodes), events = carry(checkpoint, story, ray={"actors": count})
    assert found == EXPECTED and events == []
    assert num_nodes == min(count, 2), "they are spread over the nodes"
    logs = sorted(path.name for path in checkpoint.parent.glob("*.log"))
    assert logs == [f"engine-{index}.log" for index in range(count)]


def test_an_actor_that_is_killed_in_mid_batch_is_replaced_and_changes_no_row(
    cluster: Any, checkpoint: Path
) -> None:
    async def story(engine: PooledEngine) -> list[tuple[str, str]]:
        _, second = await actors(engine)
        found = await rows_while(engine, lambda: os.kill(second["pid"], signal.SIGKILL))
        while engine.num_up < 2:
            await asyncio.sleep(0.01)
        return found

    found, events = carry(checkpoint, story, ray={"actors": 2})
    assert found == EXPECTED
    assert [event for event, _ in events] == ["engine_lost"]
    assert "actor was lost" in events[0][1]["why"]


def test_an_engines_own_process_that_is_killed_is_settled_on_its_node(
    cluster: Any, checkpoint: Path
) -> None:
    async def story(engine: PooledEngine) -> list[tuple[str, str]]:
        (one,) = await actors(engine)
        return await rows_while(engine, lambda: kill_child(one["pid"]))

    found, events = carry(checkpoint, story, ray={"actors": 1})
    assert found == EXPECTED
    assert [event for event, _ in events] == ["engine_restarted"]
    assert "SIGKILL" in events[0][1]["why"]


def kill_child(pid: int) -> None:
    """Kill the engine's process of an actor: the one that leads a group of its own."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    (worker,) = [child for child in children if os.getpgid(child) == child]
    os.kill(worker, signal.SIGKILL)


def test_an_actor_that_hangs_is_ended_after_the_limit(cluster: Any, checkpoint: Path) -> None:
    async def story(engine: PooledEngine) -> list[tuple[str, str]]:
        _, second = await actors(engine)
        return await rows_while(engine, lambda: os.kill(second["pid"], signal.SIGSTOP))

    silence = {"start_s": 60.0, "engine_silence_s": 2.0, "restarts": 3}
    found, events = carry(checkpoint, story, ray={"actors": 2}, supervision=silence)
    assert found == EXPECTED
    assert "no sign of life for 2 s (supervision.engine_silence_s)" in events[0][1]["why"]


def test_a_node_that_is_removed_in_mid_round_changes_no_row_and_one_that_joins_is_used(
    cluster: Any, checkpoint: Path
) -> None:
    (gone,) = [node for node in cluster.list_all_nodes() if node is not cluster.head_node]

    async def story(engine: PooledEngine) -> tuple[Any, Any, int]:
        first = await rows_while(engine, lambda: cluster.remove_node(gone, allow_graceful=False))
        # Rows that were answered before the node went say nothing of it; the next ones do.
        again = await rows(engine)
        left = engine.num_up
        cluster.add_node(**NODE)
        while engine.num_up < 2:
            await asyncio.sleep(0.05)
        return first, again, left

    # Two CPUs for each of two actors: what is left has no room for the lost one.
    layout = {"actors": 2, "cpus_per_actor": 2}
    (first, again, left), events = carry(checkpoint, story, ray=layout)
    assert first == EXPECTED and again == EXPECTED and left == 1
    assert events[0][0] == "engine_lost" and events[0][1]["left"] == 1


def test_a_checkpoint_that_the_nodes_do_not_see_ends_the_load(
    cluster: Any, checkpoint: Path
) -> None:
    async def story(engine: PooledEngine) -> None:
        await engine.load(checkpoint.parent / "elsewhere")

    with pytest.raises(CheckpointError, match="no such folder"):
        carry(checkpoint, story, ray={"actors": 1})


def test_a_cluster_without_room_is_said_with_what_there_is(cluster: Any, checkpoint: Path) -> None:
    short = {"start_s": 0.5, "engine_silence_s": 60.0, "restarts": 0}
    with pytest.raises(EngineError, match=r"no room for 9 actors.*2 CPUs and 0 GPUs"):
        carry(checkpoint, rows, ray={"actors": 9}, supervision=short)
    with pytest.raises(RecipeError, match=r"no node has room.*ray\.gpus_per_actor"):
        carry(checkpoint, rows, ray={"gpus_per_actor": 8})


def test_an_actor_has_the_gpus_of_a_tensor_parallel_group_and_a_node_is_never_divided() -> None:
    nodes = [{"CPU": 64.0, "GPU": 8.0}, {"CPU": 64.0, "GPU": 4.0}, {"CPU": 16.0}]
    bundle = bundle_of({"extra": {"tensor_parallel_size": 4}}, nodes)
    assert bundle == {"GPU": 4.0, "CPU": 1.0}
    assert count_of("auto", bundle, nodes) == 3
    assert count_of(2, bundle, nodes) == 2
    by_hand = bundle_of({"ray": {"gpus_per_actor": 0, "cpus_per_actor": 30}}, nodes)
    assert by_hand == {"CPU": 30.0} and count_of("auto", by_hand, nodes) == 4
    assert bundle_of({"extra": {"tensor_parallel_size": 4}}, [{"CPU": 2.0}]) == {"CPU": 1.0}
