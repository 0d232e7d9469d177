"""A Ray cluster of two simulated nodes on this machine, whose workers find the tests' modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import child_path

# As little as Ray takes; the objects here are texts.
STORE_BYTES = 80_000_000
NODE = {"num_cpus": 2, "object_store_memory": STORE_BYTES}


@contextmanager
def two_nodes(environment: Mapping[str, str] | None = None) -> Iterator[Any]:
    """The cluster, with this process connected to it. The first node is the head: it stays.

    environment: of all that runs there.
    """
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        # Set before the first process starts: workers inherit it from their node.
        patch.setenv("PYTHONPATH", child_path())
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        head = {**NODE, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            cluster.add_node(**NODE)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def worker_node(cluster: Any) -> Any:
    """The node that can be removed."""
    (node,) = [each for each in cluster.list_all_nodes() if each is not cluster.head_node]
    return node
