"""How a server gets a checkpoint's weights: by vLLM's own endpoints, or a command of the user's.

What a server says about it proves nothing: the weight-sync check that follows does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ouroloop.loop.engines.checkpoint import Checkpoint
from ouroloop.loop.engines.remote_server import Server, split_address
from ouroloop.loop.errors import CheckpointError, EngineError, EngineLostError, RecipeError

# Between two questions whether a server is there.
POLL_SECONDS = 0.5
DEV_MODE = "VLLM_SERVER_DEV_MODE=1"
LORA_MODE = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
# students.reload -> what a server needs for it: (endpoint, variable that turns it on).
ENDPOINTS = {
    "rpc": ("/collective_rpc", DEV_MODE),
    "lora": ("/v1/load_lora_adapter", LORA_MODE),
}
CHECK_SECONDS = 10.0


@dataclass(frozen=True)
class Served:
    """What a server serves now.

    Attributes:
        model: the name to ask for.
        max_model_len: its context in tokens; None: it does not say.
        block_size: of its prefix cache in tokens; None: it does not say, or has none.
    """

    model: str
    max_model_len: int | None
    block_size: int | None


def refuse_without_endpoint(address: str, reload: str | Sequence[str]) -> None:
    """Refuse a server that cannot be given weights as the recipe says, before a run begins.

    Nothing is done to a server that does not list its endpoints, or is not there now.

    Args:
        address: URL#model.
        reload: `students.reload`.

    Raises:
        RecipeError: it lacks the endpoint.
    """
    import httpx

    if not isinstance(reload, str):
        return
    url, _ = split_address(address)
    endpoint, mode = ENDPOINTS[reload]
    try:
        listed = httpx.get(f"{_root(url)}/openapi.json", timeout=CHECK_SECONDS).json()["paths"]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return
    if endpoint not in listed:
        raise RecipeError(
            f"{url}: the server has no {endpoint}, by which students.reload: {reload} gives it each"
            f" round's weights. Start it with {mode}, or set students.reload to a command of your"
            " own."
        )


async def new_weights(
    server: Server, checkpoint: Checkpoint, reload: str | Sequence[str], wait_s: float
) -> Served:
    """Give a server a checkpoint's weights. Nothing may be in flight there.

    Args:
        server: that is asked.
        checkpoint: in a folder that the server sees under the same path.
        reload: `students.reload`.
        wait_s: seconds that it may take until the server answers.

    Raises:
        EngineLostError: no server answers.
        EngineError: it refuses, for instance because it lacks the endpoint.
        CheckpointError: an adapter, and it is no LoRA that is reloaded.
    """
    import httpx

    root = _root(server.url)
    headers = {"Authorization": f"Bearer {server.client.api_key}"}
    async with httpx.AsyncClient(base_url=root, headers=headers, timeout=wait_s) as http:
        try:
            await _answering(http, wait_s)
            model = server.model
            if reload == "lora":
                model = await _load_adapter(http, checkpoint, server)
            elif checkpoint.is_adapter:
                raise CheckpointError(
                    f"{checkpoint.path}: a LoRA adapter, and students.reload is {reload!r}. Set it"
                    " to lora, or train all weights (peft: null)."
                )
            elif reload == "rpc":
                await _reload(http, checkpoint)
            else:
                await _command(reload, checkpoint, server.url, wait_s)
                await _answering(http, wait_s)
            length = await _context(http, server.model)
            return Served(model, length, await _block_size(http))
        except httpx.HTTPError as error:
            raise EngineLostError(f"{root}: {type(error).__name__}: {error}") from None


def _root(url: str) -> str:
    """Where the other endpoints lie: beside /v1, not in it."""
    return url.rstrip("/").removesuffix("/v1")


async def _answering(http: Any, wait_s: float) -> None:
    """Wait until the server lists its models: after a restart that may take minutes."""
    import httpx

    until = time.monotonic() + wait_s
    while True:
        try:
            if (await http.get("/v1/models")).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            if time.monotonic() > until:
                raise
        else:
            if time.monotonic() > until:
                raise EngineLostError(f"{http.base_url}: no list of models in {wait_s:g} s")
        await asyncio.sleep(POLL_SECONDS)


async def _reload(http: Any, checkpoint: Checkpoint) -> None:
    """VLLM's weights in place, what it packed of the old ones, and its prefix cache."""
    path = str(checkpoint.path)
    call = {"method": "reload_weights", "kwargs": {"weights_path": path}}
    await _posted(http, "/collective_rpc", call, DEV_MODE)
    # Of ours (vllm_local.WorkerExtension), and needed by the CPU build alone: a server that was
    # started without it has no such method, and the weight-sync check says whether it mattered.
    await http.post("/collective_rpc", json={"method": "repack_lm_head"})
    said = (await _posted(http, "/reset_prefix_cache", {}, DEV_MODE)).json()
    if said.get("success") is not True:
        raise EngineError(
            f"{http.base_url}: it refused to reset its prefix cache, as it does while requests"
            " run. A server belongs to one run; end what else asks it."
        )


async def _load_adapter(http: Any, checkpoint: Checkpoint, server: Server) -> str:
    """The name under which an adapter is served; the base's own for a whole model."""
    if not checkpoint.is_adapter:
        return server.model
    # vLLM goes on with what it has cached under a name, so each has its own.
    name = f"ouroloop-{time.time_ns()}"
    asked = {"lora_name": name, "lora_path": str(checkpoint.path)}
    await _posted(http, "/v1/load_lora_adapter", asked, LORA_MODE)
    return name


async def _command(
    command: str | Sequence[str], checkpoint: Checkpoint, url: str, wait_s: float
) -> None:
    filled = [part.replace("{checkpoint}", str(checkpoint.path)) for part in command]
    filled = [part.replace("{url}", url) for part in filled]
    # Its output goes to the engine's log, as this process's own does.
    child = await asyncio.create_subprocess_exec(*filled, stdin=asyncio.subprocess.DEVNULL)
    try:
        status = await asyncio.wait_for(child.wait(), wait_s)
    except TimeoutError:
        child.kill()
        raise EngineError(f"students.reload: {filled} took longer than {wait_s:g} s") from None
    if status:
        raise EngineError(f"students.reload: {filled} ended with status {status}")


async def _posted(http: Any, path: str, asked: dict[str, Any], mode: str) -> Any:
    """The response of status 200.

    Raises:
        EngineError: another status.
    """
    response = await http.post(path, json=asked)
    if response.status_code == 200:
        return response
    hint = f"Start the server with {mode}." if response.status_code == 404 else "See its log."
    raise EngineError(
        f"{http.base_url}{path.lstrip('/')}: expected status 200, got {response.status_code}"
        f" ({response.text[:300]}). {hint}"
    )


async def _context(http: Any, model: str) -> int | None:
    found = (await http.get("/v1/models")).json().get("data") or []
    lengths = {each.get("id"): each.get("max_model_len") for each in found}
    length = lengths.get(model)
    return length if isinstance(length, int) else None


async def _block_size(http: Any) -> int | None:
    """Of the prefix cache, where the server says (vLLM in its development mode does)."""
    response = await http.get("/server_info", params={"config_format": "json"})
    try:
        cache = response.json()["vllm_config"]["cache_config"]
        return int(cache["block_size"]) if cache["enable_prefix_caching"] else None
    except (ValueError, KeyError, TypeError):
        return None
