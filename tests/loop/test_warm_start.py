"""A run's warm start: supervised fine-tuning on demonstrations before round 0."""

import json

import pytest
from scripted_world import TASK, Model, carry, no_training, small

from ouroloop.evals.errors import DataError as FileError
from ouroloop.evals.problem_files import read_demonstrations
from ouroloop.loop.errors import DataError, RecipeError, TrainingError
from ouroloop.loop.folder.store import read_rows
from ouroloop.loop.setup import prepare
from ouroloop.loop.views.reader import read_run

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

ONE_ROUND = {"rounds": 1, "refine": {"critique": False, "revisions": 0}}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("OUROLOOP_CACHE", str(folder))
    return folder


@pytest.fixture
def demonstrations(tmp_path):
    """Two solutions of each of three questions, and a solution of a held-out question."""
    items = [*TASK.problems("train")[:3], TASK.problems("heldout")[0]]
    rows = [
        {"question": p.question, "solution": text}
        for p in items
        for text in (p.solution or "answer 1", "answer 2")
    ]
    path = tmp_path / "demonstrations.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Trainer:
    """Trains nothing, and remembers what it was asked."""

    def __init__(self):
        self.jobs = []

    def __call__(self, job, folder, report):
        self.jobs.append(job)
        facts = no_training(job, folder, report)
        (job.output / "weights").write_text(str(len(self.jobs)))
        return facts


def settings(path=None, **warm):
    return small(**ONE_ROUND, warm_start={"path": str(path) if path else None, **warm})


def test_every_round_starts_from_what_the_demonstrations_made(tmp_path, demonstrations):
    trainer, model = Trainer(), Model()
    chosen = small(**ONE_ROUND, warm_start={"path": str(demonstrations), "epochs": 2})
    _, path = carry(tmp_path / "runs", model, chosen, trainer)
    warm = path / "warm_start"
    assert [job.output.parent for job in trainer.jobs] == [warm, path / "rounds" / "001"]
    assert trainer.jobs[0].settings["num_train_epochs"] == 2
    assert "num_train_epochs" not in trainer.jobs[1].settings
    assert trainer.jobs[1].init == warm / "checkpoint"
    assert model.engine.loaded[:2] == [prepare(settings()).base, warm / "checkpoint"]
    assert read_run(path).checkpoint(0) == warm / "checkpoint"


def test_several_solutions_of_a_question_are_learnt_and_no_held_out_one(tmp_path, demonstrations):
    _, path = carry(tmp_path / "runs", Model(), settings(demonstrations), Trainer())
    examples = read_rows(path / "warm_start" / "examples.parquet")
    assert len(examples) == 6
    held_out = TASK.problems("heldout")[0].question
    assert not any(held_out in bytes(e["prompt_token_ids"]).decode() for e in examples)


@pytest.mark.slow
def test_without_a_file_the_tasks_own_solutions_are_learnt():
    setting = prepare(settings(examples=17))
    assert len(setting.warm_start) == 17 and all(p.solution for p in setting.warm_start)
    scored = {p.id for p in TASK.problems("reserve")} - {p.id for p in setting.demonstrations}
    everything = {p.id for p in prepare(settings()).warm_start}
    assert scored and not scored & everything, "the scored texts are never trained on"
    assert setting.warm_start == prepare(settings(examples=17)).warm_start


def test_a_second_run_takes_the_result_and_another_setting_does_not(tmp_path, demonstrations):
    first, second, other = Trainer(), Trainer(), Trainer()
    _, one = carry(tmp_path / "a", Model(), settings(demonstrations), first)
    _, two = carry(tmp_path / "b", Model(), settings(demonstrations), second)
    carry(tmp_path / "c", Model(), settings(demonstrations, sft={"learning_rate": 1e-3}), other)
    assert [len(t.jobs) for t in (first, second, other)] == [2, 1, 2]
    weights = [run / "warm_start" / "checkpoint" / "weights" for run in (one, two)]
    assert weights[0].read_text() == weights[1].read_text()
    events = [json.loads(line) for line in (two / "events.jsonl").read_text().splitlines()]
    assert [e["from_cache"] for e in events if e["event"] == "warm_started"] == [True]


def test_a_run_that_was_cut_off_in_its_warm_start_goes_on(tmp_path, demonstrations):
    def dies(job, folder, report):
        raise TrainingError("killed")

    chosen = settings(demonstrations)
    with pytest.raises(TrainingError):
        carry(tmp_path / "runs", Model(), chosen, dies)
    trainer = Trainer()
    carry(tmp_path / "runs", Model(), chosen, trainer)
    assert len(trainer.jobs) == 2
    again = Trainer()
    carry(tmp_path / "runs", Model(), chosen, again)
    assert not again.jobs


def test_a_file_without_usable_demonstrations_is_refused_before_anything_is_made(tmp_path):
    path = tmp_path / "d.jsonl"
    held_out = TASK.problems("heldout")[0].question
    path.write_text(json.dumps({"question": held_out, "solution": "answer 1"}) + "\n")
    with pytest.raises(DataError, match="no demonstrations, 1 solutions before held-out"):
        prepare(settings(path))
    path.write_text('{"question": "2+2?"}\n')
    with pytest.raises(FileError, match=r"d\.jsonl:1: no field 'solution'.*expected"):
        read_demonstrations(path)
    with pytest.raises(DataError, match="no such file"):
        prepare(settings(tmp_path / "none.jsonl"))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("learning_rate", "5e-5", "warm_start: sft.learning_rate: got '5e-5'; expected a number"),
        ("learning", 1, "warm_start: unknown key 'sft.learning'"),
    ],
)
def test_wrong_settings_of_its_training_are_refused_before_anything_is_made(key, value, says):
    """Where the rounds learn from pairs too: its own training is by examples."""
    for objective in ("sft", "dpo"):
        with pytest.raises(RecipeError) as caught:
            prepare(small(warm_start={"sft": {key: value}}, objective=objective))
        assert str(caught.value).startswith(says)


def test_a_warm_start_that_explodes_ends_the_run_with_its_cause_and_is_not_kept(
    tmp_path, demonstrations, cache
):
    def trainer(job, folder, report):
        facts = {**no_training(job, folder, report), "status": "rejected", "reason": "nan at 3"}
        (folder / "train.json").write_text(json.dumps(facts))
        return facts

    with pytest.raises(TrainingError, match=r"warm start was rejected: nan at 3\. Lower"):
        carry(tmp_path / "runs", Model(), settings(demonstrations), trainer)
    assert not list(cache.rglob("train.json"))
    # Resumed, it is trained again.
    second = Trainer()
    carry(tmp_path / "runs", Model(), settings(demonstrations), second)
    assert second.jobs[0].output.parent.name == "warm_start"
