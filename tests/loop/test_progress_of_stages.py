"""Every stage says that it began before it has done anything: its first item may take minutes."""

import asyncio

import pytest
from scripted_world import Model, no_training, small

from ouroloop.loop.controller import Campaign
from ouroloop.loop.folder.store import Store
from ouroloop.loop.setup import prepare


@pytest.mark.slow
def test_every_stage_announces_itself_with_nothing_done_and_ends_with_everything(tmp_path):
    settings = small(rounds=1, filters={"critic": True})
    store = Store.create(tmp_path, settings, "none")
    told = []
    campaign = Campaign(
        store,
        prepare(settings),
        Model().engine,
        lambda stage, done, total, note="": told.append((stage, note, done, total)),
        trainer=no_training,
    )
    try:
        asyncio.run(campaign.run())
    finally:
        store.close()
    by_stage = {}
    for stage, note, done, total in told:
        by_stage.setdefault((note, stage), []).append((done, total))
    stages = {stage for _, stage in by_stage}
    assert {"sampling", "probing", "probing the critic", "scoring texts"} <= stages
    assert {"scoring traces", "trying the verifier"} <= stages
    for where, steps in by_stage.items():
        # The scripted trainer reports its end alone, and a checkpoint is loaded in one step.
        if where[1] not in ("training", "loading"):
            assert steps[0][0] == 0 and steps[-1][0] == steps[-1][1] > 0, (where, steps)
