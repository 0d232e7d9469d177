"""Every file of a run, damaged in every way: always noticed, named, and never a traceback.

Committed files are refused; those of the round at work are set aside and made again.
"""

import contextlib
import io
import json
import os
import shutil
from pathlib import Path

import pytest
from scripted_world import Model, carry, no_training, small

from ouroloop.loop import round as round_module
from ouroloop.loop.__main__ import main
from ouroloop.loop.errors import DamagedError
from ouroloop.loop.folder import integrity, ledger
from ouroloop.loop.folder.store import Store
from ouroloop.loop.folder.sums import Status, sum_of
from ouroloop.loop.round import Round
from ouroloop.loop.views import verify as shown
from ouroloop.loop.views.reader import read_run

pytestmark = pytest.mark.slow

# Written anew or appended to by whoever likes: no number of the run rests on them.
CHANGING = {"LOCK"}


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(bytes(data))


def empty(path):
    path.write_bytes(b"")


def append(path):
    path.write_bytes(path.read_bytes() + b"\0")


DAMAGES = (truncate, flip, empty, Path.unlink, append)


@pytest.fixture(scope="module")
def weighty_run(tmp_path_factory):
    """A scripted run whose rounds leave weights."""

    def train(job, folder, report):
        facts = no_training(job, folder, report)
        (folder / "checkpoint" / "model.safetensors").write_bytes(bytes(range(256)))
        return facts

    root = tmp_path_factory.mktemp("weighty")
    return carry(root, Model(), small(rounds=2), train)[1]


def files_of(run):
    found = (path.relative_to(run) for path in sorted(run.rglob("*")) if path.is_file())
    return [str(file) for file in found if file.name not in CHANGING]


def called(*arguments):
    """(exit code, what was printed) of a command; a traceback would be raised here."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main([*map(str, arguments)])
    return code, out.getvalue()


def test_a_whole_run_is_whole_and_every_file_is_listed(weighty_run):
    checks = shown.checks_of(weighty_run)
    assert {check.status for check in checks} == {Status.OK}
    manifests = {
        file for file in files_of(weighty_run) if file.endswith(("MANIFEST.json", "RUN.json"))
    }
    assert {check.file for check in checks} | manifests == set(files_of(weighty_run))
    assert called("verify", weighty_run)[0] == 0
    Store.open(weighty_run).close()


@pytest.mark.slow
def test_every_damage_of_every_committed_file_is_noticed_without_a_traceback(weighty_run, tmp_path):
    """Not parametrised: a case takes milliseconds, and pytest's own work a hundred times that."""
    tried = 0
    for file in files_of(weighty_run):
        for damage in DAMAGES:
            run = shutil.copytree(weighty_run, tmp_path / "run")
            case = f"{damage.__name__} {file}"
            damage(run / file)
            code, text = called("verify", run)
            assert code == 2 and Path(file).name in text, case
            assert_refused_or_repaired(run, file, case)
            for command in (["compare", run], ["watch", run]):
                code, text = called(*command)
                assert code in (0, 2), f"{command} {case}"
                assert code == 0 or Path(file).name in text, f"{command} {case}"
            shutil.rmtree(run)
            tried += 1
    assert tried >= 108


def assert_refused_or_repaired(run, file, case):
    """Going on with the run: the log is repaired, everything else refused and left as it is."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    if file == "events.jsonl":
        store = Store.open(run)
        store.close()
        assert [repair.event for repair in store.repairs] == ["log_repaired"], case
        assert called("verify", run)[0] == 0, case
        return
    with pytest.raises(DamagedError) as found:
        Store.open(run)
    assert Path(file).name in str(found.value) and "Put the file back" in str(found.value), case
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert {**before, run / "LOCK": b""} == {**after, run / "LOCK": b""}, case


@pytest.mark.parametrize("file", ["readings.json", "probe.parquet", "verdicts.parquet"])
def test_a_report_of_damaged_tables_ends_in_one_sentence(weighty_run, tmp_path, file):
    run = shutil.copytree(weighty_run, tmp_path / "run")
    flip(run / "rounds" / "001" / file)
    code, text = called("report", run)
    assert code == 2 and f"rounds/001/{file}: sha256: expected" in text


def test_a_table_that_is_damaged_while_the_run_works_is_not_read(weighty_run, tmp_path):
    run = shutil.copytree(weighty_run, tmp_path / "run")
    flip(run / "rounds" / "001" / "verdicts.parquet")
    with pytest.raises(DamagedError, match=r"verdicts\.parquet"):
        _ = Round(run / "rounds" / "001").verdicts
    with pytest.raises(DamagedError, match=r"verdicts\.parquet"):
        _ = read_run(run).rounds[1].verdicts


def test_large_weights_are_hashed_when_they_are_used_and_by_verify(
    weighty_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(integrity, "LARGE_BYTES", 255)
    run = shutil.copytree(weighty_run, tmp_path / "run")
    weights = run / "rounds" / "001" / "checkpoint" / "model.safetensors"
    hashed = []
    plain = sum_of
    monkeypatch.setattr(
        "ouroloop.loop.folder.sums.sum_of", lambda path: hashed.append(path) or plain(path)
    )
    flip(weights)
    store = Store.open(run)
    assert weights not in hashed, "opened in the time that small files take"
    with pytest.raises(DamagedError, match=r"checkpoint/model\.safetensors: sha256"):
        store.prove(weights.parent)
    store.prove(run / "rounds" / "002" / "checkpoint")
    store.prove(run / "rounds" / "002" / "checkpoint")
    assert hashed.count(run / "rounds" / "002" / "checkpoint" / "model.safetensors") == 1
    store.close()
    assert called("verify", run)[0] == 2


def test_the_remedy_that_is_named_makes_the_round_again(weighty_run, tmp_path):
    run = shutil.copytree(weighty_run, tmp_path / "scripted")
    flip(run / "rounds" / "002" / "readings.json")
    with pytest.raises(DamagedError, match="delete the folder of the first damaged round"):
        Store.open(run)
    shutil.rmtree(run / "rounds" / "002")
    carry(tmp_path, Model(), small(rounds=2))
    assert called("verify", run)[0] == 0
    made, was = (path / "rounds" / "002" / "readings.json" for path in (run, weighty_run))
    assert made.read_bytes() == was.read_bytes()


def test_a_checkpoint_that_was_taken_away_is_missed_only_by_who_needs_it(weighty_run, tmp_path):
    """People make room by hand; a run goes on from its last rounds."""
    run = shutil.copytree(weighty_run, tmp_path / "run")
    shutil.rmtree(run / "rounds" / "001" / "checkpoint")
    assert called("verify", run)[0] == 2
    store = Store.open(run)
    store.prove(run / "rounds" / "002" / "checkpoint")
    with pytest.raises(DamagedError, match=r"001/checkpoint/model\.safetensors: missing"):
        store.prove(run / "rounds" / "001" / "checkpoint")
    store.close()


# -- the round at work ------------------------------------------------------------


class Killed(Exception):
    """Stands for a kill."""


def cut(root, at_item):
    """A run whose round 1 was killed right after `at_item` was written."""
    settings = small(rounds=1)
    plain = Round.write

    def write(round, item, value):
        plain(round, item, value)
        if round.number == 1 and item.file == at_item:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Round, "write", write)
        with pytest.raises(Killed):
            carry(root, Model(), settings)
    return root / "scripted"


@pytest.fixture(scope="module")
def cut_run(tmp_path_factory):
    """Round 1 has all but its decision: (the run, the same run uninterrupted)."""
    whole = carry(tmp_path_factory.mktemp("whole"), Model(), small(rounds=1))[1]
    return cut(tmp_path_factory.mktemp("cut"), "readings.json"), whole


# What a run without preference pairs, a judge and servers has.
ABSENT = {"decision.json", "pairs.parquet", "judgements.parquet", "dropped.parquet"}
ABSENT |= {"drawn.json", "further.parquet"}
OPEN = sorted({item.file for item in Round.items()} - ABSENT | {"files.jsonl"})
QUICK = {("flip", "verdicts.parquet"), ("truncate", "samples.jsonl"), ("unlink", "files.jsonl")}


def cases():
    for file in OPEN:
        for damage in DAMAGES:
            marks = [] if (damage.__name__, file) in QUICK else [pytest.mark.slow]
            yield pytest.param(file, damage, marks=marks, id=f"{damage.__name__}-{file}")


@pytest.mark.parametrize(("file", "damage"), list(cases()))
def test_a_damaged_file_of_the_round_at_work_is_set_aside_and_made_again(
    cut_run, tmp_path, file, damage
):
    cut_path, whole = cut_run
    run = shutil.copytree(cut_path, tmp_path / "scripted")
    path = run / "rounds" / "001" / file
    before = {p.name: p.read_bytes() for p in path.parent.iterdir() if p.is_file()}
    damage(path)
    damaged = path.read_bytes() if path.exists() else None
    assert called("verify", run)[0] == 2
    carry(tmp_path, Model(), small(rounds=1))
    assert called("verify", run)[0] == 0
    noticed = [
        event for event in read_run(run).events if event["event"] in ("set_aside", "files_listed")
    ]
    assert noticed, "it is said"
    aside = {p.read_bytes() for p in path.parent.iterdir() if ".damaged-" in p.name and p.is_file()}
    assert damaged is None or damaged in aside, "what was found is kept"
    kept = aside | {p.read_bytes() for p in path.parent.iterdir() if p.is_file()}
    lost = [
        name
        for name, data in before.items()
        if name not in (file, "files.jsonl", "answers.jsonl") and data not in kept
    ]
    assert lost == [], "nothing that was whole is lost"
    for name in ("readings.json", "decision.json", "examples.parquet", "verdicts.parquet"):
        assert (path.parent / name).read_bytes() == (whole / "rounds/001" / name).read_bytes(), name


def test_a_repair_that_is_killed_begins_again_and_takes_no_damaged_file_as_it_is(
    cut_run, tmp_path, monkeypatch
):
    run = shutil.copytree(cut_run[0], tmp_path / "scripted")
    verdicts = run / "rounds/001/verdicts.parquet"
    for path in (verdicts, verdicts.with_name(ledger.LEDGER)):
        flip(path)

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(ledger, "_set_all_aside", die)
        Store.open(run)
    carry(tmp_path, Model(), small(rounds=1))
    assert verdicts.read_bytes() == (cut_run[1] / "rounds/001/verdicts.parquet").read_bytes()


def test_a_journal_with_a_damaged_line_keeps_the_others(cut_run, tmp_path):
    run = shutil.copytree(cut(tmp_path / "first", "audit.parquet"), tmp_path / "scripted")
    journal = run / "rounds" / "001" / ledger.JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    damaged = json.loads(lines[3])["answer"]["request_id"]
    lines[3] = lines[3].replace(b"0", b"1", 1)
    journal.write_bytes(b"".join(lines))
    assert called("verify", run)[0] == 2
    model = Model()
    carry(tmp_path, model, small(rounds=1))
    asked = [request.id for request in model.engine.requests]
    again = [i for i in asked if i == damaged or (i.startswith("001") and "/draft/" in i)]
    assert again == [damaged], "one answer is asked for again, and no draft"
    assert called("verify", run)[0] == 0


def test_a_file_that_is_damaged_before_the_commit_is_refused_and_made_again(tmp_path):
    settings = small(rounds=1)
    plain = Round.commit

    def commit(round):
        if round.number == 1:
            flip(round.folder / "probe.parquet")
        plain(round)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Round, "commit", commit)
        with pytest.raises(DamagedError, match=r"rounds/001/probe\.parquet: sha256"):
            carry(tmp_path, Model(), settings)
    _, run = carry(tmp_path, Model(), settings)
    assert called("verify", run)[0] == 0


def test_the_ledger_ends_with_the_round(weighty_run):
    assert not list(weighty_run.rglob(ledger.LEDGER))
    events = [json.loads(line) for line in (weighty_run / "events.jsonl").read_text().splitlines()]
    assert all("crc32" in event for event in events)


class Trainer:
    """It never leaves the same bytes twice, as a GPU does not; `dies` ends its first attempt."""

    def __init__(self, dies=None):
        self.attempts, self.dies = 0, dies

    def __call__(self, job, folder, report):
        self.attempts += 1
        shutil.rmtree(job.output, ignore_errors=True)
        # A second attempt may have another batch, and so another job.
        (folder / "job.json").write_text(f'{{"attempt": {self.attempts}}}')
        job.output.mkdir()
        (job.output / "model.safetensors").write_bytes(bytes(self.attempts))
        if self.attempts == 1 and self.dies is not None:
            raise self.dies
        return no_training(job, folder, report)


def test_a_training_that_was_killed_before_its_end_is_made_again_and_may_come_out_otherwise(
    tmp_path,
):
    """What it left was listed when the run was resumed, and the commit refused what replaced it."""
    trainer = Trainer(dies=Killed())
    with pytest.raises(Killed):
        carry(tmp_path, Model(), small(rounds=1), trainer)
    assert list(tmp_path.rglob("model.safetensors"))
    _, run = carry(tmp_path, Model(), small(rounds=1), trainer)
    assert called("verify", run)[0] == 0
    assert (run / "rounds/001/checkpoint/model.safetensors").read_bytes() == bytes(2)


@pytest.mark.parametrize("file", ["train.json", "job.json", "checkpoint/model.safetensors"])
def test_one_damaged_file_of_a_training_makes_all_of_it_again(tmp_path, monkeypatch, file):
    trainer = Trainer()
    plain = Round.write

    def write(round, item, value):
        if round.number == 1 and item.file == "readings.json":
            raise Killed
        plain(round, item, value)

    with monkeypatch.context() as patch:
        patch.setattr(Round, "write", write)
        with pytest.raises(Killed):
            carry(tmp_path, Model(), small(rounds=1), trainer)
    append(tmp_path / "scripted/rounds/001" / file)
    _, run = carry(tmp_path, Model(), small(rounds=1), trainer)
    assert trainer.attempts == 2 and called("verify", run)[0] == 0
    aside = {path.name for path in (run / "rounds/001").glob("*.damaged-1")}
    assert {f"{name}.damaged-1" for name in ledger.TRAINED} <= aside


# -- power cuts ---------------------------------------------------------------------


def test_a_committed_round_is_on_the_disk_before_its_manifest_and_the_manifest_before_the_event(
    tmp_path, monkeypatch
):
    """Of a file its bytes, and of each folder the names in it: else a power cut loses both."""
    forced, missing, steps = {}, [], []
    plain, event, sealed = os.fsync, Store.event, round_module.sealed

    def fsync(descriptor):
        plain(descriptor)
        about = os.fstat(descriptor)
        forced[about.st_ino] = about.st_mtime_ns

    def working_files_stay(folder):
        """They go after the manifest, and need not be gone after a power cut."""

    def check(step, but):
        steps.append(step)
        folder = integrity.round_folders(run)[-1]
        paths = [run, run / "rounds", folder, *folder.rglob("*"), *run.glob("*.json*")]
        for path in paths:
            about = path.stat()
            if path.name not in but and forced.get(about.st_ino, 0) < about.st_mtime_ns:
                missing.append(f"{step}: {path.relative_to(tmp_path)}")

    def before_manifest(value):
        check("manifest", {"files.jsonl", "answers.jsonl"})
        return sealed(value)

    def before_event(store, what, **facts):
        if what == "round_committed":
            check("event", {"events.jsonl", "files.jsonl", "answers.jsonl"})
        event(store, what, **facts)

    run = tmp_path / "scripted"
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Store, "event", before_event)
    monkeypatch.setattr(round_module, "sealed", before_manifest)
    monkeypatch.setattr(round_module, "remove_working_files", working_files_stay)
    carry(tmp_path, Model(), small(rounds=1), Trainer())
    assert missing == [] and steps == ["manifest", "event"] * 2
