"""`engine: {kind: server}`: servers that sample as the student, and get each round's weights.

Each server has a process of its own here, with the student's tokenizer: what is asked of it is
asked as of a local engine, the weight-sync check included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ouroloop.loop.engines import remote, remote_reload
from ouroloop.loop.engines.pool import PooledEngine
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.engines.supervised import Report, report_to_log


def server_engine(
    config: Mapping[str, Any], log_path: Path, worker: str = "ouroloop.loop.engines.worker"
) -> PooledEngine:
    """As the registry makes engines; `config` holds the recipe's section `students` too."""
    return PooledEngine.at(Servers(config, log_path, worker), config)


def refuse_unfit(addresses: Sequence[str], reload: str | Sequence[str]) -> None:
    """Refuse servers that do not answer, or cannot be given weights; see `remote.check`.

    Args:
        addresses: `students.addresses`.
        reload: `students.reload`.

    Raises:
        RecipeError, CheckpointError: names the server and what it lacks.
    """
    start = "vllm serve"
    if isinstance(reload, str):
        start = f"{remote_reload.ENDPOINTS[reload][1]} {start}"
    remote.check(" ".join(addresses), start)
    for address in addresses:
        remote_reload.refuse_without_endpoint(address, reload)


class Servers:
    """The servers of one run. server 2 is logged to NAME-2.SUFFIX beside `log_path`."""

    def __init__(self, config: Mapping[str, Any], log_path: Path, worker: str):
        self.config, self.log_path, self.worker = config, log_path, worker
        self.report: Report = report_to_log

    async def open(self) -> int:
        """They are there already; how many."""
        return len(self.config["students"]["addresses"])

    def make(self, index: int) -> ProcessEngine:
        """The process that asks one of them, not started."""
        address = self.config["students"]["addresses"][index]
        log_path = self.log_path.with_stem(f"{self.log_path.stem}-{index}")
        config = {**self.config, "kind": "server", "address": address}
        return ProcessEngine(config, log_path, self.worker)

    async def close(self) -> None:
        """They stay as they are: somebody else started them."""
