"""A round owns its files: read once, made when missing, never touched once it is committed."""

import asyncio
import re
from dataclasses import fields
from math import nan
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from scripted_world import Model, carry, no_training, small, uncommit

from ouroloop.loop.controller import Campaign
from ouroloop.loop.errors import RunStateError
from ouroloop.loop.folder.integrity import MANIFEST
from ouroloop.loop.folder.ledger import JOURNAL, LEDGER
from ouroloop.loop.folder.store import Store, read_json, sha256_of
from ouroloop.loop.round import Json, JsonList, Round, Table
from ouroloop.loop.rows import Example, ProbeRow, RoundPlan, Training
from ouroloop.loop.setup import prepare
from ouroloop.monitors.decision.records import Decision, TierEvidence
from ouroloop.monitors.names import Action, Tier

PLAN = RoundPlan(1, 0, 0, (1.0,), 0.1, None, False, 10)
EXAMPLE = Example("p", (1,), (2,), "text", "kept", 1)
README = (Path(__file__).parents[2] / "runs" / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def reads(monkeypatch):
    """The Parquet files that were read."""
    found = []
    plain = pq.read_table

    def counted(path, *args, **kwargs):
        found.append(Path(path))
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(pq, "read_table", counted)
    return found


def test_what_is_written_is_not_read_back_and_what_is_there_is_read_once(tmp_path, reads):
    made = Round.of(tmp_path, 1)
    assert made.lacks(Round.examples)
    made.examples = [EXAMPLE]
    assert not made.lacks(Round.examples) and made.examples == (EXAMPLE,) and reads == []
    again = Round.of(tmp_path, 1)
    assert again.examples == again.examples == (EXAMPLE,)
    assert reads == [tmp_path / "rounds/001/examples.parquet"]


def test_a_table_that_is_not_there_is_empty_and_a_record_is_missed_with_the_remedy(tmp_path):
    made = Round.of(tmp_path, 1)
    assert made.texts == () and made.readings == () and made.view.texts is None
    assert not made.has(Round.plan)
    with pytest.raises(
        RunStateError, match=r"001/plan\.json: missing; expected a RoundPlan.*resum"
    ):
        _ = made.plan


def test_a_record_is_what_a_resumed_run_would_read(tmp_path):
    """NaN cannot be written as JSON: whoever resumes sees null, so the run itself must too."""
    made = Round.of(tmp_path, 1)
    evidence = TierEvidence(nan, log_limit=1.0, alpha=0.05, driver=None, since=1, by_quantity={})
    made.decision = Decision(1, Action.CONTINUE, ("why",), evidence={Tier.HALT: evidence})
    assert repr(made.decision) == repr(Round.of(tmp_path, 1).decision)


def test_a_committed_round_lacks_nothing_and_never_gets_a_file_more(tmp_path):
    made = Round.of(tmp_path, 1)
    made.plan = PLAN
    (made.folder / "checkpoint").mkdir()
    (made.folder / "checkpoint" / "weights").write_bytes(b"1")
    made.commit()
    for found in (made, Round.of(tmp_path, 1)):
        assert found.is_committed and not any(found.lacks(item) for item in Round.items())
        with pytest.raises(RunStateError, match=r"texts\.parquet: the round is committed"):
            found.texts = []
    manifest = read_json(made.folder / MANIFEST)
    assert manifest["round"] == 1 and set(manifest["files"]) == {"plan.json", "checkpoint/weights"}
    assert manifest["files"]["plan.json"]["sha256"] == sha256_of(made.folder / "plan.json")


def test_what_was_released_is_read_again_when_it_is_asked_for(tmp_path, reads):
    made = Round.of(tmp_path, 1)
    row = ProbeRow("p", "f", "typical", "sample", 1.0, None, None, "7", None, 3.0, 0.0, "7")
    made.probe, made.critics, made.examples = [row], [], [EXAMPLE]
    before = made.view
    assert made.view is before, "measured: the view is kept"
    made.release()
    assert reads == []
    assert made.view.probe.answer.tolist() == ["7"]
    assert {path.name for path in reads} == {"probe.parquet", "critics.parquet"}
    assert made.examples == (EXAMPLE,)


def test_the_view_of_a_round_that_is_still_measured_is_not_kept(tmp_path):
    made = Round.of(tmp_path, 1)
    assert len(made.view.probe) == 0
    row = ProbeRow("p", "f", "typical", "sample", 1.0, None, None, "7", None, 3.0, 0.0, "7")
    made.probe, made.critics = [row], []
    assert len(made.view.probe) == 1


def test_training_facts_are_read_whatever_else_the_trainer_wrote(tmp_path):
    made = Round.of(tmp_path, 1)
    (made.folder / "train.json").write_text(
        '{"status": "trained", "checkpoint": "rounds/001/checkpoint", "num_examples": 7,'
        ' "seconds": 1.5, "loss": [], "sft_config": {}}'
    )
    facts = Training(
        status="trained", checkpoint="rounds/001/checkpoint", num_examples=7, seconds=1.5
    )
    assert made.training == facts


@pytest.mark.slow
def test_a_scripted_run_reads_no_table_that_it_made_and_a_resumed_one_each_at_most_once(
    tmp_path, reads
):
    """Four rounds took 153 reads when every stage opened its own files."""
    settings = small(rounds=2)
    _, path = carry(tmp_path, Model(), settings)
    assert reads == []
    uncommit(path, 2, "decision.json")
    carry(tmp_path, Model(), settings)
    assert 0 < len(reads) == len(set(reads))


@pytest.mark.slow
def test_a_long_run_keeps_the_tables_of_baselines_and_of_the_last_two_rounds_in_memory(tmp_path):
    settings = small(rounds=3, monitors={"baselines": [0]})
    store = Store.create(tmp_path, settings, "none")
    campaign = Campaign(
        store, prepare(settings), Model().engine, lambda *what: None, trainer=no_training
    )
    asyncio.run(campaign.run())
    store.close()
    assert ["probe.parquet" in made.memory for made in campaign.rounds] == [True, False, True, True]
    assert ["examples.parquet" in made.memory for made in campaign.rounds] == [
        False,
        False,
        True,
        True,
    ]


def records():
    return [item for item in Round.items() if isinstance(item, Table | Json | JsonList)]


def test_every_file_of_a_round_is_in_the_readme_with_all_its_columns():
    listed = dict(re.findall(r"^\| ([\w.]+) \| (.*) \|$", README, re.MULTILINE))
    for item in records():
        assert re.search(rf"^    {re.escape(item.file)} ", README, re.MULTILINE), item.file
        if item.record is dict:
            continue
        named = set(re.findall(r"`(\w+)`", listed[item.file]))
        # A reading is written with its estimand's id.
        written = {"id" if f.name == "estimand" else f.name for f in fields(item.record)}
        missing = written - named
        assert missing == set(), f"{item.file}: runs/README.md does not say what {missing} is"
    for name in (JOURNAL, LEDGER, MANIFEST):
        assert re.search(rf"^    {re.escape(name)} ", README, re.MULTILINE), name


@pytest.mark.slow
def test_a_run_leaves_no_file_that_the_readme_does_not_list(finished_run):
    _, path = finished_run
    left = {file.name for file in path.rglob("*") if file.is_file()}
    assert len(left) > 15
    assert {name for name in left if name not in README} == set()
