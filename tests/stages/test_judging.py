"""A grader, step checker, strategy reader or corrupter that raises costs its sample a value.

And never ends a run.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ouroloop.evals.errors import DataError
from ouroloop.evals.tasks import Grade, Problem, StepCheck
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.config import FilterConfig
from ouroloop.loop.errors import RunStateError
from ouroloop.loop.folder.store import read_rows, write_rows
from ouroloop.loop.folder.tables import schema_of, write_table
from ouroloop.loop.records import Completion, Sample
from ouroloop.loop.rows import AuditRow, ProbeRow, Verdict
from ouroloop.loop.stages import audit, filters
from ouroloop.loop.stages.case import examine
from ouroloop.loop.stages.judging import Value, judge_text
from ouroloop.loop.stages.naming import Learned
from ouroloop.loop.views.progress import rounds_table
from ouroloop.loop.views.reader import read_run

sys.path[:0] = [str(Path(__file__).parents[1] / "loop"), str(Path(__file__).parents[1])]

PROBLEM = Problem("p", "What is 2*3?", "6", solution="2*3=6\n#### 6")
HOSTILE = "2*3=" + "9" * 5_000


@dataclass(frozen=True)
class FussyTask(ArithmeticTask):
    """The world, with readers that raise on some texts.

    Raising: names of its methods; on: what such a text holds.
    """

    raising: frozenset[str] = frozenset({"grade", "check_steps", "strategy", "corrupt"})
    on: str = ""
    error: Exception = field(default_factory=lambda: ValueError("as asked"))

    def _may(self, method: str, text: str) -> None:
        if method in self.raising and self.on in text:
            raise self.error

    def grade(self, problem: Problem, text: str) -> Grade:
        self._may("grade", text)
        return Grade(True, "6", "exact") if problem is PROBLEM else super().grade(problem, text)

    def check_steps(self, problem: Problem, text: str) -> StepCheck:
        self._may("check_steps", text)
        return StepCheck(True, 1) if problem is PROBLEM else super().check_steps(problem, text)

    def strategy(self, problem: Problem, text: str) -> str | None:
        self._may("strategy", text)
        return "by heart" if problem is PROBLEM else super().strategy(problem, text)

    def corrupt(
        self, problem: Problem, text: str, seed: int, keep_answer: bool = False
    ) -> str | None:
        self._may("corrupt", text)
        return super().corrupt(problem, text, seed, keep_answer)


def sample(text: str = HOSTILE) -> Sample:
    return Sample("s", "p", 0, 1.0, Completion("r", (1,), (2, 3), (-0.1, -0.1), text, "stop", "v"))


def verdict(task: FussyTask, **config):
    cases = examine([sample()], {"p": PROBLEM}, task, task.strategy)
    (found,) = filters.judge(cases, FilterConfig(**config))
    return found


@pytest.mark.parametrize(
    "error", [ValueError("x"), RecursionError(), MemoryError(), TypeError("x")]
)
def test_a_sample_that_no_reader_can_read_is_unscored(error):
    task = FussyTask(error=error)
    read = judge_text(PROBLEM, HOSTILE, task, task.strategy)
    assert (read.grade.correct, read.grade.answer, read.valid, read.strategy) == (
        None,
        None,
        None,
        None,
    )
    assert set(read.unreadable) == set(Value)
    kind = type(error).__name__
    assert read.labels == [
        f"{kind} in arithmetic grader",
        f"{kind} in arithmetic step checker",
        f"{kind} in strategy reader",
    ]


def test_a_plugin_that_returns_the_wrong_thing_is_unreadable_as_well():
    class Wrong(FussyTask):
        def grade(self, problem, text):
            return True

        def check_steps(self, problem, text):
            return None

    read = judge_text(PROBLEM, "2*3=6", Wrong(raising=frozenset()), lambda *_: 7)
    assert [why.error for why in read.unreadable.values()] == [
        "TypeError",
        "AttributeError",
        "TypeError",
    ]


def test_what_no_text_is_the_cause_of_still_ends_the_run():
    with pytest.raises(DataError):
        judge_text(
            PROBLEM,
            "2*3=6",
            FussyTask(error=DataError("an extra is not installed")),
            lambda *_: None,
        )
    with pytest.raises(RunStateError):
        judge_text(PROBLEM, "2*3=6", FussyTask(raising=frozenset()), Learned())
    with pytest.raises(KeyboardInterrupt):
        judge_text(PROBLEM, "2*3=6", FussyTask(error=KeyboardInterrupt()), lambda *_: None)


OFF = {"format": False, "gold": False, "steps": False, "critic": False, "duplicates": "none"}


@pytest.mark.parametrize(
    ("raising", "filtering"),
    [
        ("grade", {"gold": True}),
        ("grade", {"format": True}),
        ("grade", {"agreement": 0.5}),
        ("grade", {"per_answer": 0.5}),
        ("check_steps", {"steps": True}),
        ("strategy", {"per_strategy": 0.5}),
    ],
)
def test_a_filter_keeps_no_sample_whose_value_it_needed_and_could_not_have(raising, filtering):
    found = verdict(FussyTask(raising=frozenset({raising})), **{**OFF, **filtering})
    assert not found.kept
    assert "unreadable" in found.reasons
    assert len(found.unreadable) == 1
    assert (
        "unreadable" not in verdict(FussyTask(raising=frozenset()), **{**OFF, **filtering}).reasons
    )


def test_a_value_that_no_filter_needs_costs_no_sample():
    found = verdict(
        FussyTask(raising=frozenset({"strategy"})), **{**OFF, "gold": True, "steps": True}
    )
    assert found.kept and found.strategy is None
    assert found.unreadable == ("ValueError in strategy reader",)


def test_a_planted_item_that_cannot_be_made_is_written_down_and_not_judged():
    task = FussyTask(raising=frozenset({"corrupt"}))
    items = audit.plant([PROBLEM], task, FilterConfig(steps=True))
    assert [(item.kind, item.unreadable is None) for item in items] == [
        ("right", True),
        ("wrong_answer", False),
        ("wrong_step", False),
    ]


def test_a_lone_surrogate_of_an_engine_reaches_no_table(tmp_path):
    task = FussyTask(raising=frozenset())
    hostile = sample("2*3=6 \ud800")
    cases = examine([hostile], {"p": PROBLEM}, task, task.strategy)
    verdicts = filters.judge(cases, FilterConfig())
    write_table(tmp_path / "verdicts.parquet", verdicts, Verdict)
    assert read_rows(tmp_path / "verdicts.parquet")[0]["text"] == "2*3=6 \ufffd"


@pytest.fixture
def fussy_run(tmp_path, monkeypatch):
    """A run whose readers raise on about a tenth of all texts, and what it left behind."""
    import scripted_world

    prepare = scripted_world.prepare
    task = FussyTask(on="answer 1")

    def prepare_fussy(recipe):
        return replace(prepare(recipe), task=task, strategy=task.strategy)

    monkeypatch.setattr(scripted_world, "prepare", prepare_fussy)
    settings = scripted_world.recipe(rounds=1)
    _, path = scripted_world.carry(tmp_path, scripted_world.Model(), settings)
    return path


@pytest.mark.slow
def test_a_run_whose_readers_raise_goes_on_and_says_how_many_samples_it_could_not_read(fussy_run):
    verdicts = read_rows(fussy_run / "rounds/001/verdicts.parquet")
    failed = [row for row in verdicts if row["unreadable"]]
    assert 0 < len(failed) < len(verdicts)
    assert all(("answer 1" in row["text"]) == bool(row["unreadable"]) for row in verdicts)
    assert all(
        row["correct"] is None
        and row["valid"] is None
        and row["strategy"] is None
        and not row["kept"]
        for row in failed
    )
    probed = [row for row in read_rows(fussy_run / "rounds/001/probe.parquet") if row["unreadable"]]
    assert probed and all(row["correct"] is None for row in probed)
    planted = [
        row for row in read_rows(fussy_run / "rounds/001/audit.parquet") if row["unreadable"]
    ]
    assert planted
    events = [json.loads(line) for line in (fussy_run / "events.jsonl").read_text().splitlines()]
    counted = {(e["round"], e["what"]): e for e in events if e["event"] == "unreadable"}
    assert counted[1, "samples"]["unreadable"] == len(failed)
    assert counted[1, "samples"]["of"] == len(verdicts)
    assert counted[1, "samples"]["why"]["ValueError in arithmetic grader"] == len(failed)
    assert (0, "probe samples") in counted and (0, "planted items") in counted
    text = rounds_table(read_run(fussy_run))
    assert (
        f"round 1: {len(failed)} of {len(verdicts)} samples unreadable: {len(failed)} ValueError in"
        " arithmetic grader" in text
    )


@pytest.mark.slow
def test_a_run_of_an_earlier_version_has_no_such_column_and_says_nothing(fussy_run):
    from scripted_world import recommit

    for name, record in (("verdicts", Verdict), ("probe", ProbeRow), ("audit", AuditRow)):
        path = fussy_run / f"rounds/001/{name}.parquet"
        schema = schema_of(record)
        write_rows(path, read_rows(path), schema.remove(schema.get_field_index("unreadable")))
    recommit(fussy_run, 1)
    assert "round 1: " not in "\n".join(
        line for line in rounds_table(read_run(fussy_run)).splitlines() if "unreadable" in line
    )


@pytest.mark.slow
@pytest.mark.parametrize("canonicaliser", ["dataflow", "plan", "templates"])
def test_a_model_that_writes_hostile_texts_is_carried_through_every_stage_and_view(
    tmp_path, canonicaliser
):
    """Nothing is made to raise here.

    Over-long numbers, half surrogate pairs, control characters and the rest of the corpus.
    """
    from hostile_texts import BLOCKS
    from scripted_world import Model, carry, recipe

    from ouroloop.loop.views.report import write_report

    class Hostile(Model):
        def answer(self, request):
            usual = super().answer(request)
            blocks = ["2*3=" + "9" * 5_000, *BLOCKS.values()]
            return blocks[request.seed % len(blocks)] if request.seed % 3 == 0 else usual

    sampling = {"problems_per_round": 60, "samples_per_problem": 4, "max_tokens": 12_000}
    settings = recipe(
        rounds=1,
        sampling=sampling,
        monitors={"canonicaliser": canonicaliser},
        filters={"duplicates": "calculations"},
    )
    _, path = carry(tmp_path, Hostile(), settings)
    assert sum("999999" in row["text"] for row in read_rows(path / "rounds/001/verdicts.parquet"))
    assert any("\ufffd" in row["text"] for row in read_rows(path / "rounds/001/verdicts.parquet"))
    run = read_run(path)
    assert "unreadable" not in rounds_table(run)
    page = write_report([path], tmp_path / "report.html")
    assert settings.name in page.read_text(encoding="utf-8")
