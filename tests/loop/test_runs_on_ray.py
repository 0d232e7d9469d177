"""Whole runs, and the real vLLM, on a Ray cluster of two simulated nodes."""

import asyncio
import sys
from functools import partial
from pathlib import Path

import pytest
from scripted_world import copying, small

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

from ray_world import NODE, two_nodes, worker_node

from ouroloop.loop.controller import Campaign
from ouroloop.loop.engines import weight_sync, weight_sync_truth
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.engines.ray_cluster import ray_engine
from ouroloop.loop.errors import StaleWeightsError
from ouroloop.loop.folder.store import Store
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.records import Request, Sampling
from ouroloop.loop.setup import prepare

# Every test needs the cluster, a dozen processes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
pytest.importorskip("ray", reason="needs the extra `ray`")


@pytest.fixture(scope="module")
def switch(tmp_path_factory):
    """The file that says what the real worker shall leave out."""
    path = tmp_path_factory.mktemp("switch") / "broken"
    path.write_text("")
    return path


@pytest.fixture(scope="module")
def cluster(switch):
    with two_nodes({"OUROLOOP_TEST_BREAK": str(switch)}) as cluster:
        yield cluster


class Stopped(Exception):
    """Somebody ended the run."""


def carry(root, settings, make, progress=lambda *what: None):
    """The folder of a run of the scripted model, begun or gone on with."""
    path = root / settings.name
    store = Store.open(path, settings) if path.exists() else Store.create(root, settings, "none")
    setting = prepare(settings)
    engine = make(setting.recipe.engine_config(), store.path / "engine.log")
    campaign = Campaign(store, setting, engine, progress, trainer=copying)

    async def story():
        try:
            await campaign.run()
        finally:
            await engine.close()
            store.close()

    asyncio.run(story())
    return store.path


def in_one_process(config, log_path):
    return ProcessEngine({**config, "kind": "scripted"}, log_path, "faulty_worker")


def on_the_cluster(config, log_path):
    return ray_engine({**config, "actor": "scripted"}, log_path, "faulty_worker")


def test_a_run_that_loses_a_node_and_is_resumed_with_fewer_actors_makes_the_same_files(
    cluster, tmp_path
):
    patient = {"start_s": 120.0}
    settings = small(rounds=1, peft=None, engine={"kind": "ray"}, supervision=patient)
    plain = carry(tmp_path / "plain", settings, in_one_process)

    def disturb(stage, done, total, note):
        if stage == "sampling" and note == "round 1" and done >= total // 4:
            nodes = cluster.list_all_nodes()
            if len(nodes) == 2:
                cluster.remove_node(worker_node(cluster), allow_graceful=False)
            elif done >= total // 2:
                raise Stopped

    # An actor fills a node: after the loss there is no room for a second one.
    two = settings.model_copy(
        update={"ray": settings.ray.model_copy(update={"actors": 2, "cpus_per_actor": 2})}
    )
    with pytest.raises(Stopped):
        carry(tmp_path / "ray", two, on_the_cluster, disturb)
    one = settings.model_copy(update={"ray": settings.ray.model_copy(update={"actors": 1})})
    resumed = carry(tmp_path / "ray", one, on_the_cluster)
    cluster.add_node(**NODE)

    for name in ("samples.jsonl", "examples.parquet", "probe.parquet", "readings.json"):
        found = [path / "rounds/001" / name for path in (plain, resumed)]
        assert found[0].read_bytes() == found[1].read_bytes(), name


REAL = {
    "kind": "ray",
    "actor": "vllm",
    "dtype": "float32",
    "max_model_len": 256,
    "max_num_seqs": 16,
    "kv_cache_memory_bytes": 2**26,
    "swap": "reload",
    "ray": {"actors": 2},
    "supervision": {"start_s": 300.0, "engine_silence_s": 300.0, "restarts": 0},
}


@pytest.mark.long
def test_real_actors_give_the_rows_of_one_engine_and_each_proves_its_weights(
    cluster, switch, tmp_path
):
    base, teacher = (resolve_model(f"arithmetic/{name}") for name in ("base", "teacher"))
    checks = {}
    for path in (base, teacher):
        checks[path] = tmp_path / f"{path.name}.json"
        weight_sync.write(weight_sync_truth.make(path, "float32"), checks[path])
    requests = [
        Request(f"001/student/p{n // 4}/draft/{n % 4}", "Q: 12+7\nA:\n", Sampling(max_tokens=24), n)
        for n in range(24)
    ]

    async def rows(engine):
        answers = await asyncio.gather(*(engine.complete(request) for request in requests))
        return [(answer.request_id, answer.token_ids) for answer in answers]

    async def story(make, *, is_broken):
        engine = make(REAL, tmp_path / "engine.log", "stale_worker")
        try:
            await engine.load(base, checks[base])
            found = await rows(engine)
            if is_broken:
                switch.write_text("reload")
                with pytest.raises(StaleWeightsError):
                    await engine.load(teacher, checks[teacher])
            return found
        finally:
            switch.write_text("")
            await engine.close()

    def alone(config, log_path, worker):
        return ProcessEngine({**config, "kind": "vllm"}, log_path, worker)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUROLOOP_TEST_BREAK", str(switch))
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "engines"))
        expected = asyncio.run(story(alone, is_broken=False))
    assert len({ids for _, ids in expected}) > 6, "the seeds make a difference"
    assert asyncio.run(story(partial(ray_engine), is_broken=True)) == expected
