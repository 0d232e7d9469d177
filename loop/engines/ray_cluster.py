"""`engine: {kind: ray}`: an engine for each GPU, or each group of GPUs, of a Ray cluster.

Plain `ray`, not `ray[llm]`: that one pins a vLLM of its own, and starts an engine anew for each
pass over the data. Every actor sits in a bundle of one placement group, so the GPUs of a
tensor-parallel group always lie in one node. The run's folder and the checkpoints must lie on
storage that every node sees under the same path.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ouroloop.loop.engines import moved
from ouroloop.loop.engines.pipe import TimeLimits
from ouroloop.loop.engines.pool import PooledEngine
from ouroloop.loop.engines.ray_actor import ActorEngine, EngineActor
from ouroloop.loop.engines.supervised import Report, report_to_log
from ouroloop.loop.errors import EngineError, RecipeError

# Calls that an actor takes beside the requests: signs of life, closing.
SPARE_CALLS = 16
CONNECT_SECONDS = 10.0


def ray_engine(
    config: Mapping[str, Any], log_path: Path, worker: str = "ouroloop.loop.engines.worker"
) -> PooledEngine:
    """As the registry makes engines; `config` holds the recipe's section `ray` too."""
    return PooledEngine.at(RayCluster(config, log_path, worker), config)


class RayCluster:
    """The actors of one run: their placement group, and how each is made.

    Args:
        config: EngineConfig as a dict; `actor` names the engine in each actor, `ray` holds the
            recipe's section of this name.
        log_path: actor 2 logs to NAME-2.SUFFIX beside it.
        worker: module of the engine's process.
    """

    def __init__(self, config: Mapping[str, Any], log_path: Path, worker: str):
        # What computes is the local engine; this one only knows where.
        self.config = {**config, "kind": config.get("actor", "vllm")}
        self.layout: Mapping[str, Any] = config.get("ray") or {}
        self.log_path, self.worker = log_path, worker
        self.report: Report = report_to_log
        self._group: Any = None
        self._bundle: dict[str, float] = {}

    async def open(self) -> int:
        """Connect, and get a bundle for each actor.

        Raises:
            RecipeError: no node of the cluster could hold an actor.
            EngineError: no cluster answers, or it had no room in time.
        """
        import ray

        connect(self.layout.get("address"))
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._bundle = bundle_of(self.config, nodes)
        count = count_of(self.layout.get("actors", "auto"), self._bundle, nodes)
        bundles = [dict(self._bundle) for _ in range(count)]
        # As far apart as possible: where there is more room than actors, each has a node's memory.
        self._group = ray.util.placement_group(bundles, strategy="SPREAD")
        limit = TimeLimits.of(self.config).start_s
        if not await asyncio.to_thread(self._group.wait, limit):
            await self.close()
            raise EngineError(
                f"the Ray cluster had no room for {count} actors of {self._bundle} for {limit:g} s"
                f" (supervision.start_s); its {len(nodes)} nodes have {_sizes(nodes)}. Lower"
                " ray.actors, add nodes, or end what else runs there."
            )
        return count

    def make(self, index: int) -> ActorEngine:
        """The engine of one bundle, not started."""
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        log_path = self.log_path.with_stem(f"{self.log_path.stem}-{index}")
        placed = PlacementGroupSchedulingStrategy(self._group, index)
        options: dict[str, Any] = {
            "num_cpus": self._bundle.get("CPU", 0),
            "num_gpus": self._bundle.get("GPU", 0),
            "max_concurrency": int(self.config.get("concurrency", 512)) + SPARE_CALLS,
            # The pool starts another, which proves its weights first.
            "max_restarts": 0,
            "scheduling_strategy": placed,
        }
        actor = ray.remote(EngineActor).options(**options)
        arguments = (self.config, log_path, self.worker, os.environ.get(moved.VARIABLE, ""))
        limits = TimeLimits.of(self.config)
        return ActorEngine(lambda: actor.remote(*arguments), limits, self._said)

    async def close(self) -> None:
        """Give the bundles back; the connection stays, as it does for everything in the process."""
        import ray

        group, self._group = self._group, None
        if group is not None:
            with suppress(ray.exceptions.RayError):
                ray.util.remove_placement_group(group)

    def _said(self, event: str, facts: Mapping[str, Any]) -> None:
        # Through the attribute: it is set after the members were made.
        self.report(event, facts)


def refuse_silent(address: str | None) -> None:
    """Refuse an address at which nothing listens, at once: Ray itself would try for minutes.

    Args:
        address: `ray.address`; None: what RAY_ADDRESS says.

    Raises:
        RecipeError: no connection to host:port.
    """
    address = address or os.environ.get("RAY_ADDRESS", "")
    found = re.fullmatch(r"\[?(?P<host>[\w.:-]+?)\]?:(?P<port>\d+)", address)
    if found is None:
        return
    try:
        place = found["host"], int(found["port"])
        socket.create_connection(place, timeout=CONNECT_SECONDS).close()
    # OverflowError: no port has this number.
    except (OSError, OverflowError) as error:
        raise RecipeError(
            f"ray.address: no Ray cluster answers at {address} ({error}). Start one there with"
            " `ray start --head`, correct the address, or leave it out."
        ) from None


def connect(address: str | None) -> None:
    """Connect this process to a cluster, or start one on this machine where there is none.

    Raises:
        EngineError: no cluster answers at the address.
    """
    import ray

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray would take SIGTERM over, which ends a run and its children (loop/interrupts.py).
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EngineError(
            f"ray.address: no Ray cluster answers at {address or 'this machine'}"
            f" ({type(error).__name__}: {error}). Start one with `ray start --head`, correct the"
            " address, or leave it out."
        ) from error
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def bundle_of(config: Mapping[str, Any], nodes: list[dict[str, float]]) -> dict[str, float]:
    """What one actor holds of its node: GPUs (where the cluster has any) and CPUs."""
    layout: Mapping[str, Any] = config.get("ray") or {}
    gpus = layout.get("gpus_per_actor", "auto")
    if gpus == "auto":
        extra: Mapping[str, Any] = config.get("extra") or {}
        parts = ("tensor_parallel_size", "pipeline_parallel_size")
        sizes = [int(extra.get(part, 1)) for part in parts]
        has_gpus = any(node.get("GPU", 0) for node in nodes)
        gpus = sizes[0] * sizes[1] if has_gpus else 0
    wanted = {"GPU": float(gpus), "CPU": float(layout.get("cpus_per_actor", 1))}
    return {name: amount for name, amount in wanted.items() if amount}


def count_of(wanted: int | str, bundle: Mapping[str, float], nodes: list[dict[str, float]]) -> int:
    """How many actors: as many as the recipe says, or as the nodes have room for.

    Raises:
        RecipeError: no node has room for one.
    """
    # A bundle is never divided between two nodes.
    fitting = sum(
        int(min(node.get(name, 0) // amount for name, amount in bundle.items())) for node in nodes
    )
    # A number that is too large now may fit later: a cluster can grow.
    if wanted != "auto":
        return int(wanted)
    if not fitting:
        raise RecipeError(
            f"ray: no node has room for an engine of {dict(bundle)}; the {len(nodes)} nodes"
            f" have {_sizes(nodes)}. Lower ray.gpus_per_actor, ray.cpus_per_actor or"
            " engine.extra.tensor_parallel_size."
        )
    return fitting


def _sizes(nodes: list[dict[str, float]]) -> str:
    """The nodes' CPUs and GPUs in words."""
    each = [f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes]
    return "; ".join(each) or "nothing"
