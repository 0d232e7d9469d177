"""A run's copy on other storage: any host goes on with it, and no kill leaves half a run."""

import asyncio
import shutil
import time

import fsspec
import pytest
from scripted_world import Model, copying, small

from ouroloop.loop import runner
from ouroloop.loop.controller import Campaign
from ouroloop.loop.errors import RunStateError, StorageError
from ouroloop.loop.folder.ledger import JOURNAL
from ouroloop.loop.folder.lock import LOCK, STALE_SECONDS, Holder
from ouroloop.loop.folder.mirror import Mirror, is_url, mirror_of
from ouroloop.loop.folder.store import Store
from ouroloop.loop.setup import prepare
from ouroloop.loop.views.verify import checks_of, is_whole


class Stopped(Exception):
    """Somebody ended the run."""


def work(root, settings, stops_in=None, trainer=copying):
    """Begin a run or go on with it, copied at each commit; returns its folder."""
    path = root / settings.name
    store = Store.open(path) if path.exists() else Store.create(root, settings, "none")
    mirror = mirror_of(store.recipe)

    def progress(stage, done, total, note):
        if note == f"round {stops_in}" and stage == "sampling" and done > total // 2:
            raise Stopped

    setting = prepare(settings)
    committed = lambda number: mirror.upload(store.path)  # noqa: E731
    model = Model()
    campaign = Campaign(store, setting, model.engine, progress, committed, trainer=trainer)
    try:
        with mirror.held(store.path):
            asyncio.run(campaign.run())
    finally:
        store.close()
    return path


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    yield f"{request.param}://{tmp_path}/bucket/runs"
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()


FILES = ("samples.jsonl", "examples.parquet", "probe.parquet", "readings.json")


def files_of(path):
    return [(path / f"rounds/{n:03d}/{name}").read_bytes() for n in (1, 2) for name in FILES]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("plain")
    return files_of(work(root, small(rounds=2, peft=None, storage={"url": f"file://{root}/copy"})))


@pytest.mark.slow
def test_a_run_goes_on_from_its_copy_on_another_host_and_makes_the_same_rows(
    url, tmp_path, undisturbed
):
    settings = small(rounds=2, peft=None, storage={"url": url})
    with pytest.raises(Stopped):
        work(tmp_path / "first", settings, stops_in=2)
    mirror = Mirror(f"{url}/{settings.name}")
    there = mirror._sizes()
    assert "rounds/001/MANIFEST.json" in there and "rounds/001/checkpoint/config.json" in there
    # What was not committed stayed where it was.
    assert not [file for file in there if file.startswith("rounds/002") or JOURNAL in file]

    path = mirror.fetch(tmp_path / "second")
    assert is_whole(checks_of(path))
    work(tmp_path / "second", settings)
    assert files_of(path) == undisturbed
    assert "rounds/002/MANIFEST.json" in mirror._sizes()

    # The first host has its journal, but the other one went further.
    with pytest.raises(RunStateError, match=r"holds 2 finished rounds, its copy .* 3"):
        work(tmp_path / "first", settings)
    again = mirror.fetch(tmp_path / "first")
    assert files_of(again) == undisturbed
    assert [p.name for p in (tmp_path / "first").glob("*.damaged-1")] == [f"{path.name}.damaged-1"]


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """(local folder, its copy) of a finished run of one round."""
    root = tmp_path_factory.mktemp("copied")
    settings = small(rounds=1, peft=None, storage={"url": f"file://{root}/copy"})
    path = work(root / "runs", settings)
    return path, Mirror(f"file://{root}/copy/{path.name}")


@pytest.mark.slow
def test_only_what_is_new_is_copied_and_a_pruned_checkpoint_goes_there_too(copied, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(copied[0], path)
    mirror = Mirror(f"file://{tmp_path}/copy/run")
    first, again = mirror.upload(path), mirror.upload(path)
    # Two manifests and the event log, which grows.
    assert first > 20 and again == 3
    # As `retention.prune` leaves it.
    shutil.rmtree(path / "rounds/001/checkpoint")
    mirror.upload(path)
    assert not [file for file in mirror._sizes() if "rounds/001/checkpoint" in file]


@pytest.mark.slow
def test_of_a_round_that_was_copied_in_part_nothing_is_fetched(copied, tmp_path):
    path, mirror = copied
    (tmp_path / "copy").mkdir()
    shutil.copytree(mirror.root, tmp_path / "copy" / path.name)
    (tmp_path / "copy" / path.name / "rounds/001/MANIFEST.json").unlink()
    fetched = Mirror(f"file://{tmp_path}/copy/{path.name}").fetch(tmp_path)
    assert not (fetched / "rounds/001").exists() and (fetched / "rounds/000").exists()
    Store.open(fetched).close()


@pytest.mark.slow
def test_a_local_folder_that_is_as_far_is_gone_on_with_as_it_is(copied):
    path, mirror = copied
    (path / "note").write_text("mine")
    assert mirror.fetch(path.parent) == path and (path / "note").exists()


def test_a_copy_that_another_host_works_on_is_refused_until_it_is_silent(tmp_path):
    mirror = Mirror(f"file://{tmp_path}/copy/run")
    mirror._write(LOCK, Holder(7, "node-b", "another-boot", time.time() - 20).text)
    with pytest.raises(RunStateError, match="held by process 7 on node-b"):
        mirror.fetch(tmp_path / "runs")
    with pytest.raises(RunStateError, match="node-b"), mirror.held(tmp_path):
        pass
    old = time.time() - STALE_SECONDS - 1
    mirror._write(LOCK, Holder(7, "node-b", "another-boot", old).text)
    with mirror.held(tmp_path):
        text = (tmp_path / "copy/run" / LOCK).read_text()
        assert Holder.read(text).is_here
    assert (tmp_path / "copy/run" / LOCK).read_text() == ""


def test_what_is_no_run_and_what_cannot_be_reached_is_one_sentence(tmp_path):
    assert is_url("s3://bucket/run") and not is_url("runs/demo")
    with pytest.raises(RunStateError, match=r"no run here \(RUN\.json is missing\)"):
        Mirror(f"file://{tmp_path}/nothing").fetch(tmp_path)
    with pytest.raises(StorageError, match=r"storage\.url nowhere://x/run: .*run's own folder"):
        Mirror("nowhere://x/run")


@pytest.mark.slow
def test_a_storage_that_fails_costs_the_run_a_warning(tmp_path, monkeypatch):
    class Full(Mirror):
        def upload(self, run):
            raise StorageError("storage.url: no room")

    settings = small(rounds=1, peft=None, storage={"url": f"file://{tmp_path}/copy"})
    store = Store.create(tmp_path / "runs", settings, "none")
    said = []
    monkeypatch.setattr("ouroloop.loop.folder.mirror.Mirror", Full)
    runner._copy(mirror_of(settings), store, type("P", (), {"say": said.append}))
    store.close()
    assert said == ["warning: storage.url: no room"]
    assert '"event":"warning"' in (store.path / "events.jsonl").read_text().replace(" ", "")


@pytest.mark.parametrize("name", ["../evil", "rounds/000/../../../evil", "/evil"])
def test_an_object_that_would_be_fetched_past_the_runs_folder_is_refused(
    tmp_path, monkeypatch, name
):
    mirror = Mirror("memory://bucket/runs/small")
    mirror._write("RUN.json", "{}")
    there = {f"{mirror.root}/{each}": {"size": 2} for each in ("RUN.json", name)}
    monkeypatch.setattr(type(mirror.files), "find", lambda *_, **__: there)
    with pytest.raises(StorageError, match="outside the run's folder"):
        mirror.fetch(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    fsspec.filesystem("memory").store.clear()
