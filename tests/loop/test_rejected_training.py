"""A round whose training is rejected is committed, and the run goes on from the last good model."""

import json

import pytest
from scripted_world import Model, carry, no_training, small

from ouroloop.loop.folder.store import write_json
from ouroloop.loop.round import Round
from ouroloop.monitors.names import Action

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

REASON = "the loss was nan at step 3 of 9 (learning rate 5)"


def rejecting(*rounds):
    """A trainer that rejects these rounds, and the jobs that it is given."""
    jobs = {}

    def trainer(job, folder, report):
        jobs[int(folder.name)] = job
        if int(folder.name) not in rounds:
            return no_training(job, folder, report)
        facts = {
            "status": "rejected",
            "reason": REASON,
            "checkpoint": str(job.init),
            "num_examples": 1,
            "seconds": 0.0,
            "loss": [],
        }
        write_json(folder / "train.json", facts)
        return facts

    return trainer, jobs


def calm(**changes):
    """Nothing but the training decides: the guard's tolerances are wide."""
    return small(monitors={"guard": True}, **changes)


def events(path, kind):
    lines = (path / "events.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e["event"] == kind]


def test_after_one_rejection_the_next_round_starts_from_the_last_good_model(tmp_path):
    trainer, jobs = rejecting(2)
    decision, path = carry(tmp_path, Model(lambda n: 0.6), calm(), trainer)
    rounds = [Round.of(path, n) for n in range(4)]
    assert all(r.is_committed for r in rounds)
    assert decision.action is not Action.HALT
    first = path / "rounds" / "001" / "checkpoint"
    assert jobs[2].init == jobs[3].init == first
    assert not (path / "rounds" / "002" / "checkpoint").exists()
    assert rounds[2].training.status == "rejected"
    assert rounds[2].decision.reasons[0] == (
        f"the training was rejected: {REASON}; the next round starts again"
    )
    assert [e["reason"] for e in events(path, "training_rejected")] == [REASON]


def test_two_rejections_in_a_row_halt_the_run(tmp_path):
    trainer, jobs = rejecting(1, 2)
    decision, path = carry(tmp_path, Model(lambda n: 0.6), calm(), trainer)
    assert (decision.round, decision.action) == (2, Action.HALT)
    assert set(jobs) == {1, 2}
    assert REASON in decision.reasons[0] and "sft.learning_rate" in decision.reasons[0]
    assert Round.of(path, 2).is_committed


@pytest.mark.slow
def test_two_rejections_that_are_apart_do_not(tmp_path):
    trainer, jobs = rejecting(1, 3)
    decision, _ = carry(tmp_path, Model(lambda n: 0.6), calm(), trainer)
    assert decision.action is not Action.HALT
    assert set(jobs) == {1, 2, 3}


def test_a_resumed_run_does_not_train_a_rejected_round_again(tmp_path):
    trainer, jobs = rejecting(1)
    _, path = carry(tmp_path, Model(lambda n: 0.6), calm(), trainer)
    manifest = (path / "rounds" / "001" / "MANIFEST.json").read_bytes()
    jobs.clear()
    carry(tmp_path, Model(lambda n: 0.6), calm(), trainer)
    assert not jobs
    assert (path / "rounds" / "001" / "MANIFEST.json").read_bytes() == manifest
