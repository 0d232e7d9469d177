"""Samples and their optional fields."""

import dataclasses

import numpy as np

from tests.monitors.simulated_panel import samples


def test_clusters_and_approvals_follow_the_rows_and_are_nobodys_by_default():
    probe = samples(np.random.default_rng(0))
    assert probe.cluster.tolist() == [None] * len(probe)
    assert probe.approvals == {}
    number = np.arange(len(probe))
    given = dataclasses.replace(
        probe,
        cluster=np.array([f"c{i}" for i in number], dtype=object),
        approvals={"harmless": (number % 2).astype(float)},
    )
    third = given.where(number % 3 == 0)
    assert third.cluster.tolist() == [f"c{i}" for i in number[::3]]
    assert third.approvals["harmless"].tolist() == (number[::3] % 2).tolist()
    assert len(given.where(number < 0).cluster) == 0
