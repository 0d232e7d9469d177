"""Serve old weights on purpose, in each way that vLLM is known to do so in silence.

And see the weight-sync check stop it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from tiny import save_tiny_adapter, save_tiny_llama

from ouroloop.loop.engines import weight_sync, weight_sync_truth
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.errors import StaleWeightsError
from ouroloop.loop.records import Request, Sampling

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONFIG = {
    "kind": "vllm",
    "dtype": "float32",
    "max_model_len": 256,
    "max_num_seqs": 16,
    "kv_cache_memory_bytes": 2**26,
    "swap": "reload",
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two untied models, two tied ones, and two adapters of the first tied one.

    Each has its weight-sync check.
    """
    folder = tmp_path_factory.mktemp("checkpoints")
    made = {f"untied{i}": save_tiny_llama(folder / f"untied{i}", seed=i) for i in (1, 2)}
    made |= {f"tied{i}": save_tiny_llama(folder / f"tied{i}", seed=i, tied=True) for i in (1, 2)}
    made |= {
        f"adapter{i}": save_tiny_adapter(made["tied1"], folder / f"adapter{i}", seed=i)
        for i in (1, 2)
    }
    for path in made.values():
        weight_sync.write(weight_sync_truth.make(path, "float32"), path / weight_sync.FILE_NAME)
    return made


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Call it with what the worker shall leave out from now on."""
    switch = tmp_path / "broken"
    switch.write_text("")
    monkeypatch.setenv("OUROLOOP_TEST_BREAK", str(switch))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    def set_broken(what: str) -> None:
        switch.write_text(what)

    return set_broken


def carry(engine: ProcessEngine, story: Coroutine[None, None, None]) -> None:
    async def run() -> None:
        try:
            await story
        finally:
            await engine.close()

    asyncio.run(run())


async def greedy(engine: ProcessEngine) -> tuple[int, ...]:
    return (
        await engine.complete(
            Request("q", "12 + 7 =", Sampling(temperature=0.0, max_tokens=16), seed=0)
        )
    ).token_ids


def test_an_untied_model_is_swapped_and_a_prefix_cache_that_survives_the_swap_is_caught(
    checkpoints: dict[str, Path], broken: Callable[[str], None], tmp_path: Path
) -> None:
    engine = ProcessEngine(CONFIG, tmp_path / "engine.log", worker="stale_worker")

    async def story() -> None:
        await engine.load(checkpoints["untied1"])
        before = await greedy(engine)
        await engine.load(checkpoints["untied2"])
        assert await greedy(engine) != before
        await engine.load(checkpoints["untied1"])
        assert await greedy(engine) == before
        broken("prefix cache")
        with pytest.raises(
            StaleWeightsError, match=r"prompt 3 \(\d+ tokens.*(?s:.*)prefix cache.*(?s:.*)respawn"
        ) as caught:
            await engine.load(checkpoints["untied2"])
        assert "prompt 0 " not in str(caught.value), (
            "a prompt shorter than a block cannot have been cached"
        )

    carry(engine, story())


def test_tied_models_and_adapters_are_swapped_and_an_adapter_id_used_twice_is_caught(
    checkpoints: dict[str, Path], broken: Callable[[str], None], tmp_path: Path
) -> None:
    engine = ProcessEngine(
        {**CONFIG, "lora": {"r": 4}}, tmp_path / "engine.log", worker="stale_worker"
    )

    async def story() -> None:
        answers = {}
        for name in ("tied1", "tied2", "adapter1", "adapter2", "tied1"):
            await engine.load(checkpoints[name])
            answers[name] = await greedy(engine)
        assert len(set(answers.values())) == 4
        await engine.load(checkpoints["adapter1"])
        # In float32 adapters are merged, on a GPU too: what can go stale is the reload.
        broken("reload")
        with pytest.raises(StaleWeightsError, match="adapter id used twice"):
            await engine.load(checkpoints["adapter2"])

    carry(engine, story())


def test_a_tied_output_layer_that_keeps_the_old_matrix_is_caught(
    checkpoints: dict[str, Path], broken: Callable[[str], None], tmp_path: Path
) -> None:
    engine = ProcessEngine(CONFIG, tmp_path / "engine.log", worker="stale_worker")

    async def story() -> None:
        await engine.load(checkpoints["tied1"])
        broken("repack")
        with pytest.raises(StaleWeightsError, match="4 of 4 weight-sync prompts"):
            await engine.load(checkpoints["tied2"])
        broken("")
        await engine.load(checkpoints["tied2"])

    carry(engine, story())
